//! What is going on, a line a step.

use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Says what begins now, and how long it has been since the first step.
pub(crate) fn step(what: &str) {
    let seconds = START.elapsed().as_secs();
    eprintln!("[{seconds:>4} s] {what}");
}
