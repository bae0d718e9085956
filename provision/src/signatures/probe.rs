//! libblkid on anything that can be read.

use super::blank::first_not_zero;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use xen_pmem_blkid::Signature;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange};

/// What is copied at once.
const PIECE: usize = 64 << 10;

/// Returns the signatures in a range, as if a device began and ended there; their offsets are the device's.
///
/// # Errors
///
/// If the device cannot be read there.
pub(super) fn signatures<D: ReadAt + ?Sized>(device: &D, range: DeviceRange) -> io::Result<Vec<Signature>> {
    if device.next_data(range.base()).is_none_or(|data| data >= range.end()) {
        return Ok(Vec::new());
    }
    match device.file() {
        Some(file) => xen_pmem_blkid::signatures(file, range.base().0, range.size().0),
        None => xen_pmem_blkid::signatures(&copied(device)?, range.base().0, range.size().0),
    }
}

/// Returns a file in memory with the bytes of a device that is not a file, sparse where these are zeros.
fn copied<D: ReadAt + ?Sized>(device: &D) -> io::Result<File> {
    let Bytes(size) = device.size()?;
    let file = File::from(rustix::fs::memfd_create("device", MemfdFlags::CLOEXEC)?);
    file.set_len(size)?;
    let mut piece = vec![0; PIECE];
    let mut from = 0;
    while let Some(DeviceOffset(at)) = device.next_data(DeviceOffset(from)).filter(|at| at.0 < size) {
        let left = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
        piece.resize(left.min(PIECE), 0);
        device.read_exact_at(DeviceOffset(at), &mut piece)?;
        if first_not_zero(&piece).is_some() {
            file.write_all_at(&piece, at)?;
        }
        from = at.saturating_add(u64::try_from(piece.len()).map_err(io::Error::other)?);
    }
    Ok(file)
}
