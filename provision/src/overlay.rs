//! A device as it would be with some writes done. Nothing is written: the writes stay in memory.

use crate::step::Step;
use std::io;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange};

/// A device with writes over it, in the order in which they were added.
#[derive(Debug)]
pub struct Overlay<'d, D: ?Sized> {
    device: &'d D,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
struct Piece {
    range: DeviceRange,
    bytes: Vec<u8>,
}

impl<'d, D: ?Sized> Overlay<'d, D> {
    /// Returns the device as it is.
    pub fn new(device: &'d D) -> Self {
        Self {
            device,
            pieces: Vec::new(),
        }
    }

    /// Returns the device as it would be once `steps` are done.
    pub fn with_steps(device: &'d D, steps: &[Step]) -> Self {
        let mut overlay = Self::new(device);
        for step in steps {
            if let Step::Write { offset, bytes, .. } = step {
                overlay.write(*offset, bytes.clone());
            }
        }
        overlay
    }

    /// Puts `bytes` at `offset`, over what is there.
    pub fn write(&mut self, offset: DeviceOffset, bytes: Vec<u8>) {
        let range = DeviceRange::clamped(offset, length(&bytes));
        self.pieces.push(Piece { range, bytes });
    }

    /// Puts zeros over a range of the device; fails if it does not fit into memory.
    ///
    /// # Errors
    ///
    /// If the range is larger than memory can be.
    pub fn zero(&mut self, range: DeviceRange) -> io::Result<()> {
        let size = usize::try_from(range.size().0).map_err(io::Error::other)?;
        self.write(range.base(), vec![0; size]);
        Ok(())
    }
}

impl Piece {
    /// Copies what this piece and `buf`, the bytes of `wanted`, share.
    fn copy_into(&self, wanted: DeviceRange, buf: &mut [u8]) {
        let (start, end) = (wanted.base().max(self.range.base()), wanted.end().min(self.range.end()));
        let part = |range: DeviceRange| -> Option<std::ops::Range<usize>> {
            let from = start.offset_from(range.base())?.0;
            let to = end.offset_from(range.base())?.0;
            Some(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
        };
        if start < end
            && let (Some(source), Some(target)) = (part(self.range), part(wanted))
            && let (Some(source), Some(target)) = (self.bytes.get(source), buf.get_mut(target))
        {
            target.copy_from_slice(source);
        }
    }
}

impl<D: ReadAt + ?Sized> ReadAt for Overlay<'_, D> {
    fn size(&self) -> io::Result<Bytes> {
        self.device.size()
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        let wanted = DeviceRange::clamped(offset, length(buf));
        // What is written anew need not be readable before.
        let whole = self.pieces.iter().rposition(|piece| piece.range.contains(wanted));
        if whole.is_none() {
            self.device.read_exact_at(offset, buf)?;
        }
        for piece in self.pieces.iter().skip(whole.unwrap_or(0)) {
            piece.copy_into(wanted, buf);
        }
        Ok(())
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        let pieces = self.pieces.iter().filter(|piece| piece.range.end() > offset);
        let first = pieces.map(|piece| piece.range.base().max(offset)).min();
        match (self.device.next_data(offset), first) {
            (Some(data), Some(piece)) => Some(data.min(piece)),
            (data, piece) => data.or(piece),
        }
    }
}

fn length(bytes: &[u8]) -> Bytes {
    Bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 64;

    fn writes() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
        let write = (0..SIZE).prop_flat_map(|at| (Just(at), proptest::collection::vec(any::<u8>(), 0..=SIZE - at)));
        proptest::collection::vec(write, 0..6)
    }

    proptest! {
        #[test]
        fn an_overlay_reads_as_the_device_would_after_the_writes(writes in writes(), from in 0..SIZE, length in 0..SIZE) {
            let device = vec![7; SIZE];
            let mut overlay = Overlay::new(&device);
            let mut written = device.clone();
            for (at, bytes) in writes {
                written[at..at + bytes.len()].copy_from_slice(&bytes);
                overlay.write(DeviceOffset(at as u64), bytes);
            }
            let length = length.min(SIZE - from);
            let mut buf = vec![0; length];
            overlay.read_exact_at(DeviceOffset(from as u64), &mut buf).unwrap();
            prop_assert_eq!(&buf, &written[from..from + length]);
            prop_assert!(overlay.read_exact_at(DeviceOffset(SIZE as u64), &mut [0]).is_err());
        }
    }

    /// A device of holes that cannot be read.
    struct Bad;

    impl ReadAt for Bad {
        fn size(&self) -> io::Result<Bytes> {
            Ok(Bytes(SIZE as u64))
        }

        fn read_exact_at(&self, _: DeviceOffset, _: &mut [u8]) -> io::Result<()> {
            Err(io::Error::other("media error"))
        }

        fn next_data(&self, _: DeviceOffset) -> Option<DeviceOffset> {
            None
        }
    }

    #[test]
    fn what_is_written_anew_need_not_be_readable() {
        let mut overlay = Overlay::new(&Bad);
        assert_eq!(overlay.next_data(DeviceOffset(0)), None);
        overlay.write(DeviceOffset(8), vec![1; 16]);
        let mut buf = [0; 8];
        overlay.read_exact_at(DeviceOffset(12), &mut buf).unwrap();
        assert_eq!(buf, [1; 8]);
        assert!(overlay.read_exact_at(DeviceOffset(4), &mut buf).is_err());
        assert_eq!(overlay.next_data(DeviceOffset(0)), Some(DeviceOffset(8)));
        assert_eq!(overlay.next_data(DeviceOffset(10)), Some(DeviceOffset(10)));
        assert_eq!(overlay.next_data(DeviceOffset(24)), None);
    }
}
