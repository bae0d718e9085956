//! Reading sysfs: attributes whose absence is normal, and errors that name the file and what stood in it.
//!
//! Devices come and go while they are looked at: a file that is not there, or that its driver has no value for, is `None`, not
//! an error. What is an error is a value that cannot be read or understood.

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::{Errno, retry_on_intr};
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use xen_pmem_format::units::{Bytes, PhysAddr};

/// The most that the kernel gives for one attribute: a page (`sysfs_emit`, `fs/sysfs/file.c`).
const ATTRIBUTE_LIMIT: usize = 4096;

/// The bytes of directory entries that are read at once: some hundreds of devices.
const LISTING_CHUNK: usize = 16384;

/// Why something in sysfs could not be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system failed to read it.
    #[error("{} cannot be read: {source}{}", .path.display(), advice(.source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The content is not what the kernel writes there.
    #[error("{} contains {content:?}, which is not {expected}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        content: String,
        /// What was expected.
        expected: &'static str,
    },
    /// An attribute that must be there is not.
    #[error("{} is missing", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// Returns advice: the kernel shows physical addresses to root only.
fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        " (run as root)"
    } else {
        ""
    }
}

/// Returns whether an error says that the thing is gone or has no value, as opposed to that it cannot be read.
fn is_absence(error: &Errno) -> bool {
    // libnvdimm answers ENXIO for an attribute of a device without a driver, the core ENODEV for one that is being removed.
    let errors = [Errno::NXIO, Errno::NODEV, Errno::NOENT, Errno::NOTDIR];
    errors.contains(error)
}

/// The root of a sysfs tree: /sys, or a recorded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysfsRoot(PathBuf);

impl SysfsRoot {
    /// Returns the tree below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Returns the path itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the names on the nd bus, in order: regions, namespaces and what claims them; none if libnvdimm is not there.
    ///
    /// # Errors
    ///
    /// If the directory is there and cannot be read.
    pub fn nd_names(&self) -> Result<Vec<String>, Error> {
        let mut names = self.nd_list().entries()?;
        names.sort_unstable();
        Ok(names)
    }

    /// Returns the device called `name` on the nd bus; `None` if there is none. It may have gone since.
    pub fn nd_device(&self, name: &str) -> Option<Directory> {
        self.nd_list().linked(name)
    }

    /// Returns whether the kernel shows its types (`CONFIG_DEBUG_INFO_BTF`), as eBPF programs that run on every kernel need.
    pub fn has_btf(&self) -> bool {
        self.directory("kernel/btf").has("vmlinux")
    }

    /// Returns the directory at this path from the root. It may not exist.
    pub fn directory(&self, path: &str) -> Directory {
        Directory(self.0.join(path))
    }

    fn nd_list(&self) -> Directory {
        Directory(self.0.join("bus/nd/devices"))
    }

    /// Returns the block device called `name` in the kernel's list of block devices.
    pub fn block_device(&self, name: &str) -> Option<Directory> {
        Directory(self.0.join("class/block")).follow(name)
    }

    /// Returns the names of the kernel's block devices, partitions among them.
    ///
    /// # Errors
    ///
    /// If the list is there and cannot be read.
    pub fn block_devices(&self) -> Result<Vec<String>, Error> {
        Directory(self.0.join("class/block")).entries()
    }

    /// Returns the devices that a Xen backend serves to guests; none if the bus does not exist.
    pub fn xen_backends(&self) -> Vec<Directory> {
        let list = Directory(self.0.join("bus/xen-backend/devices"));
        let names = list.entries().unwrap_or_default();
        names.iter().filter_map(|name| list.follow(name)).collect()
    }

    /// Returns the block device with the device number of `node`, a block device's node. If there is no such device, the directory does
    /// not exist.
    pub fn block_device_of(&self, node: &Metadata) -> Directory {
        let number = node.rdev();
        let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
        let list = self.directory("dev/block");
        list.follow(&number).unwrap_or_else(|| list.child(&number))
    }

    /// Returns the block device with the number `major:minor`.
    pub fn block_device_numbered(&self, number: &str) -> Option<Directory> {
        Directory(self.0.join("dev/block")).follow(number)
    }
}

impl Default for SysfsRoot {
    fn default() -> Self {
        Self::new("/sys")
    }
}

impl fmt::Display for SysfsRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A device's directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Directory(PathBuf);

