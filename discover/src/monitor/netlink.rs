//! The kernel's own broadcast of device events: no udevd is needed.
//!
//! Source: Linux `lib/kobject_uevent.c`. The kernel sends to group 1; udevd's messages, of its own format, go to group 2.

use super::{Hint, Source, uevent};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with, sockopt};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

const KERNELS_GROUP: u32 = 1;
/// Room for some thousand messages. That of an ordinary socket holds about a hundred.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket that hears of all devices' events.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Starts listening.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        // Root may exceed the limit for ordinary sockets. A smaller buffer loses messages sooner, which is noticed.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        bind(&socket, &SocketAddrNetlink::new(0, KERNELS_GROUP))?;
        Ok(Self { socket })
    }
}

impl Source for Netlink {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn drain(&mut self) -> io::Result<Vec<Hint>> {
        let mut hints = Vec::new();
        let mut buffer = [0; uevent::LONGEST];
        loop {
            match recvfrom(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((length, _, sender)) => {
                    // Any process may send to this socket; only the kernel is number 0.
                    let from_kernel = sender
                        .and_then(|sender| SocketAddrNetlink::try_from(sender).ok())
                        .is_some_and(|sender| sender.pid() == 0);
                    let message = buffer.get(..length).filter(|_| from_kernel);
                    hints.extend(message.and_then(uevent::hint));
                }
                Err(Errno::AGAIN) => return Ok(hints),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => {
                    tracing::warn!("events came too fast and some are lost: looking at all devices");
                    hints.push(Hint::Look);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_needs_no_privileges_and_does_not_block() {
        let mut netlink = Netlink::open().unwrap();
        netlink.drain().unwrap();
    }
}
