//! How libnvdimm presents a namespace.

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
