//! Loop devices: which file or device each shows.

use crate::sysfs::{Directory, SysfsRoot};
use rustix::ioctl::{Getter, Opcode, ioctl};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// `LOOP_GET_STATUS64` (Linux `include/uapi/linux/loop.h`).
const LOOP_GET_STATUS64: Opcode = 0x4C05;

/// `struct loop_info64`, 232 bytes; only its first fields are used here.
#[derive(Clone, Copy)]
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    /// Of what is a device itself: its number.
    rdevice: u64,
    rest: [u64; 26],
}

const _: () = assert!(size_of::<LoopInfo>() == 232);

/// Returns the loop device that shows this file or block device, by its name; `None` if there is none.
///
/// The kernel names it by device and inode. The path that it gives may be another one of the same file, or one that is gone.
pub(super) fn showing(sysfs: &SysfsRoot, wanted: &Metadata) -> Option<String> {
    let names = sysfs.block_devices().ok()?;
    let loops = names.into_iter().filter(|name| name.starts_with("loop"));
    let mut devices = loops.filter_map(|name| sysfs.block_device(&name));
    devices
        .find(|device| shows(device, wanted))
        .map(|device| device.name().to_owned())
}

fn shows(device: &Directory, wanted: &Metadata) -> bool {
    let Ok(Some(backing)) = device.child("loop").text("backing_file") else {
        return false;
    };
    let by_path = || fs::metadata(&backing).is_ok_and(|found| is_same(&found, wanted));
    match status(&Path::new("/dev").join(device.name())) {
        Some(info) if wanted.file_type().is_block_device() => info.rdevice == wanted.rdev() || by_path(),
        Some(info) => (info.device, info.inode) == (wanted.dev(), wanted.ino()),
        None => by_path(),
    }
}

/// Returns whether two are the same file, or nodes of the same device.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    if other.file_type().is_block_device() {
        one.file_type().is_block_device() && one.rdev() == other.rdev()
    } else {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }
}

/// Returns what a loop device says of itself; `None` if it may not be asked.
#[allow(unsafe_code, reason = "an ioctl is typed by its caller")]
fn status(node: &Path) -> Option<LoopInfo> {
    let file = File::open(node).ok()?;
    // SAFETY: LOOP_GET_STATUS64 writes a `struct loop_info64`, which is 232 bytes as `LoopInfo` is, and all of whose bytes may have any
    // value. Another driver would answer ENOTTY, or not know a device called loopN.
    unsafe { ioctl(&file, Getter::<LOOP_GET_STATUS64, LoopInfo>::new()) }.ok()
}
