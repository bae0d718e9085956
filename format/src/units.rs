//! Units and address spaces as types, so that sizes, device offsets, physical addresses and logical blocks never mix.

mod frame;

pub use frame::{Frame, FrameRange};

use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;

/// The bytes of a page frame, the unit of `struct page_info` and of the M2P (x86-64: 4 KiB).
pub const PAGE: Bytes = Bytes(4096);
/// The alignment of everything Xen maps with superpages and DAX maps with huge pages (x86-64: 2 MiB).
pub const SUPERPAGE: Bytes = Bytes(2 << 20);

/// The bytes that Linux's sysfs counts block devices and media errors in, whatever the logical block size
/// (`include/linux/blk_types.h`, `SECTOR_SIZE`).
pub const SECTOR: Bytes = Bytes(512);

/// A size in bytes.
///
/// Parses decimal or `0x` hexadecimal digits with an optional binary suffix (`K`, `M`, `G`, `T`, also as `KiB` ...):
///
/// ```
/// use xen_pmem_format::units::Bytes;
/// assert_eq!("512M".parse(), Ok(Bytes(512 << 20)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// An offset in bytes from the start of a block device or of its image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceOffset(pub u64);

/// An offset in bytes from the start of a libnvdimm namespace, which its block device may begin behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceOffset(pub u64);

/// A system physical address (SPA) in bytes; in Xen's words a machine address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

/// A logical block address, counted in [`LbaSize`] units from the start of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

/// The bytes of a logical block: what an LBA of the partition table counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LbaSize {
    /// 512 bytes, the default of libnvdimm's block devices.
    B512,
    /// 4096 bytes, as set by a namespace label's `lbasize`.
    B4096,
}

/// A range of one address space: `base` and the bytes that follow it. A range whose end does not fit in 64 bits cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range<A> {
    base: A,
    size: Bytes,
}

/// A range in the bytes of a device.
pub type DeviceRange = Range<DeviceOffset>;
/// A range of system physical addresses.
pub type PhysRange = Range<PhysAddr>;

/// An address space: a position counted in bytes from the space's zero.
pub trait Address: Copy + Ord {
    /// Returns the position at `bytes` from zero.
    fn at(bytes: u64) -> Self;
    /// Returns the distance from zero, in bytes.
    fn bytes(self) -> u64;

    /// Returns the position just after the first `size` bytes of the space.
    fn after(size: Bytes) -> Self {
        Self::at(size.0)
    }

    /// Returns the distance from zero.
    fn distance(self) -> Bytes {
        Bytes(self.bytes())
    }

    /// Returns the distance from `start`; `None` if this position lies before it.
    fn offset_from(self, start: Self) -> Option<Bytes> {
        self.bytes().checked_sub(start.bytes()).map(Bytes)
    }

    /// Returns the position `size` further on; `None` past the end of the space.
    fn checked_add(self, size: Bytes) -> Option<Self> {
        self.bytes().checked_add(size.0).map(Self::at)
    }

    /// Returns the first multiple of `unit` at or after this position; `None` if `unit` is zero or past the end of the space.
    fn align_up(self, unit: Bytes) -> Option<Self> {
        self.bytes().checked_next_multiple_of(unit.0).map(Self::at)
    }

    /// Returns the last multiple of `unit` at or before this position; the position itself if `unit` is zero.
    fn align_down(self, unit: Bytes) -> Self {
        Self::after(self.distance().align_down(unit))
    }

    /// Returns whether this position is a multiple of `unit` (of a zero `unit`: only zero is).
    fn is_aligned(self, unit: Bytes) -> bool {
        self.bytes().is_multiple_of(unit.0)
    }
}

impl Address for DeviceOffset {
    fn at(bytes: u64) -> Self {
        Self(bytes)
    }
    fn bytes(self) -> u64 {
        self.0
    }
}

impl Address for NamespaceOffset {
    fn at(bytes: u64) -> Self {
        Self(bytes)
    }
    fn bytes(self) -> u64 {
        self.0
    }
}

impl Address for PhysAddr {
    fn at(bytes: u64) -> Self {
        Self(bytes)
    }
    fn bytes(self) -> u64 {
        self.0
    }
}

impl<A: Address> Range<A> {
    /// Returns the `size` bytes from `base` on; `None` if their end does not fit in 64 bits.
    pub fn new(base: A, size: Bytes) -> Option<Self> {
        base.checked_add(size).map(|_| Self { base, size })
    }

