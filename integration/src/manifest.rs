//! What `cargo xtask e2e` has made for the scenarios.

use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The environment variable that names the manifest's file.
pub const VARIABLE: &str = "XEN_PMEM_E2E";

/// Which build of Xen starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hypervisor {
    /// Debian's.
    Stock,
    /// With the project's patches.
    Patched,
    /// With the patches, and with assertions.
    Debug,
}

impl Hypervisor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stock, Self::Patched, Self::Debug];

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Patched => "patched",
            Self::Debug => "debug",
        }
    }

    /// Returns whether it takes reports.
    pub fn knows_pmem(self) -> bool {
        self != Self::Stock
    }
}

/// Where everything is.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    /// The emulator.
    pub qemu: PathBuf,
    /// The emulator of machines with CXL memory, if there are any: QEMU's own before version 9 is too old.
    #[serde(default)]
    pub qemu_cxl: Option<PathBuf>,
    /// The Debian suite that guests are made of.
    pub suite: String,
    /// Its Xen's version.
    pub xen_version: String,
    /// Its Linux's version.
    pub linux_version: String,
    /// The hypervisor.
    pub xen: PathBuf,
    /// The one with the project's patches, if it was made.
    pub xen_patched: Option<PathBuf>,
    /// The same with assertions, if it was made.
    pub xen_debug: Option<PathBuf>,
    /// The Debian packages of the one with the project's patches and of its toolstack, if they were made.
    #[serde(default)]
    pub xen_packages: Vec<PathBuf>,
    /// Linux unpacked, for Xen to start.
    pub vmlinux: PathBuf,
    /// Linux as distributed.
    pub vmlinuz: PathBuf,
    /// The guests' file system.
    pub initramfs: PathBuf,
    /// A disk with the tools under test: a cpio archive.
    pub tools: PathBuf,
    /// Where snapshots of machines that have booted are kept; without it each machine boots.
    pub snapshots: Option<PathBuf>,
    /// An installed system, if one was made.
    pub system: Option<System>,
    /// The provisioner, for use on this machine.
    pub provision: PathBuf,
    /// The folder that scenarios make theirs in.
    pub work: PathBuf,
    /// Whether the scenarios' folders are kept.
    pub keep: bool,
}

/// A Debian system with the project's packages installed, and the agent as a service.
#[derive(Clone, Debug, Deserialize)]
pub struct System {
    /// The image of its root file system: a disk without partitions.
    pub image: PathBuf,
    /// Its Linux unpacked, for Xen to start.
    pub vmlinux: PathBuf,
    /// Its Linux as installed.
    pub vmlinuz: PathBuf,
    /// Its initramfs, made by initramfs-tools.
    pub initramfs: PathBuf,
    /// The same made by dracut.
    pub dracut: PathBuf,
    /// Its boot loader, which starts the default entry of the menu on its disk.
    pub grub: PathBuf,
}

impl Manifest {
    /// Returns the file of this hypervisor, if it was made.
    pub fn hypervisor(&self, hypervisor: Hypervisor) -> Option<&Path> {
        match hypervisor {
            Hypervisor::Stock => Some(&self.xen),
            Hypervisor::Patched => self.xen_patched.as_deref(),
            Hypervisor::Debug => self.xen_debug.as_deref(),
        }
    }

    /// Reads the manifest that the environment names.
    ///
    /// # Errors
    ///
    /// If it does not exist or cannot be read.
    pub fn from_environment() -> Result<Self> {
        let path = std::env::var_os(VARIABLE).context("the scenarios are run by `cargo xtask e2e`")?;
        let path = PathBuf::from(path);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
    }
}