impl Directory {
    /// Returns the directory's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the device's name: the last part of its path.
    pub fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Returns whether the device is still there.
    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// Returns the directory that the device's directory lies in.
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_path_buf()))
    }

    /// Returns the directory called `name` in it. It may not exist.
    pub fn child(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// Returns whether there is anything called `name` in it.
    pub fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// Returns the directory that `name` is, or leads to; `None` if there is none.
    pub fn follow(&self, name: &str) -> Option<Self> {
        self.linked(name).filter(Self::exists)
    }

    /// Returns the path that `name` is, or that its link contains; `None` if the name does not exist.
    ///
    /// The text of a link is enough: the path of a sysfs link does not contain other links.
    fn linked(&self, name: &str) -> Option<Self> {
        let path = self.0.join(name);
        match rustix::fs::readlink(&path, Vec::with_capacity(256)) {
            Ok(text) => Some(Self(joined(&self.0, Path::new(text.to_str().ok()?)))),
            Err(Errno::INVAL) => Some(Self(path)),
            Err(_) => None,
        }
    }

    /// Returns the first directory below it with a name that `is_wanted`; `None` if there is none, or it is gone itself.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub fn first_directory(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Option<Self>, Error> {
        let mut found = None;
        self.each_entry(|name, kind| {
            if is_wanted(name) {
                found = match kind {
                    FileType::Directory => Some(self.child(name)),
                    FileType::Symlink | FileType::Unknown => {
                        self.follow(name).filter(|directory| is_wanted(directory.name()))
                    }
                    _ => None,
                };
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Returns one of the names in it; `None` if it is empty, is gone or cannot be read.
    pub fn first_name(&self) -> Option<String> {
        self.entries().ok()?.into_iter().next()
    }

    /// Returns the names in it that are text; empty if it is gone.
    pub(crate) fn entries(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        self.each_entry(|name, _| {
            names.push(name.to_owned());
            true
        })?;
        Ok(names)
    }

    /// Hands the names in it that are text to `take`, until that has enough.
    fn each_entry(&self, mut take: impl FnMut(&str, FileType) -> bool) -> Result<(), Error> {
        let mut list = || -> rustix::io::Result<()> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = retry_on_intr(|| rustix::fs::openat(CWD, &self.0, flags, Mode::empty()))?;
            let mut chunk = [MaybeUninit::uninit(); LISTING_CHUNK];
            let mut listing = RawDir::new(directory, &mut chunk);
            while let Some(entry) = listing.next() {
                let entry = entry?;
                match entry.file_name().to_str() {
                    Ok("." | "..") | Err(_) => {}
                    Ok(name) if take(name, entry.file_type()) => {}
                    Ok(_) => break,
                }
            }
            Ok(())
        };
        match list() {
            Err(error) if !is_absence(&error) => Err(Error::Io {
                path: self.0.clone(),
                source: error.into(),
            }),
            _ => Ok(()),
        }
    }

    /// Returns an attribute's text without the white space around it; `None` if there is none, or it is empty.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub fn text(&self, attribute: &str) -> Result<Option<String>, Error> {
        let path = self.0.join(attribute);
        let mut buffer = [MaybeUninit::uninit(); ATTRIBUTE_LIMIT];
        let mut read = || -> rustix::io::Result<String> {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = retry_on_intr(|| rustix::fs::openat(CWD, &path, flags, Mode::empty()))?;
            // The kernel gives an attribute whole, and is not interrupted in that.
            let (bytes, _) = rustix::io::read(&file, &mut buffer)?;
            Ok(String::from_utf8_lossy(bytes).trim().to_owned())
        };
        match read() {
            Ok(text) => Ok((!text.is_empty()).then_some(text)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(Error::Io {
                path,
                source: error.into(),
            }),
        }
    }

    /// Returns an attribute that holds a number: hexadecimal after `0x`, otherwise decimal.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read, or is not a number.
    pub fn number(&self, attribute: &str) -> Result<Option<u64>, Error> {
        let Some(content) = self.text(attribute)? else {
            return Ok(None);
        };
        match content.parse::<PhysAddr>() {
            Ok(PhysAddr(number)) => Ok(Some(number)),
            Err(_) => Err(self.malformed(attribute, content, "a number")),
        }
    }

    /// Returns the attribute `resource`: the physical address where a device starts.
    ///
    /// # Errors
    ///
    /// As [`number`](Self::number).
    pub fn resource(&self) -> Result<Option<PhysAddr>, Error> {
        Ok(self.number("resource")?.map(PhysAddr))
    }

    /// Returns the attribute `size`, in bytes.
    ///
    /// # Errors
    ///
    /// As [`number`](Self::number).
    pub fn size(&self) -> Result<Option<Bytes>, Error> {
        Ok(self.number("size")?.map(Bytes))
    }

    /// Returns the attribute `numa_node`; `None` also for a device that belongs to none (-1).
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read, or is not a number.
    pub fn numa_node(&self) -> Result<Option<i32>, Error> {
        let Some(content) = self.text("numa_node")? else {
            return Ok(None);
        };
        match content.parse::<i32>() {
            Ok(node) => Ok((node >= 0).then_some(node)),
            Err(_) => Err(self.malformed("numa_node", content, "a NUMA node")),
        }
    }

    /// Returns the error for an attribute that must be there and is not.
    pub fn missing(&self, attribute: &str) -> Error {
        Error::Missing {
            path: self.0.join(attribute),
        }
    }

    /// Returns the error for an attribute whose `content` is not `expected`.
    pub fn malformed(&self, attribute: &str, content: String, expected: &'static str) -> Error {
        Error::Malformed {
            path: self.0.join(attribute),
            content,
            expected,
        }
    }
}

/// Returns what the link with this text in `directory` leads to.
fn joined(directory: &Path, text: &Path) -> PathBuf {
    let mut path = directory.to_path_buf();
    for component in text.components() {
        match (component, path.components().next_back()) {
            (Component::ParentDir, Some(Component::Normal(_))) => _ = path.pop(),
            (Component::ParentDir, Some(Component::RootDir)) | (Component::CurDir, _) => {}
            // An absolute text starts anew.
            (component, _) => path.push(component),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_where_its_text_says() {
        for (directory, text, path) in [
            ("/sys/bus/nd/devices", "../../../devices/a/b", "/sys/devices/a/b"),
            ("tree/bus/nd/devices", "../../../devices/a/b", "tree/devices/a/b"),
            ("./bus/nd/devices", "../../../devices/a", "./devices/a"),
            ("bus/nd/devices", "../../../../elsewhere", "../elsewhere"),
            ("../sys/bus", "../../../x", "../../x"),
            ("/a", "../../../b", "/b"),
            ("/sys/bus/nd/devices", "/other/devices/./a", "/other/devices/a"),
        ] {
            assert_eq!(
                joined(Path::new(directory), Path::new(text)),
                Path::new(path),
                "{directory} {text}"
            );
        }
    }
}