    /// Returns the bytes from `base` up to, not including, `end`; `None` if `end` lies before `base`.
    pub fn between(base: A, end: A) -> Option<Self> {
        let size = end.offset_from(base)?;
        Some(Self { base, size })
    }

    /// Returns the `size` bytes from `base` on, or as many of them as there are before the end of the space.
    pub fn clamped(base: A, size: Bytes) -> Self {
        let left = Bytes(u64::MAX.wrapping_sub(base.bytes()));
        Self {
            base,
            size: size.min(left),
        }
    }

    /// Returns the first position.
    pub fn base(self) -> A {
        self.base
    }

    /// Returns the number of bytes.
    pub fn size(self) -> Bytes {
        self.size
    }

    /// Returns the position just after the last byte.
    pub fn end(self) -> A {
        // `new`, `between` and `clamped`, the only ways to make a range, see to it that this does not overflow.
        A::at(self.base.bytes().wrapping_add(self.size.0))
    }

    /// Returns whether the range holds no byte.
    pub fn is_empty(self) -> bool {
        self.size.0 == 0
    }

    /// Returns whether all of `inner` lies within this range.
    pub fn contains(self, inner: Self) -> bool {
        self.base <= inner.base && inner.end() <= self.end()
    }

    /// Returns whether a byte lies in both ranges.
    pub fn overlaps(self, other: Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.base < other.end() && other.base < self.end()
    }

    /// Returns the same bytes in another space, in which zero of this one lies at `zero`; `None` if they end beyond it.
    pub fn placed_at<B: Address>(self, zero: B) -> Option<Range<B>> {
        Range::new(zero.checked_add(self.base.distance())?, self.size)
    }

    /// Returns the same bytes in another space, whose zero lies at `zero` of this one; `None` if they begin before it.
    pub fn seen_from<B: Address>(self, zero: A) -> Option<Range<B>> {
        Range::new(B::after(self.base.offset_from(zero)?), self.size)
    }

    /// Returns the number of `unit`-aligned blocks that the range touches; `None` if `unit` is zero.
    pub fn blocks_touched(self, unit: Bytes) -> Option<u64> {
        let unit = NonZeroU64::new(unit.0)?;
        if self.is_empty() {
            return Some(0);
        }
        let first = self.base.bytes() / unit;
        let last = self.end().bytes().checked_sub(1)? / unit;
        last.checked_sub(first)?.checked_add(1)
    }
}

impl Bytes {
    /// Returns the first multiple of `unit` that is at least this size; `None` if `unit` is zero or on overflow.
    pub fn align_up(self, unit: Bytes) -> Option<Bytes> {
        self.0.checked_next_multiple_of(unit.0).map(Bytes)
    }

    /// Returns the last multiple of `unit` that is at most this size; the size itself if `unit` is zero.
    pub fn align_down(self, unit: Bytes) -> Bytes {
        let rest = self.0.checked_rem(unit.0).unwrap_or(0);
        Bytes(self.0.saturating_sub(rest))
    }

    /// Returns whether this size is a multiple of `unit` (of a zero `unit`: only zero is).
    pub fn is_aligned(self, unit: Bytes) -> bool {
        self.0.is_multiple_of(unit.0)
    }

    /// Returns the sum; `None` on overflow.
    pub fn checked_add(self, other: Bytes) -> Option<Bytes> {
        self.0.checked_add(other.0).map(Bytes)
    }

    /// Returns the difference; `None` if `other` is larger.
    pub fn checked_sub(self, other: Bytes) -> Option<Bytes> {
        self.0.checked_sub(other.0).map(Bytes)
    }

    /// Returns `count` times this size; `None` on overflow.
    pub fn checked_mul(self, count: u64) -> Option<Bytes> {
        self.0.checked_mul(count).map(Bytes)
    }
}

impl LbaSize {
    /// Returns the bytes of one block.
    pub fn bytes(self) -> Bytes {
        match self {
            Self::B512 => Bytes(512),
            Self::B4096 => Bytes(4096),
        }
    }

    /// Returns the block size of `bytes` bytes; `None` for any but 512 and 4096.
    pub fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// Returns the offset of a block; `None` on overflow.
    pub fn offset_of(self, lba: Lba) -> Option<DeviceOffset> {
        self.bytes().checked_mul(lba.0).map(DeviceOffset::after)
    }

