//! Waiting: for a hint, for a while, or for the end.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The signals that end a program in good order: SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Stop {
    caught: UnixStream,
}

impl Stop {
    /// Catches the signals from now on.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn catch() -> io::Result<Self> {
        let (caught, sender) = UnixStream::pair()?;
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Self { caught })
    }

    /// Waits until one of `readable` is, `patience` is over (`None`: never), or a signal has come. Whether one has.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn or_readable(&self, readable: &[BorrowedFd<'_>], patience: Option<Duration>) -> io::Result<bool> {
        let timeout = patience.map(|patience| Timespec::try_from(patience).unwrap_or_default());
        let mut fds = vec![PollFd::from_borrowed_fd(self.caught.as_fd(), PollFlags::IN)];
        fds.extend(readable.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            // Interrupted by a signal: if it was one of these, the next wait says so at once.
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(fds.first().is_some_and(|caught| !caught.revents().is_empty()))
    }
}
