//! The NFIT: firmware's table of persistent memory, where there is no driver to ask.
//!
//! Source: ACPI Specification 6.5, chapter 5.2.25. `/sys/firmware/acpi/tables/NFIT` holds its bytes.

use uuid::{Uuid, uuid};
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The type of a system physical address range that is byte-addressable persistent memory.
const PERSISTENT_MEMORY: Uuid = uuid!("66f0d379-b4f3-4074-ac43-0d3318b78cdb");
/// The table's header and the four reserved bytes behind it.
const HEADER: usize = 40;
/// The types of the structures that are read.
const SPA_RANGE: u16 = 0;
const REGION_MAPPING: u16 = 1;

/// A range of persistent memory as firmware describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its number in the table.
    pub index: u16,
    /// Its addresses.
    pub range: PhysRange,
    /// What is wrong with the NVDIMMs behind it.
    pub state: State,
}

/// What firmware says of the NVDIMMs behind a range, all of them taken together (bits of `NVDIMM State Flags`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub u16);

impl State {
    const SAVE_FAILED: u16 = 1 << 0;
    const RESTORE_FAILED: u16 = 1 << 1;
    const FLUSH_FAILED: u16 = 1 << 2;
    const NOT_ARMED: u16 = 1 << 3;
    const MAP_FAILED: u16 = 1 << 6;

    /// Whether its content can be trusted to be what was written and to stay so.
    pub fn is_sound(self) -> bool {
        let bad = Self::SAVE_FAILED | Self::RESTORE_FAILED | Self::FLUSH_FAILED | Self::NOT_ARMED | Self::MAP_FAILED;
        self.0 & bad == 0
    }
}

/// Why bytes are not an NFIT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// Too short, or of another signature.
    #[error("is no NFIT")]
    Signature,
    /// Its length is not that of the bytes.
    #[error("says that it is {says} bytes long, there are {found}")]
    Length {
        /// What it says.
        says: u32,
        /// What there is.
        found: usize,
    },
    /// Its bytes do not sum to zero.
    #[error("does not have the checksum that it says")]
    Checksum,
    /// A structure is too short, or ends beyond the table.
    #[error("has a structure at offset {0:#x} that does not fit")]
    Structure(usize),
    /// A range ends beyond the address space.
    #[error("has range {0} that ends beyond 64 bits")]
    Range(u16),
}

/// `System Physical Address (SPA) Range Structure`, without what some firmware appends.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SpaRange {
    kind: U16,
    length: U16,
    index: U16,
    flags: U16,
    reserved: U32,
    proximity_domain: U32,
    type_guid: [u8; 16],
    base: U64,
    size: U64,
    attributes: U64,
}

/// `NVDIMM Region Mapping Structure`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RegionMapping {
    kind: U16,
    length: U16,
    device_handle: U32,
    physical_id: U16,
    region_id: U16,
    spa_range_index: U16,
    control_region_index: U16,
    size: U64,
    offset: U64,
    device_base: U64,
    interleave_index: U16,
    interleave_ways: U16,
    state: U16,
    reserved: U16,
}

const _: () = {
    assert!(size_of::<SpaRange>() == 56);
    assert!(size_of::<RegionMapping>() == 48);
};

/// Reads the ranges of persistent memory, in the order of their addresses. Volatile ranges and control regions are left out.
///
/// # Errors
///
/// Why the bytes are no NFIT.
pub fn ranges(table: &[u8]) -> Result<Vec<Range>, Invalid> {
    let body = body(table)?;
    let mut ranges = Vec::new();
    let mut states: Vec<(u16, u16)> = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let at = table.len().saturating_sub(rest.len());
        let fits = || Invalid::Structure(at);
        let (kind, tail) = U16::read_from_prefix(rest).map_err(|_| fits())?;
        let (length, _) = U16::read_from_prefix(tail).map_err(|_| fits())?;
        let (structure, after) = rest.split_at_checked(usize::from(length.get())).ok_or_else(fits)?;
        if structure.len() < 4 {
            return Err(fits());
        }
        match kind.get() {
            SPA_RANGE => {
                let (spa, _) = SpaRange::ref_from_prefix(structure).map_err(|_| fits())?;
                if Uuid::from_bytes_le(spa.type_guid) == PERSISTENT_MEMORY {
                    let range = PhysRange::new(PhysAddr(spa.base.get()), Bytes(spa.size.get()));
                    let range = range.ok_or(Invalid::Range(spa.index.get()))?;
                    ranges.push(Range {
                        index: spa.index.get(),
                        range,
                        state: State::default(),
                    });
                }
            }
            REGION_MAPPING => {
                let (mapping, _) = RegionMapping::ref_from_prefix(structure).map_err(|_| fits())?;
                states.push((mapping.spa_range_index.get(), mapping.state.get()));
            }
            _ => {}
        }
        rest = after;
    }
    for range in &mut ranges {
        let behind = states.iter().filter(|(index, _)| *index == range.index);
        range.state = State(behind.fold(0, |all, (_, state)| all | state));
    }
    ranges.sort_by_key(|range| range.range.base());
    Ok(ranges)
}

