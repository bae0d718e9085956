//! One at a time: XenStore's client has no transactions, so whoever changes reports holds a lock meanwhile.

use anyhow::{Context as _, anyhow};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

/// The file that is locked. In `/run`: it does not outlive the boot, and no more does what it protects.
pub const LOCK: &str = "/run/xen-pmem-report.lock";

/// How long another run may take; the hypervisor's part of one takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The turn of this process, as long as it lives.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "closing the file gives the turn back")] File);

/// Waits for this process's turn.
///
/// # Errors
///
/// If the file cannot be made, or another process does not give its turn back within a minute.
pub fn take(lock: &Path) -> anyhow::Result<Turn> {
    let shown = lock.display();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(lock)
        .with_context(|| format!("cannot open {shown}, which keeps two runs apart: are you root?"))?;
    let deadline = Instant::now().checked_add(LIMIT);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Turn(file)),
            Err(TryLockError::Error(error)) => return Err(anyhow!(error).context(format!("cannot lock {shown}"))),
            Err(TryLockError::WouldBlock) if deadline.is_none_or(|deadline| Instant::now() > deadline) => {
                return Err(anyhow!(
                    "another xen-pmem-report has held {shown} for a minute: end it and try again"
                ));
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
