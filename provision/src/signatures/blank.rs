//! Where something other than zeros is.

use std::io;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange};

/// What is read at once.
const PIECE: Bytes = Bytes(1 << 20);

/// Returns the first byte in `ranges`, and outside of `known`, that is not zero. What is known to be a hole is not read.
///
/// # Errors
///
/// If the device cannot be read there.
pub(super) fn first_data<D: ReadAt + ?Sized>(
    device: &D,
    ranges: impl IntoIterator<Item = DeviceRange>,
    known: &[DeviceRange],
) -> io::Result<Option<DeviceOffset>> {
    let mut piece = Vec::new();
    for range in ranges {
        let mut from = range.base();
        while let Some(at) = device.next_data(from)
            && let Some(rest) = DeviceRange::between(at, range.end()).filter(|rest| !rest.is_empty())
        {
            let part = DeviceRange::clamped(at, rest.size().min(PIECE));
            piece.resize(usize::try_from(part.size().0).map_err(io::Error::other)?, 0);
            device.read_exact_at(at, &mut piece)?;
            for known in known {
                clear(&mut piece, part, *known);
            }
            let first = first_not_zero(&piece).and_then(|first| u64::try_from(first).ok());
            if let Some(offset) = first.and_then(|first| at.checked_add(Bytes(first))) {
                return Ok(Some(offset));
            }
            from = part.end();
        }
    }
    Ok(None)
}

/// Zeroes what `known` covers of the bytes of `part`.
fn clear(bytes: &mut [u8], part: DeviceRange, known: DeviceRange) {
    let within = |offset: DeviceOffset| {
        let clamped = offset.clamp(part.base(), part.end());
        usize::try_from(clamped.offset_from(part.base()).unwrap_or_default().0).unwrap_or(usize::MAX)
    };
    if let Some(bytes) = bytes.get_mut(within(known.base())..within(known.end())) {
        bytes.fill(0);
    }
}

/// Returns the position of the first byte that is not zero. Whole blocks are compared first: of a blank device all are zero.
pub(super) fn first_not_zero(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 4096;
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let zeros = blocks.iter().take_while(|block| **block == [0; BLOCK]).count();
    let from = zeros.checked_mul(BLOCK)?;
    let rest = bytes.get(from..)?.iter().position(|byte| *byte != 0)?;
    from.checked_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_not_zero_is_found() {
        let mut bytes = vec![0; 3 * 4096 + 5];
        assert_eq!(first_not_zero(&bytes), None);
        assert_eq!(first_not_zero(&[]), None);
        for place in [3 * 4096 + 4, 3 * 4096, 8192, 8191, 4096, 1, 0] {
            bytes[place] = 1;
            assert_eq!(first_not_zero(&bytes), Some(place));
        }
    }

    #[test]
    fn only_the_ranges_are_looked_at_and_not_what_is_known() {
        let range = |base, end| DeviceRange::between(DeviceOffset(base), DeviceOffset(end)).unwrap();
        let ranges = [range(0, 100), range((2 << 20) - 5, 3 << 20)];
        let known = [range(10, 20), range((2 << 20) + 7, (2 << 20) + 9)];
        for (place, expected) in [
            (0, true),
            (9, true),
            (10, false),
            (19, false),
            (20, true),
            (99, true),
            (100, false),
            ((2 << 20) - 6, false),
            ((2 << 20) - 5, true),
            ((2 << 20) + 6, true),
            ((2 << 20) + 7, false),
            ((2 << 20) + 8, false),
            ((2 << 20) + 9, true),
            ((3 << 20) - 1, true),
            (3 << 20, false),
        ] {
            let mut device = vec![0u8; 4 << 20];
            device[place] = 1;
            let found = first_data(&device, ranges, &known).unwrap();
            let place = DeviceOffset(u64::try_from(place).unwrap());
            assert_eq!(found, expected.then_some(place), "{place}");
        }
    }
}
