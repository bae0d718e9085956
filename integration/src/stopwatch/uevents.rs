//! The kernel's broadcast of device events, read without the project's own crates.
//!
//! Source: Linux `lib/kobject_uevent.c`: `ACTION@PATH`, then `KEY=VALUE`s, each ended by a zero byte; the kernel sends to group 1.

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const KERNELS_GROUP: u32 = 1;
/// The longest message that the kernel sends, and some more.
const LONGEST: usize = 8192;

/// A socket that hears of all devices' events.
#[derive(Debug)]
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Starts listening.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNELS_GROUP))?;
        Ok(Self(socket))
    }

    /// Returns whether one of the events that have come tells that this disk was added.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says; that some events were lost, too.
    pub fn tell_of(&self, disk: &str) -> io::Result<bool> {
        let mut found = false;
        let mut buffer = [0; LONGEST];
        loop {
            match recvfrom(&self.0, &mut buffer, RecvFlags::empty()) {
                Ok((length, _, _)) => found |= adds(buffer.get(..length).unwrap_or_default(), disk),
                Err(Errno::AGAIN) => return Ok(found),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns whether a message tells that this disk was added.
fn adds(message: &[u8], disk: &str) -> bool {
    let fields: Vec<&[u8]> = message.split(|byte| *byte == 0).collect();
    let name = format!("DEVNAME={disk}");
    [b"ACTION=add".as_slice(), b"DEVTYPE=disk", name.as_bytes()]
        .iter()
        .all(|field| fields.contains(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_added_is_told_from_all_else() {
        let message = b"add@/devices/x/block/pmem0\0ACTION=add\0DEVNAME=pmem0\0DEVTYPE=disk\0SEQNUM=7\0";
        assert!(adds(message, "pmem0"));
        assert!(!adds(message, "pmem"));
        assert!(!adds(
            b"add@/x/pmem0p1\0ACTION=add\0DEVNAME=pmem0p1\0DEVTYPE=partition\0",
            "pmem0p1"
        ));
        assert!(!adds(
            b"remove@/x\0ACTION=remove\0DEVNAME=pmem0\0DEVTYPE=disk\0",
            "pmem0"
        ));
    }
}
