//! Where images are, and our tools.

use crate::command;
use crate::tools::{self, Tools};
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::Command;

/// A folder of images and of our tools, which goes with it.
pub(super) struct Ground {
    folder: PathBuf,
}

impl Ground {
    pub(super) fn new(tools: &Tools) -> Result<Self> {
        let folder = workspace::target().join("bench");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Installed as the others are. A file that the linker has just written piece by piece is in the page cache in single pages,
        // which takes a fifth more time to start.
        for program in tools::PROGRAMS {
            let built = tools.path(program);
            fs::copy(&built, folder.join(program)).with_context(|| format!("cannot copy {}", built.display()))?;
        }
        Ok(Self { folder })
    }

    /// Where an image or a tool is, or is to be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes images of a size: one that is prepared, and one that has an information block of libnvdimm's.
    pub(super) fn lay(&self, size: &str, bytes: u64) -> Result<()> {
        for name in ["prepared", "infoblock"] {
            self.remove(name)?;
        }
        let mut init = Command::new(self.path("xen-pmem-provision"));
        command::run(
            init.arg("init")
                .arg(self.path("prepared"))
                .args(["--size", size, "--quiet"]),
        )?;
        let block = self.path("infoblock");
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
        Ok(OpenOptions::new().write(true).open(block)?.set_len(bytes)?)
    }

    /// Makes an image of a size that has nothing.
    pub(super) fn blank(&self, bytes: u64) -> Result<()> {
        self.remove("blank")?;
        Ok(File::create(self.path("blank"))?.set_len(bytes)?)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        if path.exists() {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} is left: {error}", self.folder.display());
        }
    }
}
