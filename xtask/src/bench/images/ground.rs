//! Where images are, and our tools.

use crate::command;
use crate::tools::{self, Tools};
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of our tools and of images of some sizes. Dropping it removes the folder.
pub(super) struct Ground {
    folder: PathBuf,
    /// The images, by size.
    pub(super) images: Vec<Images>,
}

impl Ground {
    /// Makes images of these sizes, each in words of our tools and in bytes.
    pub(super) fn new(tools: &Tools, sizes: &[(&'static str, u64)]) -> Result<Self> {
        let folder = workspace::target().join("bench");
        workspace::discard(&folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut ground = Self {
            folder,
            images: Vec::new(),
        };
        // Installed as the others are. A file that the linker has just written piece by piece is in the page cache in single pages,
        // which takes a fifth more time to start.
        for program in tools::PROGRAMS {
            let built = tools.path(program);
            fs::copy(&built, ground.folder.join(program))
                .with_context(|| format!("cannot copy {}", built.display()))?;
        }
        for (size, bytes) in sizes {
            let images = Images::new(&ground.folder, size, *bytes)?;
            ground.images.push(images);
        }
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} is left: {error}", self.folder.display());
        }
    }
}

/// Images of one size.
pub(super) struct Images {
    /// Their size in words of our tools.
    pub(super) size: &'static str,
    bytes: u64,
    tools: PathBuf,
    folder: PathBuf,
}

impl Images {
    /// Makes one that is prepared, and one that has an information block of libnvdimm's.
    fn new(ground: &Path, size: &'static str, bytes: u64) -> Result<Self> {
        let images = Self {
            size,
            bytes,
            tools: ground.to_owned(),
            folder: ground.join(size),
        };
        fs::create_dir(&images.folder)?;
        let mut init = Command::new(images.tool("xen-pmem-provision"));
        command::run(
            init.arg("init")
                .arg(images.path("prepared"))
                .args(["--size", size, "--quiet"]),
        )?;
        let block = images.path("infoblock");
        fs::write(
            &block,
            command::output(Command::new("ndctl").args([
                "write-infoblock",
                "--stdout",
                "--mode=fsdax",
                "--map=mem",
                &format!("--size={bytes}"),
            ]))?,
        )?;
        OpenOptions::new().write(true).open(block)?.set_len(bytes)?;
        Ok(images)
    }

    /// Returns where one of our tools is.
    pub(super) fn tool(&self, name: &str) -> PathBuf {
        self.tools.join(name)
    }

    /// Returns the path for the image of this name, or for the notes on a command on one.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes an image that has nothing.
    pub(super) fn blank(&self) -> Result<()> {
        let path = self.path("blank");
        if path.exists() {
            fs::remove_file(&path)?;
        }
        Ok(File::create(path)?.set_len(self.bytes)?)
    }
}