    /// Returns the block that starts at `offset`; `None` if none does.
    pub fn lba_at(self, offset: DeviceOffset) -> Option<Lba> {
        offset
            .is_aligned(self.bytes())
            .then(|| offset.0.checked_div(self.bytes().0))
            .flatten()
            .map(Lba)
    }

    /// Returns the number of whole blocks in `size`.
    pub fn blocks_in(self, size: Bytes) -> u64 {
        size.0.checked_div(self.bytes().0).unwrap_or(0)
    }
}

/// Why a text is not a size or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a number with a known suffix.
    #[error(
        "not a number of bytes: write it as decimal or 0x hexadecimal digits, optionally with K, M, G or T (powers of 1024)"
    )]
    Malformed,
    /// Does not fit in 64 bits.
    #[error("larger than 64 bits can hold")]
    TooLarge,
}

fn parse_digits(text: &str) -> Result<u64, ParseError> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign; a size or an address has none.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(ParseError::Malformed);
    }
    u64::from_str_radix(digits, radix).map_err(|_| ParseError::TooLarge)
}

impl FromStr for Bytes {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // "B" alone is no suffix: it is a hexadecimal digit, and bytes are the default.
        let (number, unit) = ["K", "M", "G", "T"]
            .iter()
            .zip([1u64 << 10, 1 << 20, 1 << 30, 1 << 40])
            .find_map(|(suffix, unit)| {
                let text = text.strip_suffix("iB").unwrap_or(text);
                let number = text.strip_suffix(suffix);
                number
                    .or_else(|| strip_suffix_lowercase(text, suffix))
                    .map(|number| (number, unit))
            })
            .unwrap_or((text, 1));
        parse_digits(number)?
            .checked_mul(unit)
            .map(Bytes)
            .ok_or(ParseError::TooLarge)
    }
}

fn strip_suffix_lowercase<'t>(text: &'t str, suffix: &str) -> Option<&'t str> {
    let last = text.chars().next_back()?;
    suffix
        .chars()
        .all(|c| c.eq_ignore_ascii_case(&last))
        .then(|| text.strip_suffix(last))
        .flatten()
}

impl FromStr for PhysAddr {
    type Err = ParseError;

    /// Parses a number of bytes: `0x100000000` or `4G`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse().map(|Bytes(address)| PhysAddr(address))
    }
}

impl fmt::Display for Bytes {
    /// Writes the size in the largest binary unit that shows it exactly to two decimals, otherwise rounded (`16 MiB`, `1.50 GiB`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let whole = self.0 >> shift;
            if whole == 0 {
                continue;
            }
            let rest = self.0 & !(u64::MAX << shift);
            if rest == 0 {
                return write!(f, "{whole} {unit}");
            }
            let hundredths = (u128::from(rest) * 100) >> shift;
            return write!(f, "{whole}.{hundredths:02} {unit}");
        }
        write!(f, "{} B", self.0)
    }
}

impl fmt::Display for DeviceOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LBA {}", self.0)
    }
}

