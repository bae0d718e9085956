//! One program at a time: XenStore's client has no transactions, so a program that changes reports holds a lock meanwhile.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The lock file. It is in `/run`: neither it nor what it protects outlives the boot.
pub const LOCK: &str = "/run/xen-pmem-report.lock";

/// How long another run may take; the hypervisor's part of one takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The turn of this process, as long as it lives.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "closing the file gives the turn back")] File);

/// Why this process does not get its turn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be made or opened.
    #[error("cannot open {}, which keeps two runs apart: are you root?: {error}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The file cannot be locked.
    #[error("cannot lock {}: {error}", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// Another process does not give its turn back.
    #[error("another xen-pmem-report has held {} for a minute: end it and try again", .0.display())]
    Held(PathBuf),
}

/// Waits for this process's turn.
///
/// # Errors
///
/// If the file cannot be made, or another process does not give its turn back within a minute.
pub fn take(lock: &Path) -> Result<Turn, Error> {
    let path = || lock.to_path_buf();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
        .map_err(|error| Error::Open { path: path(), error })?;
    let deadline = Instant::now().checked_add(LIMIT);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Turn(file)),
            Err(TryLockError::Error(error)) => return Err(Error::Lock { path: path(), error }),
            Err(TryLockError::WouldBlock) if deadline.is_none_or(|deadline| Instant::now() > deadline) => {
                return Err(Error::Held(path()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("lock");
        let turn = take(&lock).unwrap();
        let waiting = std::thread::spawn({
            let lock = lock.clone();
            move || take(&lock).map(drop)
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished(), "two have the turn");
        drop(turn);
        waiting.join().unwrap().unwrap();
        take(&folder.path().join("no/such/folder")).unwrap_err();
    }
}
