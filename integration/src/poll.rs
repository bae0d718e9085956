//! Waiting for something to happen, for as long as a machine of this speed may take.

use anyhow::{Result, bail};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long [`until`] pauses before it looks for the second time. Each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause. Looking costs the machine processor time that what is waited for may need: a guest domain under emulation does.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a boot from memory takes on an ordinary host with nothing else to do.
const ORDINARY_BOOT: Duration = Duration::from_secs(10);
/// How long waking up from a snapshot takes there.
const ORDINARY_WAKE: Duration = Duration::from_secs(1);
/// The most that a limit is stretched by. A machine that hangs must end in a time that people wait for.
const MOST: u64 = 500;

/// How much slower than an ordinary one this host is, in percent: never less than 100.
static PACE: AtomicU64 = AtomicU64::new(100);

/// Takes note of how long a machine took to boot.
pub(crate) fn booted(took: Duration) {
    measured(took, ORDINARY_BOOT);
}

/// Takes note of how long a machine took to wake up.
pub(crate) fn woken(took: Duration) {
    measured(took, ORDINARY_WAKE);
}

fn measured(took: Duration, ordinary: Duration) {
    let percent = took.as_millis().saturating_mul(100) / ordinary.as_millis();
    PACE.fetch_max(u64::try_from(percent).unwrap_or(MOST).min(MOST), Ordering::Relaxed);
}

/// Returns what `ordinary`, the limit on an ordinary host, is on this one: as much longer as its machines took to boot.
pub fn limit(ordinary: Duration) -> Duration {
    let percent = u32::try_from(PACE.load(Ordering::Relaxed)).unwrap_or(100);
    ordinary.saturating_mul(percent) / 100
}

/// Looks until there is something, and returns it. `what` names it, for the message of a failure.
///
/// # Errors
///
/// If looking fails, or finds nothing within [`limit`] of `ordinary`.
pub fn until<T>(what: &str, ordinary: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begin = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        let limit = limit(ordinary);
        if begin.elapsed() > limit {
            bail!("{what}: still not so after {} s", limit.as_secs());
        }
        sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_grow_with_the_slowest_boot_and_not_without_end() {
        let second = Duration::from_secs(1);
        assert_eq!(limit(second), second);
        booted(Duration::from_secs(5));
        assert_eq!(limit(second), second);
        booted(Duration::from_secs(25));
        woken(Duration::from_secs(1));
        assert_eq!(limit(second), Duration::from_millis(2500));
        booted(Duration::from_secs(3600));
        assert_eq!(limit(second), Duration::from_secs(5));
    }

    #[test]
    fn what_is_found_at_last_is_returned() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(60), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
        let error = until::<()>("a miracle", Duration::ZERO, || Ok(None)).unwrap_err();
        assert!(error.to_string().starts_with("a miracle: "), "{error}");
    }
}
