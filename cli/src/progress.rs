//! What people see of long work, on standard error if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::{Cell, OnceCell};
use std::time::Duration;

/// How many bytes are read in silence: what every look at a device reads is far less.
const SILENT: u64 = 64 << 20;
/// How reading is shown.
const READING: &str = "{spinner} {msg}: {bytes} read, {bytes_per_sec}";
/// How a share of a total is shown.
const SHARE: &str = "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
/// How often the sign that work goes on moves.
const TICK: Duration = Duration::from_millis(100);

/// How much has been read, shown once that takes long. Cleared when it is dropped.
#[derive(Debug)]
pub struct Reading {
    what_for: &'static str,
    read: Cell<u64>,
    bar: OnceCell<ProgressBar>,
}

impl Reading {
    /// Creates the progress of a reader that has read nothing yet. `what_for` says to people why it reads.
    pub fn new(what_for: &'static str) -> Self {
        Self {
            what_for,
            read: Cell::new(0),
            bar: OnceCell::new(),
        }
    }

    /// Counts bytes that are read.
    pub fn count(&self, bytes: u64) {
        let read = self.read.get().saturating_add(bytes);
        self.read.set(read);
        if read > SILENT {
            let bar = self.bar.get_or_init(|| {
                let bar = ProgressBar::new_spinner().with_message(self.what_for);
                styled(bar, READING)
            });
            bar.set_position(read);
        }
    }

    /// Returns how many bytes have been read.
    pub fn read(&self) -> u64 {
        self.read.get()
    }

    /// Returns whether people see it: it takes long.
    pub fn is_shown(&self) -> bool {
        self.bar.get().is_some()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// A bar that shows how many of a number of bytes are done. Cleared when it is dropped.
#[derive(Debug)]
pub struct Share(ProgressBar);

impl Share {
    /// Creates a bar at `done` of `total` bytes. `doing` says what the program does with them.
    pub fn new(doing: &'static str, total: u64, done: u64) -> Self {
        let bar = ProgressBar::new(total).with_position(done).with_message(doing);
        Self(styled(bar, SHARE))
    }

    /// Creates a bar that nobody sees.
    pub fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Says how many bytes are done now.
    pub fn done(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A line that says what the program waits for. Cleared when it is dropped.
#[derive(Debug)]
pub struct Waiting(ProgressBar);

impl Waiting {
    /// Says what is waited for.
    pub fn new(message: String) -> Self {
        let bar = ProgressBar::new_spinner().with_message(message);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Returns a bar in this style, or in the library's style if this one is not valid.
fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_reading_is_shown() {
        let reading = Reading::new("testing");
        for _ in 0..64 {
            reading.count(1 << 20);
        }
        assert!(!reading.is_shown());
        reading.count(1);
        assert!(reading.is_shown());
        assert_eq!(reading.read(), SILENT + 1);
        reading.count(u64::MAX);
        assert_eq!(reading.read(), u64::MAX);
    }

    #[test]
    fn templates_are_well_formed() {
        for template in [READING, SHARE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
