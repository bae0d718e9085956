//! How libnvdimm presents a namespace.

use std::fmt;

/// The mode of a namespace, as `ndctl` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The namespace itself is the block device.
    Raw,
    /// A block device with DAX behind an info block and a memory map.
    Fsdax,
    /// A character device; no block device.
    Devdax,
    /// A block device with atomic sectors (BTT): blocks have no fixed address.
    Sector,
}

impl Mode {
    /// Returns the word that `ndctl` uses for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Fsdax => "fsdax",
            Self::Devdax => "devdax",
            Self::Sector => "sector",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
