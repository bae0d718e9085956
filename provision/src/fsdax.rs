//! The start of a partition that a guest is to find in fsdax mode at its first boot.

use std::io;
use uuid::Uuid;
use xen_pmem_format::units::{Address as _, Bytes, PhysRange, SUPERPAGE};
use xen_pmem_nvdimm::info_block::{self, Fsdax, Unsuitable};

/// What fsdax takes of a partition's start, when its memory map is in memory. The guest's block device begins behind it.
pub const HEAD: Bytes = SUPERPAGE;

/// What a partition begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// Zeros.
    Blank,
    /// An info block that fits.
    Prepared(Fsdax),
    /// Something else: the offset of the first byte that is not zero.
    Other(Bytes),
}

/// Says what the first [`HEAD`] bytes of a partition at `range` are.
pub fn head(bytes: &[u8], range: PhysRange) -> Head {
    let at = usize::try_from(info_block::OFFSET.bytes()).unwrap_or(usize::MAX);
    let block = bytes.get(at..).and_then(|rest| rest.first_chunk());
    if let Some(fsdax) = block.and_then(|block| info_block::fsdax(block, range).ok()) {
        return Head::Prepared(fsdax);
    }
    match bytes.iter().position(|byte| *byte != 0) {
        Some(offset) => Head::Other(Bytes(u64::try_from(offset).unwrap_or(u64::MAX))),
        None => Head::Blank,
    }
}

/// Why a partition cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is something.
    #[error(
        "is not blank: there is something at offset {0:#x} that fsdax would hide; if it may be lost, wipe the partition first (xen-pmem-provision wipe)"
    )]
    NotBlank(u64),
    /// Linux would not make it fsdax.
    #[error("cannot be fsdax: {0}")]
    Unsuitable(#[from] Unsuitable),
    /// It cannot be read or written.
    #[error("{what}: {error}")]
    Io {
        /// What failed.
        what: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Returns the info block for a partition at `range` that begins with `head`; `None` if it has one.
///
/// # Errors
///
/// If there is something else, or Linux would not take it.
pub fn plan(head: &Head, uuid: Uuid, range: PhysRange) -> Result<Option<[u8; info_block::SIZE]>, Error> {
    match head {
        Head::Prepared(_) => Ok(None),
        Head::Other(offset) => Err(Error::NotBlank(offset.0)),
        Head::Blank => Ok(Some(info_block::encode(uuid, range)?)),
    }
}
