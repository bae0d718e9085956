//! The initramfs images that guests run from: cpio archives, made without root.
//!
//! The kernel unpacks concatenated archives one after the other, so a guest's is the suite's own (large, cached) followed by
//! one with the agent. The tools under test are on a disk, which guests mount once they are up.

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A cpio archive in the making.
pub(crate) struct Image {
    file: BufWriter<File>,
    folders: BTreeSet<PathBuf>,
    /// Links in the archive's root and their targets: no file goes below such a name, which would replace the link.
    links: BTreeMap<PathBuf, PathBuf>,
    inode: u32,
}

impl Image {
    /// Begins an archive at `path`.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            file: BufWriter::new(file),
            folders: BTreeSet::new(),
            links: BTreeMap::new(),
            inode: 0,
        })
    }

    fn entry(&mut self, name: &Path, kind: ModeFileType, permissions: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let builder = Builder::new(&name.to_string_lossy())
            .ino(self.inode)
            .nlink(1)
            .mode(permissions)
            .set_mode_file_type(kind);
        let size = u32::try_from(content.len()).context("too large for a cpio archive")?;
        let mut writer = builder.write(&mut self.file, size);
        std::io::copy(&mut Cursor::new(content), &mut writer)?;
        writer.finish()?;
        Ok(())
    }

    /// Returns where a path is once the links of the archive's root are followed.
    fn place(&self, path: &Path) -> PathBuf {
        let mut parts = path.components();
        match parts.next().and_then(|first| self.links.get(Path::new(&first))) {
            Some(target) if parts.clone().next().is_some() => target.join(parts.as_path()),
            _ => path.to_path_buf(),
        }
    }

    /// Adds a folder and those above it, once.
    ///
    /// # Errors
    ///
    /// If the archive cannot be written.
    pub(crate) fn folder(&mut self, path: &Path) -> Result<()> {
        let path = self.place(path);
        let above: Vec<PathBuf> = path
            .ancestors()
            .map(Path::to_path_buf)
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        for folder in above.into_iter().rev() {
            if self.folders.insert(folder.clone()) {
                self.entry(&folder, ModeFileType::Directory, 0o755, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a link.
    ///
    /// # Errors
    ///
    /// If the archive cannot be written.
    pub(crate) fn link(&mut self, path: &Path, to: &Path) -> Result<()> {
        let path = self.place(path);
        let folder = path.parent().unwrap_or(Path::new(""));
        self.folder(folder)?;
        if folder.as_os_str().is_empty() && to.is_relative() {
            self.links.insert(path.clone(), to.to_path_buf());
        }
        self.entry(&path, ModeFileType::Symlink, 0o777, to.to_string_lossy().as_bytes())
    }

    /// Adds the file `source` as `path`; a link as a link.
    ///
    /// # Errors
    ///
    /// If it cannot be read or the archive cannot be written.
    pub(crate) fn file(&mut self, path: &Path, source: &Path) -> Result<()> {
        let what = || format!("adding {} to the image", source.display());
        let metadata = fs::symlink_metadata(source).with_context(what)?;
        if metadata.is_symlink() {
            return self.link(path, &fs::read_link(source)?);
        }
        let path = self.place(path);
        self.folder(path.parent().unwrap_or(Path::new("")))?;
        let content = fs::read(source).with_context(what)?;
        self.entry(
            &path,
            ModeFileType::Regular,
            metadata.permissions().mode() & 0o777,
            &content,
        )
    }

    /// Adds `path` of `root`, and if it is a link also its target, each under its own name.
    ///
    /// # Errors
    ///
    /// If it cannot be read or the archive cannot be written.
    pub(crate) fn file_of(&mut self, root: &Path, path: &Path) -> Result<()> {
        let mut path = path.to_path_buf();
        loop {
            let source = root.join(&path);
            self.file(&path, &source)?;
            if !fs::symlink_metadata(&source)?.is_symlink() {
                return Ok(());
            }
            let target = fs::read_link(&source)?;
            path = match target.strip_prefix("/") {
                Ok(absolute) => absolute.to_path_buf(),
                Err(_) => normal(&path.parent().unwrap_or(Path::new("")).join(target)),
            };
        }
    }

    /// Adds all files below `folder` of `root`.
    ///
    /// # Errors
    ///
    /// If one cannot be read or the archive cannot be written.
    pub(crate) fn tree(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let mut entries: Vec<_> = fs::read_dir(root.join(folder))?.collect::<std::io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.tree(root, &path)?;
            } else {
                self.file(&path, &entry.path())?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        cpio::newc::trailer(&mut self.file)?;
        // The next archive of a concatenation starts on a multiple of four bytes.
        self.file.write_all(&[0; 512])?;
        self.file.flush()?;
        Ok(())
    }
}

/// Returns a relative path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                normal.pop();
            }
            std::path::Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_holds_what_was_put_in() {
        let folder = tempfile::tempdir().unwrap();
        let (root, archive) = (folder.path().join("root"), folder.path().join("image"));
        fs::create_dir_all(root.join("usr/lib/x")).unwrap();
        fs::write(root.join("usr/lib/x/real.so.1"), b"library").unwrap();
        std::os::unix::fs::symlink("x/real.so.1", root.join("usr/lib/link.so")).unwrap();
        let mut image = Image::create(&archive).unwrap();
        image.file_of(&root, Path::new("usr/lib/link.so")).unwrap();
        image.link(Path::new("lib"), Path::new("usr/lib")).unwrap();
        image
            .file(Path::new("lib/y/late"), &root.join("usr/lib/x/real.so.1"))
            .unwrap();
        image.finish().unwrap();

        let mut bytes = Cursor::new(fs::read(&archive).unwrap());
        let mut found = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(bytes).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let name = reader.entry().name().to_owned();
            let mut content = Vec::new();
            let mode = reader.entry().mode();
            bytes = reader.to_writer(&mut content).unwrap();
            found.push((name, mode & 0o170_000, String::from_utf8(content).unwrap()));
        }
        let expected = [
            ("usr", 0o040_000, ""),
            ("usr/lib", 0o040_000, ""),
            ("usr/lib/link.so", 0o120_000, "x/real.so.1"),
            ("usr/lib/x", 0o040_000, ""),
            ("usr/lib/x/real.so.1", 0o100_000, "library"),
            ("lib", 0o120_000, "usr/lib"),
            ("usr/lib/y", 0o040_000, ""),
            ("usr/lib/y/late", 0o100_000, "library"),
        ]
        .map(|(name, mode, content)| (name.to_owned(), mode, content.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn paths_lose_their_dots() {
        assert_eq!(normal(Path::new("usr/lib/../lib64/./x")), Path::new("usr/lib64/x"));
    }
}
