//! Wiping a partition before it goes to another guest.

use std::io;
use xen_pmem_format::units::Bytes;

/// How much is wiped between two looks at whether to go on: a fraction of a second of any device.
const CHUNK: Bytes = Bytes(64 << 20);

/// Something whose bytes can be made zero.
pub trait Zero {
    /// Makes `size` bytes at `offset` zero.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    fn zero(&self, offset: Bytes, size: Bytes) -> io::Result<()>;

    /// Makes all that was done durable.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    fn flush(&self) -> io::Result<()>;
}

impl Zero for crate::partition::Partition {
    fn zero(&self, offset: Bytes, size: Bytes) -> io::Result<()> {
        Self::zero(self, offset, size)
    }

    fn flush(&self) -> io::Result<()> {
        Self::flush(self)
    }
}

/// Where wiping ended before the end.
#[derive(Debug)]
pub struct Stopped {
    /// All before this offset is zero, and durable.
    pub at: Bytes,
    /// What the operating system said; nothing if it was told to stop.
    pub error: Option<io::Error>,
}

/// Writes zeros to all of `size` bytes from `from` on, in order, and makes them durable. Calls `goes_on` after each piece with the bytes
/// done so far.
///
/// In order, so that a file system's super block goes first: a partly wiped partition must not look like a file system.
///
/// # Errors
///
/// How far it got, and why no further.
pub fn wipe<Z: Zero + ?Sized>(
    device: &Z,
    size: Bytes,
    from: Bytes,
    mut goes_on: impl FnMut(Bytes) -> bool,
) -> Result<(), Stopped> {
    let stopped = |at: Bytes, error: Option<io::Error>| match device.flush() {
        Ok(()) => Stopped { at, error },
        // What was zeroed may not be durable.
        Err(flush) => Stopped {
            at: from,
            error: Some(error.unwrap_or(flush)),
        },
    };
    let mut at = from;
    while let Some(left) = size.checked_sub(at).filter(|left| left.0 > 0) {
        let piece = left.min(CHUNK);
        if let Err(error) = device.zero(at, piece) {
            return Err(stopped(at, Some(error)));
        }
        at = Bytes(at.0.saturating_add(piece.0));
        if !goes_on(at) && at < size {
            return Err(stopped(at, None));
        }
    }
    device.flush().map_err(|error| Stopped {
        at: from,
        error: Some(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    const MIB: u64 = 1 << 20;

    /// Which MiB are zero, which of those durably, and which MiB is bad.
    struct Device {
        zero: RefCell<Vec<bool>>,
        durable: RefCell<Vec<bool>>,
        bad: Option<usize>,
    }

    impl Zero for Device {
        fn zero(&self, offset: Bytes, size: Bytes) -> io::Result<()> {
            let (from, to) = ((offset.0 / MIB) as usize, ((offset.0 + size.0) / MIB) as usize);
            for place in from..to {
                if self.bad == Some(place) {
                    return Err(io::Error::other("bad"));
                }
                self.zero.borrow_mut()[place] = true;
            }
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            self.durable.replace(self.zero.borrow().clone());
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn going_on_where_it_stopped_wipes_all(size in 1usize..400, bad in proptest::option::of(0usize..400), stops in 0usize..8) {
            let mut device = Device { zero: RefCell::new(vec![false; size]), durable: RefCell::new(vec![false; size]), bad };
            let bytes = Bytes(size as u64 * MIB);
            let mut pieces = 0;
            let first = wipe(&device, bytes, Bytes(0), |_| { pieces += 1; pieces <= stops });
            let from = match first {
                Ok(()) => bytes,
                Err(stopped) => {
                    prop_assert!(stopped.error.is_some() || pieces > stops);
                    stopped.at
                }
            };
            let wiped = (from.0 / MIB) as usize;
            prop_assert!(device.durable.borrow()[..wiped].iter().all(|zero| *zero), "what it says is wiped is");
            device.bad = None;
            device.zero.borrow_mut()[..wiped].fill(false);
            wipe(&device, bytes, from, |_| true).unwrap();
            let durable = device.durable.borrow();
            prop_assert!(durable[wiped..].iter().all(|zero| *zero));
            prop_assert!(durable[..wiped].iter().all(|zero| !*zero), "nothing before it is done again");
        }
    }
}
