//! The lock of QEMU's: byte ranges of an image, locked for its open file description.
//!
//! QEMU locks one byte, from 100 on, for each kind of access that it makes to an image, and one, from 200 on, for each kind that it
//! forbids to others; 64 bytes of either are set aside (`block/file-posix.c`: `RAW_LOCK_PERM_BASE`, `RAW_LOCK_SHARED_BASE`). A process
//! that has locked all of them exclusively is the only user, and keeps QEMU out.

use super::Intent;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use std::io;

const FIRST: libc::off_t = 100;
const LENGTH: libc::off_t = 200 + 64 - FIRST;

/// Locks the bytes, or for a dry run looks whether they could be locked. `false` if somebody else has locked any of them.
///
/// # Errors
///
/// Whatever the operating system says. A file system without such locks has no QEMU that locks either.
pub(super) fn take(file: &File, intent: Intent) -> io::Result<bool> {
    let mut lock = libc::flock {
        l_type: kind(libc::F_WRLCK)?,
        l_whence: kind(libc::SEEK_SET)?,
        l_start: FIRST,
        l_len: LENGTH,
        // The kernel insists on it.
        l_pid: 0,
    };
    let result = match intent {
        Intent::Write => fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).map(|_| true),
        Intent::DryRun => {
            fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).map(|_| i32::from(lock.l_type) == libc::F_UNLCK)
        }
    };
    match result {
        Ok(free) => Ok(free),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(Errno::EINVAL | Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

fn kind(number: i32) -> io::Result<i16> {
    i16::try_from(number).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    fn set(file: &File, what: i32, start: libc::off_t, length: libc::off_t) {
        let lock = libc::flock {
            l_type: kind(what).unwrap(),
            l_whence: kind(libc::SEEK_SET).unwrap(),
            l_start: start,
            l_len: length,
            l_pid: 0,
        };
        fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    }

    /// Locks one byte, shared, as QEMU does for a kind of access.
    fn lock_as_qemu(file: &File, byte: libc::off_t) {
        set(file, libc::F_RDLCK, byte, 1);
    }

    /// Unlocks all bytes. To close the file is not enough here: a child that another test starts has it open, too, until the child's
    /// program begins.
    fn unlock(file: &File) {
        set(file, libc::F_UNLCK, 0, 0);
    }

    #[test]
    fn each_byte_that_qemu_may_lock_is_noticed_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, []).unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(&path).unwrap();
        for byte in 90..280 {
            let (qemu, ours) = (open(), open());
            lock_as_qemu(&qemu, byte);
            let free = !(100..264).contains(&byte);
            assert_eq!(take(&ours, Intent::DryRun).unwrap(), free, "{byte}");
            assert_eq!(take(&ours, Intent::Write).unwrap(), free, "{byte}");
            unlock(&qemu);
            unlock(&ours);
        }
        let (one, other) = (open(), open());
        assert!(take(&one, Intent::Write).unwrap());
        assert!(!take(&other, Intent::Write).unwrap());
        assert!(!take(&other, Intent::DryRun).unwrap());
        unlock(&one);
        assert!(take(&other, Intent::Write).unwrap());
    }
}
