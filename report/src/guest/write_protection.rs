//! Keeps Dom0 from writing to a partition through its node.
//!
//! The kernel refuses to mount, format or hold a partition that a claim holds. A loop device is the exception: it opens its backing device
//! without a claim, and `mount -o offset=` makes one. So a claimed partition is read-only as well. Guests are not affected: they write to
//! the memory itself.

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use std::fs::File;
use std::io;
use std::path::Path;

/// `BLKROSET`, of Linux `include/uapi/linux/fs.h`.
const SET_READ_ONLY: Opcode = opcode::none(0x12, 93);

/// Makes a block device read-only, or writable.
///
/// # Errors
///
/// If it cannot be opened, or the kernel refuses.
pub fn set(node: &Path, on: bool) -> io::Result<()> {
    let device = File::open(node)?;
    // SAFETY: the kernel reads an `int` where the argument points, and `Setter` has one there.
    unsafe { ioctl(&device, Setter::<SET_READ_ONLY, i32>::new(i32::from(on))) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_block_device_has_no_protection() {
        assert!(set(Path::new("/dev/null"), true).is_err());
        assert!(set(Path::new("/dev/no-such-device"), false).is_err());
    }
}
