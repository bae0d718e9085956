//! Machine frames: physical addresses counted in pages, as the hypervisor counts them.

use super::{Address as _, Bytes, PAGE, PhysAddr, PhysRange};
use core::fmt;

/// A machine frame number (MFN): a physical address in units of [`PAGE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u64);

/// Frames from `first` up to, not including, `end`. A range that ends before it begins cannot be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrameRange {
    first: Frame,
    end: Frame,
}

impl Frame {
    /// Returns the frame that begins at `address`; `None` if none does.
    pub fn at(address: PhysAddr) -> Option<Self> {
        let number = address.0.checked_div(PAGE.0)?;
        address.is_aligned(PAGE).then_some(Self(number))
    }

    /// Returns where it begins; `None` if that does not fit in 64 bits.
    pub fn address(self) -> Option<PhysAddr> {
        PAGE.checked_mul(self.0).map(PhysAddr::after)
    }
}

impl FrameRange {
    /// Returns the frames from `first` up to, not including, `end`; `None` if `end` lies before `first`.
    pub fn new(first: Frame, end: Frame) -> Option<Self> {
        (first <= end).then_some(Self { first, end })
    }

    /// Returns the frames of `range`; `None` if it does not begin and end with a frame.
    pub fn of(range: PhysRange) -> Option<Self> {
        Self::new(Frame::at(range.base())?, Frame::at(range.end())?)
    }

    /// Returns the first frame.
    pub fn first(self) -> Frame {
        self.first
    }

    /// Returns the frame just after the last one.
    pub fn end(self) -> Frame {
        self.end
    }

    /// Returns the number of frames.
    pub fn count(self) -> u64 {
        // `new` sees to it that this does not wrap.
        self.end.0.wrapping_sub(self.first.0)
    }

    /// Returns the bytes that `count` frames have; `None` on overflow.
    pub fn bytes_of(count: u64) -> Option<Bytes> {
        PAGE.checked_mul(count)
    }

    /// Returns the physical addresses; `None` if they do not fit in 64 bits.
    pub fn addresses(self) -> Option<PhysRange> {
        PhysRange::between(self.first.address()?, self.end.address()?)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_frame() {
        assert_eq!(Frame::at(PhysAddr(4095)), None);
        assert_eq!(Frame(1 << 52).address(), None);
        assert_eq!(FrameRange::new(Frame(2), Frame(1)), None);
        for (base, size) in [(1, 4096), (4096, 1)] {
            assert_eq!(
                FrameRange::of(PhysRange::new(PhysAddr(base), Bytes(size)).unwrap()),
                None
            );
        }
        let beyond = FrameRange::new(Frame(0), Frame(u64::MAX)).unwrap();
        assert_eq!((beyond.addresses(), beyond.count()), (None, u64::MAX));
        assert_eq!(FrameRange::bytes_of(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn frames_and_addresses_are_the_same_memory(first in 0..1u64 << 40, count in 0..1u64 << 40) {
            let range = PhysRange::new(PhysAddr(first * 4096), Bytes(count * 4096)).unwrap();
            let frames = FrameRange::of(range).unwrap();
            prop_assert_eq!((frames.first(), frames.end()), (Frame(first), Frame(first + count)));
            prop_assert_eq!(frames.addresses(), Some(range));
            prop_assert_eq!(frames.count(), count);
            prop_assert_eq!(FrameRange::bytes_of(count), Some(range.size()));
        }
    }
}