/// The structures, once the table is known to be whole.
fn body(table: &[u8]) -> Result<&[u8], Invalid> {
    if !table.starts_with(b"NFIT") {
        return Err(Invalid::Signature);
    }
    let says = table
        .get(4..8)
        .and_then(|bytes| U32::read_from_bytes(bytes).ok())
        .ok_or(Invalid::Signature)?
        .get();
    if usize::try_from(says) != Ok(table.len()) {
        return Err(Invalid::Length {
            says,
            found: table.len(),
        });
    }
    if table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
        return Err(Invalid::Checksum);
    }
    table.get(HEADER..).ok_or(Invalid::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(structures: &[Vec<u8>]) -> Vec<u8> {
        let mut table = b"NFIT".to_vec();
        table.resize(HEADER, 0);
        table.extend(structures.iter().flatten());
        let length = u32::try_from(table.len()).unwrap();
        table[4..8].copy_from_slice(&length.to_le_bytes());
        let sum = table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        table[9] = sum.wrapping_neg();
        table
    }

    fn spa(index: u16, guid: Uuid, base: u64, size: u64) -> Vec<u8> {
        let mut bytes = vec![0; 56];
        bytes[2] = 56;
        bytes[4..6].copy_from_slice(&index.to_le_bytes());
        bytes[16..32].copy_from_slice(&guid.to_bytes_le());
        bytes[32..40].copy_from_slice(&base.to_le_bytes());
        bytes[40..48].copy_from_slice(&size.to_le_bytes());
        bytes
    }

    fn mapping(index: u16, state: u16) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        bytes[0] = 1;
        bytes[2] = 48;
        bytes[12..14].copy_from_slice(&index.to_le_bytes());
        bytes[44..46].copy_from_slice(&state.to_le_bytes());
        bytes
    }

    #[test]
    fn persistent_ranges_are_found_with_what_is_wrong_with_them() {
        let volatile = Uuid::from_u128(7);
        let mut long = spa(3, PERSISTENT_MEMORY, 1 << 33, 1 << 29);
        long.extend([0; 8]);
        long[2] = 64;
        let found = ranges(&table(&[
            long,
            mapping(1, 0),
            mapping(3, 0),
            mapping(3, 1 << 3),
            vec![9, 0, 8, 0, 1, 2, 3, 4],
            spa(1, PERSISTENT_MEMORY, 1 << 32, 1 << 29),
            spa(2, volatile, 1 << 34, 1 << 29),
        ]));
        let range = |base: u64| PhysRange::new(PhysAddr(base), Bytes(1 << 29)).unwrap();
        let expected = [
            Range {
                index: 1,
                range: range(1 << 32),
                state: State(0),
            },
            Range {
                index: 3,
                range: range(1 << 33),
                state: State(8),
            },
        ];
        assert_eq!(found.unwrap(), expected);
        assert!(State(0).is_sound() && State(1 << 4).is_sound() && !State(8).is_sound());
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let good = table(&[spa(1, PERSISTENT_MEMORY, 1 << 32, 1 << 29)]);
        assert_eq!(ranges(&[]), Err(Invalid::Signature));
        assert_eq!(ranges(b"APIC"), Err(Invalid::Signature));
        assert_eq!(ranges(b"NFIT"), Err(Invalid::Signature));
        let short = &good[..good.len() - 1];
        assert!(matches!(ranges(short), Err(Invalid::Length { .. })));
        let mut flipped = good.clone();
        flipped[60] ^= 1;
        assert_eq!(ranges(&flipped), Err(Invalid::Checksum));
        for length in [0, 3, 55, 57] {
            let mut structure = spa(1, PERSISTENT_MEMORY, 0, 4096);
            structure[2] = length;
            assert!(
                matches!(ranges(&table(&[structure])), Err(Invalid::Structure(_))),
                "{length}"
            );
        }
        assert_eq!(ranges(&table(&[vec![0, 0, 3]])), Err(Invalid::Structure(HEADER)));
        assert_eq!(
            ranges(&table(&[spa(5, PERSISTENT_MEMORY, u64::MAX, 2)])),
            Err(Invalid::Range(5))
        );
    }
}
