//! What is timed in a guest, by the guest's own clock: the program `xen-pmem-stopwatch`.
//!
//! Times are whole nanoseconds of `CLOCK_MONOTONIC` ([`std::time::Instant`]).

pub mod blocks;
pub mod commands;
pub mod event;
pub mod uevents;
pub mod xenstored;

use std::time::Duration;

/// Returns a time in the unit of measurements.
///
/// # Errors
///
/// If it is longer than five centuries.
pub fn nanoseconds(duration: Duration) -> anyhow::Result<u64> {
    Ok(u64::try_from(duration.as_nanos())?)
}
