//! The CEDT: firmware's table of the addresses that CXL devices may have.
//!
//! Source: CXL Specification 3.1, chapter 9.18.1. `/sys/firmware/acpi/tables/CEDT` holds its bytes.

use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The size of an ACPI table's header (ACPI Specification 6.5, 5.2.6).
const HEADER: usize = 36;
/// The type of the structure that describes a window (CFMWS, 9.18.1.3).
const WINDOW: u8 = 1;
/// The restriction that lets a window be used for the memory of Type 3 devices (`Host-only Coherent`).
const TYPE_3: u16 = 1 << 1;
/// The restriction that lets a window be used for persistent memory.
const PERSISTENT: u16 = 1 << 3;

/// What each structure begins with.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Structure {
    kind: u8,
    reserved: u8,
    length: U16,
}

/// A window of physical addresses, up to the list of its targets.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Window {
    header: Structure,
    reserved: U32,
    base: U64,
    size: U64,
    interleave_ways: u8,
    interleave_arithmetic: u8,
    reserved_too: U16,
    granularity: U32,
    restrictions: U16,
    qos_group: U16,
}

/// Why bytes are not a CEDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotACedt {
    /// Too short, or of another signature.
    #[error("is not a CEDT")]
    Signature,
    /// Its checksum is wrong.
    #[error("has a wrong checksum")]
    Checksum,
}

/// Returns the windows that may hold persistent memory of Type 3 devices, in the order of the table. Whether there is any, and where in
/// them, is decided when a region is made.
///
/// The list ends at a structure that does not fit, as in Xen: what is missing then is refused by Xen, too.
///
/// # Errors
///
/// Why the bytes are not a CEDT.
pub fn windows(table: &[u8]) -> Result<Vec<PhysRange>, NotACedt> {
    let mut rest = table.get(HEADER..).ok_or(NotACedt::Signature)?;
    if !table.starts_with(b"CEDT") {
        return Err(NotACedt::Signature);
    }
    if table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
        return Err(NotACedt::Checksum);
    }
    let mut windows = Vec::new();
    while let Ok((structure, _)) = Structure::ref_from_prefix(rest) {
        let length = usize::from(structure.length.get());
        let Some((bytes, after)) = rest
            .split_at_checked(length)
            .filter(|_| length >= size_of::<Structure>())
        else {
            break;
        };
        if structure.kind == WINDOW
            && let Ok((window, _)) = Window::ref_from_prefix(bytes)
        {
            windows.extend(window.for_persistent_memory());
        }
        rest = after;
    }
    Ok(windows)
}

impl Window {
    /// Returns its range, if persistent memory may be there.
    fn for_persistent_memory(&self) -> Option<PhysRange> {
        let wanted = TYPE_3 | PERSISTENT;
        let size = self.size.get();
        if self.restrictions.get() & wanted != wanted || size == 0 {
            return None;
        }
        PhysRange::new(PhysAddr(self.base.get()), Bytes(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a table of these structures, with a checksum that is right.
    fn table(structures: &[Vec<u8>]) -> Vec<u8> {
        let mut table = b"CEDT".to_vec();
        table.resize(HEADER, 0);
        table.extend(structures.concat());
        let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        table[9] = sum.wrapping_neg();
        table
    }

    fn window(base: u64, size: u64, restrictions: u16) -> Vec<u8> {
        let mut bytes = vec![WINDOW, 0, 40, 0, 0, 0, 0, 0];
        bytes.extend(base.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(restrictions.to_le_bytes());
        bytes.extend([0, 0, 7, 0, 0, 0]);
        bytes
    }

    #[test]
    fn windows_for_persistent_memory_are_found() {
        let range = |base, size| PhysRange::new(PhysAddr(base), Bytes(size)).unwrap();
        let host_bridge = [vec![0, 0, 32, 0], vec![0; 28]].concat();
        for (structures, expected) in [
            (vec![], vec![]),
            (
                vec![host_bridge.clone(), window(1 << 36, 1 << 32, 0xf)],
                vec![range(1 << 36, 1 << 32)],
            ),
            // Volatile memory only, and Type 2 devices only.
            (
                vec![window(1 << 36, 1 << 32, 0b0110), window(1 << 36, 1 << 32, 0b1001)],
                vec![],
            ),
            (vec![window(1 << 36, 0, 0xf), window(u64::MAX, 2, 0xf)], vec![]),
            // The list ends at a structure without a length, or one that is longer than the table.
            (vec![vec![1, 0, 0, 0], window(1 << 36, 1 << 32, 0xf)], vec![]),
            (
                vec![window(1 << 36, 1 << 32, 0xf), vec![1, 0, 40, 0]],
                vec![range(1 << 36, 1 << 32)],
            ),
            // Too short for a window.
            (
                vec![vec![1, 0, 4, 0], window(1 << 36, 1 << 32, 0xa)],
                vec![range(1 << 36, 1 << 32)],
            ),
        ] {
            assert_eq!(windows(&table(&structures)), Ok(expected), "{structures:x?}");
        }
        assert_eq!(windows(b"CEDT"), Err(NotACedt::Signature));
        assert_eq!(windows(&[0; 64]), Err(NotACedt::Signature));
        let mut wrong = table(&[]);
        wrong[10] ^= 1;
        assert_eq!(windows(&wrong), Err(NotACedt::Checksum));
    }

    #[test]
    fn any_length_and_any_bytes_are_read_to_an_end() {
        let whole = [window(1 << 36, 1 << 32, 0xf), window(1 << 40, 1 << 32, 0xf)].concat();
        for length in 0..=whole.len() {
            let (short, _) = whole.split_at(length);
            let found = windows(&table(&[short.to_vec()])).unwrap();
            assert!(found.len() <= 2, "{length}: {found:?}");
            for byte in [0, 1, 0x7f, 0xff] {
                let mut mutated = whole.clone();
                if let Some(place) = mutated.get_mut(length) {
                    *place = byte;
                }
                windows(&table(&[mutated])).unwrap();
            }
        }
    }
}
