//! A device in memory that records what is written, tears at eight bytes, and loses or reorders what was not flushed.

use std::cell::RefCell;
use std::io;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Bytes, DeviceOffset};
use xen_pmem_provision::device::Device;

/// What persistent memory writes at once.
const WORD: usize = 8;

/// One word on its way to the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Its number from the start of the device.
    index: usize,
    bytes: [u8; WORD],
}

/// What happened to a device, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Word(Word),
    Flush,
}

/// A device that records.
pub(crate) struct Recorder {
    bytes: RefCell<Vec<u8>>,
    events: RefCell<Vec<Event>>,
    calls_left: RefCell<Option<usize>>,
}

impl Recorder {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: RefCell::new(bytes),
            events: RefCell::default(),
            calls_left: RefCell::default(),
        }
    }

    /// Makes the write or flush after `calls` others fail, and all that follow.
    pub(crate) fn failing_after(bytes: Vec<u8>, calls: usize) -> Self {
        let recorder = Self::new(bytes);
        *recorder.calls_left.borrow_mut() = Some(calls);
        recorder
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<Event>) {
        (self.bytes.into_inner(), self.events.into_inner())
    }

    fn call(&self) -> io::Result<()> {
        match self.calls_left.borrow_mut().as_mut() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("media error")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl ReadAt for Recorder {
    fn size(&self) -> io::Result<Bytes> {
        self.bytes.borrow().size()
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        self.bytes.borrow().read_exact_at(offset, buf)
    }
}

impl Device for Recorder {
    fn write_all_at(&self, offset: DeviceOffset, bytes: &[u8]) -> io::Result<()> {
        self.call()?;
        let start = usize::try_from(offset.0).unwrap();
        assert!(
            start.is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD),
            "writes are of whole words"
        );
        self.bytes.borrow_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        let words = bytes.chunks(WORD).enumerate();
        self.events.borrow_mut().extend(words.map(|(number, bytes)| {
            Event::Word(Word {
                index: start / WORD + number,
                bytes: bytes.try_into().unwrap(),
            })
        }));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.call()?;
        self.events.borrow_mut().push(Event::Flush);
        Ok(())
    }
}

/// Calls `check` with what the medium holds at each cut-off point: after every word in order, and for each run of words
/// between two flushes with `samples` random subsets of them. Words that change nothing are no cut-off points. Returns how many
/// were checked.
pub(crate) fn cut_off_points(
    before: &[u8],
    events: &[Event],
    samples: usize,
    mut random: impl FnMut() -> u64,
    mut check: impl FnMut(&[u8]),
) -> usize {
    let mut durable = before.to_vec();
    let mut points = 1;
    check(&durable);
    for run in events.split(|event| *event == Event::Flush) {
        let words: Vec<Word> = run
            .iter()
            .filter_map(|event| match event {
                Event::Word(word) => Some(*word),
                Event::Flush => None,
            })
            .filter(|word| durable[word.range()] != word.bytes)
            .collect();
        for _ in 0..if words.len() > 1 { samples } else { 0 } {
            let mut undo = Vec::new();
            for word in &words {
                if random() & 1 == 1 {
                    undo.push(word.swap(&mut durable));
                }
            }
            check(&durable);
            points += 1;
            for word in undo.iter().rev() {
                word.swap(&mut durable);
            }
        }
        for word in &words {
            word.swap(&mut durable);
            check(&durable);
            points += 1;
        }
    }
    points
}

impl Word {
    fn range(&self) -> std::ops::Range<usize> {
        self.index * WORD..self.index * WORD + WORD
    }

    /// Puts this word on the medium and returns the one that was there.
    fn swap(&self, medium: &mut [u8]) -> Self {
        let place = &mut medium[self.range()];
        let old = Self {
            index: self.index,
            bytes: (&*place).try_into().unwrap(),
        };
        place.copy_from_slice(&self.bytes);
        old
    }
}
