//! Devices' events from the functions in the kernel that make them: a source for the monitor.

use super::{Unavailable, kernel::Shapes, open, skeleton::WatchSkel};
use crate::monitor::{Hint, Source};
use libbpf_rs::skel::{OpenSkel as _, Skel as _};
use libbpf_rs::{RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// `struct hint` of the programs.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    change: u32,
    name: [u8; 32],
}

const REMOVED: u32 = 1;

/// The programs, attached.
pub struct Hints {
    ring: RingBuffer<'static>,
    /// The ring's own descriptor for waiting, again: the ring gives it as a number only.
    fd: OwnedFd,
    received: Rc<RefCell<Vec<Hint>>>,
    programs: WatchSkel<'static>,
    lost: u64,
}

impl Hints {
    /// Loads and attaches the programs that watch devices.
    ///
    /// # Errors
    ///
    /// Why eBPF is not available.
    pub fn open() -> Result<Self, Unavailable> {
        let mut open = open()?;
        open.progs.bio_queued.set_autoload(false);
        open.progs.bio_queued_with_queue.set_autoload(false);
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.partitions_by_block_device = Shapes::of_this_kernel()?.partitions_by_block_device;
        }
        let mut programs = open.load()?;
        let received = Rc::new(RefCell::new(Vec::new()));
        let mut builder = RingBufferBuilder::new();
        let sink = Rc::clone(&received);
        builder.add(&programs.maps.hints, move |bytes| {
            sink.borrow_mut().extend(hint(bytes));
            0
        })?;
        let ring = builder.build()?;
        programs.attach()?;
        Ok(Self {
            fd: duplicate(&ring)?,
            ring,
            received,
            programs,
            lost: 0,
        })
    }
}

/// Returns the descriptor on which a ring's readers wait, as one of our own.
pub(super) fn duplicate(ring: &RingBuffer<'_>) -> Result<OwnedFd, Unavailable> {
    #[expect(unsafe_code, reason = "the ring gives its descriptor as a number")]
    // SAFETY: `ring` keeps the descriptor open for as long as it is borrowed, which is longer than it takes to duplicate it.
    let fd = unsafe { BorrowedFd::borrow_raw(ring.epoll_fd()) };
    fd.try_clone_to_owned()
        .map_err(|error| Unavailable::Failed(error.into()))
}

impl Source for Hints {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn drain(&mut self) -> io::Result<Vec<Hint>> {
        self.ring.consume().map_err(io::Error::other)?;
        let mut hints = self.received.take();
        let lost = self.programs.maps.bss_data.as_ref().map_or(0, |data| data.hints_lost);
        if lost != self.lost {
            tracing::warn!("events came too fast and some are lost: looking at all devices");
            self.lost = lost;
            hints.push(Hint::Look);
        }
        Ok(hints)
    }
}

/// Returns a record as a hint; `None` if it is not one.
fn hint(bytes: &[u8]) -> Option<Hint> {
    let (record, _) = Record::ref_from_prefix(bytes).ok()?;
    if record.change == REMOVED {
        let name = record.name.split(|byte| *byte == 0).next()?;
        return Some(Hint::Removed(std::str::from_utf8(name).ok()?.to_owned()));
    }
    Some(Hint::Look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let record = |change: u32, name: &[u8]| {
            let mut bytes = change.to_ne_bytes().to_vec();
            bytes.extend(name);
            bytes.resize(40, 0);
            bytes
        };
        assert_eq!(hint(&record(0, b"pmem0")), Some(Hint::Look));
        assert_eq!(hint(&record(1, b"pmem10")), Some(Hint::Removed("pmem10".to_owned())));
        assert_eq!(hint(&record(1, b"\xff")), None);
        assert_eq!(hint(&[0; 8]), None);
    }
}