impl<A: Address + fmt::Display> fmt::Display for Range<A> {
    /// Writes `[base, end)` and the size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}) ({})", self.base, self.end(), self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn sizes_parse_with_binary_suffixes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("0x1000", 4096),
            ("0xB", 11),
            ("16K", 16 << 10),
            ("16k", 16 << 10),
            ("512M", 512 << 20),
            ("512MiB", 512 << 20),
            ("3G", 3 << 30),
            ("8T", 8 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "M", "+1", "-1", "1.5G", "12 M", "12Q", "0x", "iB", "1MM", "K1"] {
            assert_eq!(text.parse::<Bytes>(), Err(ParseError::Malformed), "{text}");
        }
        for text in ["18446744073709551616", "16777216T", "0x1ffffffffffffffff"] {
            assert_eq!(text.parse::<Bytes>(), Err(ParseError::TooLarge), "{text}");
        }
    }

    #[test]
    fn arithmetic_has_no_wrong_results() {
        assert_eq!(Bytes(5).checked_sub(Bytes(3)), Some(Bytes(2)));
        assert_eq!(Bytes(3).checked_sub(Bytes(5)), None);
        assert_eq!(LbaSize::from_bytes(512), Some(LbaSize::B512));
        assert_eq!(LbaSize::from_bytes(4096), Some(LbaSize::B4096));
        assert_eq!(LbaSize::from_bytes(1024), None);
        for size in [LbaSize::B512, LbaSize::B4096] {
            assert_eq!(LbaSize::from_bytes(size.bytes().0), Some(size));
            let offset = size.offset_of(Lba(7)).unwrap();
            assert_eq!(size.lba_at(offset), Some(Lba(7)));
            assert_eq!(size.lba_at(DeviceOffset(offset.0 + 1)), None);
        }
    }

    #[test]
    fn positions_are_shown_in_the_fields_notation() {
        assert_eq!(PhysAddr(0x1_0000_0000).to_string(), "0x100000000");
        assert_eq!(DeviceOffset(512).to_string(), "0x200");
        assert_eq!(Lba(34).to_string(), "LBA 34");
        let range = PhysRange::new(PhysAddr(0x1000), Bytes(8192)).unwrap();
        assert_eq!(range.to_string(), "[0x1000, 0x3000) (8 KiB)");
    }

    #[test]
    fn addresses_take_suffixes_as_sizes_do() {
        assert_eq!("0x100000000".parse(), Ok(PhysAddr(1 << 32)));
        assert_eq!("4294967296".parse(), Ok(PhysAddr(1 << 32)));
        assert_eq!("4G".parse(), Ok(PhysAddr(1 << 32)));
        assert_eq!("4GX".parse::<PhysAddr>(), Err(ParseError::Malformed));
    }

    #[test]
    fn sizes_print_in_the_largest_unit() {
        assert_eq!(Bytes(0).to_string(), "0 B");
        assert_eq!(Bytes(4096).to_string(), "4 KiB");
        assert_eq!(Bytes(3 << 29).to_string(), "1.50 GiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "16777215.99 TiB");
    }

    proptest! {
        #[test]
        fn bytes_are_the_same_in_each_space(zero in 0..1u64 << 40, base in 0..1u64 << 40, size in 0..1u64 << 40) {
            let range = DeviceRange::new(DeviceOffset(base), Bytes(size)).unwrap();
            let placed = range.placed_at(PhysAddr(zero)).unwrap();
            prop_assert_eq!(placed, PhysRange::new(PhysAddr(zero + base), Bytes(size)).unwrap());
            prop_assert_eq!(placed.seen_from(PhysAddr(zero)), Some(range));
            prop_assert_eq!(placed.base().offset_from(PhysAddr(zero)), Some(Bytes(base)));
            prop_assert_eq!(PhysAddr(zero).offset_from(PhysAddr(zero + base + 1)), None);
            prop_assert_eq!(placed.seen_from::<DeviceOffset>(PhysAddr(zero + base + 1)), None);
            prop_assert_eq!(range.placed_at(PhysAddr(u64::MAX - base - size)).map(PhysRange::size), Some(Bytes(size)));
            prop_assert_eq!(range.placed_at(PhysAddr(u64::MAX - base - size + 1)), None);
            prop_assert_eq!(DeviceOffset::after(Bytes(base)).distance(), Bytes(base));
        }

        #[test]
        fn a_range_touches_the_blocks_of_its_first_and_last_byte(base in 0..1u64 << 40, size in 1..1u64 << 30, shift in 12..31u32) {
            let unit = 1u64 << shift;
            let range = PhysRange::new(PhysAddr(base), Bytes(size)).unwrap();
            let expected = (base..base + size).last().unwrap() / unit - base / unit + 1;
            prop_assert_eq!(range.blocks_touched(Bytes(unit)), Some(expected));
        }

        #[test]
        fn overlap_is_symmetric_and_means_a_common_byte(a in 0..100u64, b in 0..100u64, m in 0..20u64, n in 0..20u64) {
            let left = DeviceRange::new(DeviceOffset(a), Bytes(m)).unwrap();
            let right = DeviceRange::new(DeviceOffset(b), Bytes(n)).unwrap();
            let common = (a..a + m).any(|x| (b..b + n).contains(&x));
            prop_assert_eq!(left.overlaps(right), common);
            prop_assert_eq!(right.overlaps(left), common);
        }

        #[test]
        fn what_overflows_is_no_range(base: u64, size: u64) {
            prop_assert_eq!(PhysRange::new(PhysAddr(base), Bytes(size)).is_some(), base.checked_add(size).is_some());
        }
    }
}
