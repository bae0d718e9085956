//! The NFIT: the firmware's table of persistent memory, for the time before a driver is loaded.
//!
//! Source: ACPI Specification 6.5, chapter 5.2.25. `/sys/firmware/acpi/tables/NFIT` holds its bytes.

mod table;
#[cfg(test)]
mod tests;

pub use table::Table;

use crate::obstacle::Obstacle;
use uuid::{Uuid, uuid};
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The type of a system physical address range that is byte-addressable persistent memory.
pub const PERSISTENT_MEMORY: Uuid = uuid!("66f0d379-b4f3-4074-ac43-0d3318b78cdb");
/// The table's header and the four reserved bytes behind it.
const HEADER: usize = 40;
/// The types of the structures that are read.
const SPA_RANGE: u16 = 0;
const REGION_MAPPING: u16 = 1;
/// The type of a structure that is only written.
const CONTROL_REGION: u16 = 4;

/// What a table says of persistent memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nfit {
    /// The ranges of persistent memory, in the order of their addresses.
    pub ranges: Vec<Range>,
    /// What is left out, in the order of the table.
    pub left_out: Vec<LeftOut>,
}

/// A range of persistent memory as firmware describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its number in the table.
    pub index: u16,
    /// Its addresses.
    pub range: PhysRange,
    /// The state of the NVDIMMs behind it, all of them taken together.
    pub state: State,
    /// Whether it may be mapped write-back, as Xen maps its structures: bit `EFI_MEMORY_WB` of its memory mapping attributes (UEFI
    /// Specification 2.10, 7.2.3).
    pub write_back: bool,
}

impl Range {
    /// Returns why Xen must not keep anything there; `None` if there is no reason.
    pub const fn obstacle(&self) -> Option<Obstacle> {
        match self.state.obstacle() {
            None if !self.write_back => Some(Obstacle::NotWriteBack),
            obstacle => obstacle,
        }
    }
}

/// The attribute of memory that may be mapped write-back (`EFI_MEMORY_WB`).
const WRITE_BACK: u64 = 8;

/// A part of a table that means nothing, and does not make the rest wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeftOut {
    /// A range of no bytes.
    #[error("range {0} is empty")]
    Empty(u16),
    /// A range that ends beyond the address space.
    #[error("range {0} ends beyond 64 bits")]
    Beyond(u16),
    /// A range of persistent memory with the number 0, which no structure can refer to.
    #[error("a range has the number 0, which is reserved")]
    Unnumbered,
    /// The table's rest, which no structure begins.
    #[error("no structure begins at offset {offset:#x}: the {bytes} bytes from there on are not read")]
    Rest {
        /// Where it begins in the table.
        offset: usize,
        /// Its bytes.
        bytes: usize,
    },
}

/// What firmware says of NVDIMMs: bits of `NVDIMM State Flags` (ACPI Specification 6.5, 5.2.25.3).
///
/// `docs/trust.md` says which of them keep Xen away, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub u16);

impl State {
    /// The last save to the medium failed.
    pub const SAVE_FAILED: Self = Self(1 << 0);
    /// The last restore from the medium failed.
    pub const RESTORE_FAILED: Self = Self(1 << 1);
    /// The platform could not flush its buffers to the NVDIMM.
    pub const FLUSH_FAILED: Self = Self(1 << 2);
    /// The NVDIMM cannot save what is written from now on.
    pub const NOT_ARMED: Self = Self(1 << 3);
    /// Firmware did not map the NVDIMM.
    pub const MAP_FAILED: Self = Self(1 << 6);

    /// Returns the bits of both.
    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has_any_of(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns why Xen must not keep anything there; `None` if there is no reason.
    pub const fn obstacle(self) -> Option<Obstacle> {
        if self.has_any_of(Self::MAP_FAILED) {
            Some(Obstacle::NotMapped)
        } else if self.has_any_of(Self::NOT_ARMED) {
            Some(Obstacle::NotArmed)
        } else {
            None
        }
    }

    /// Returns whether something that was written earlier may be lost. That is for the owner of the data, and does not keep Xen away.
    pub const fn has_lost_data(self) -> bool {
        self.has_any_of(Self::SAVE_FAILED.and(Self::RESTORE_FAILED).and(Self::FLUSH_FAILED))
    }
}

/// Why bytes are not an NFIT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnNfit {
    /// Too short, or of another signature.
    #[error("is not an NFIT")]
    Signature,
    /// Its length is not that of the bytes.
    #[error("declares {says} bytes but has {found}")]
    Length {
        /// What it says.
        says: u32,
        /// What there is.
        found: usize,
    },
    /// Its bytes do not sum to zero.
    #[error("does not match the checksum that it contains")]
    Checksum,
    /// A structure is too short for its kind, or ends beyond the table.
    #[error("has a structure at offset {0:#x} that does not fit")]
    Structure(usize),
}

/// `System Physical Address (SPA) Range Structure`, without what some firmware appends.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
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
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
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

/// `NVDIMM Control Region Structure`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct ControlRegion {
    kind: U16,
    length: U16,
    index: U16,
    vendor_id: U16,
    device_id: U16,
    revision_id: U16,
    subsystem_vendor_id: U16,
    subsystem_device_id: U16,
    subsystem_revision_id: U16,
    valid_fields: u8,
    manufacturing_location: u8,
    manufacturing_date: U16,
    reserved: U16,
    serial_number: U32,
    format_interface_code: U16,
    block_control_windows: U16,
    window_size: U64,
    command_offset: U64,
    command_size: U64,
    status_offset: U64,
    status_size: U64,
    flags: U16,
    reserved_end: [u8; 6],
}

const _: () = {
    assert!(size_of::<ControlRegion>() == 80);
    assert!(size_of::<SpaRange>() == 56);
    assert!(size_of::<RegionMapping>() == 48);
};

/// Reads a table. Leaves out volatile ranges and control regions, which are not persistent memory.
///
/// What does not fit is treated as Linux treats it (`drivers/acpi/nfit/core.c`, `add_table`, `acpi_nfit_register_region`): the
/// list ends at a structure without a length, and a structure of the wrong length makes the table worthless.
///
/// # Errors
///
/// Why the bytes are not an NFIT.
pub fn parse(table: &[u8]) -> Result<Nfit, NotAnNfit> {
    let mut nfit = Nfit::default();
    let mut mappings = Vec::new();
    let mut rest = body(table)?;
    while !rest.is_empty() {
        let offset = table.len().saturating_sub(rest.len());
        let fits = || NotAnNfit::Structure(offset);
        let kind_and_length = U16::read_from_prefix(rest)
            .ok()
            .and_then(|(kind, tail)| Some((kind.get(), U16::read_from_prefix(tail).ok()?.0.get())));
        let Some((kind, length @ 1..)) = kind_and_length else {
            nfit.left_out.push(LeftOut::Rest {
                offset,
                bytes: rest.len(),
            });
            break;
        };
        let (structure, after) = rest.split_at_checked(usize::from(length)).ok_or_else(fits)?;
        if structure.len() < 4 {
            return Err(fits());
        }
        match kind {
            SPA_RANGE => {
                let (spa, _) = SpaRange::ref_from_prefix(structure).map_err(|_| fits())?;
                nfit.take(spa);
            }
            REGION_MAPPING => {
                let (mapping, _) = RegionMapping::ref_from_prefix(structure).map_err(|_| fits())?;
                mappings.push(mapping);
            }
            _ => {}
        }
        rest = after;
    }
    for range in &mut nfit.ranges {
        range.state = state(range.index, &mappings);
    }
    nfit.ranges.sort_by_key(|range| range.range.base());
    Ok(nfit)
}

impl Nfit {
    fn take(&mut self, spa: &SpaRange) {
        if Uuid::from_bytes_le(spa.type_guid) != PERSISTENT_MEMORY {
            return;
        }
        let (index, size) = (spa.index.get(), Bytes(spa.size.get()));
        if index == 0 {
            self.left_out.push(LeftOut::Unnumbered);
        } else if size == Bytes(0) {
            self.left_out.push(LeftOut::Empty(index));
        } else if let Some(range) = PhysRange::new(PhysAddr(spa.base.get()), size) {
            self.ranges.push(Range {
                index,
                range,
                state: State::default(),
                write_back: spa.attributes.get() & WRITE_BACK != 0,
            });
        } else {
            self.left_out.push(LeftOut::Beyond(index));
        }
    }
}

/// Returns the state of the NVDIMMs behind a range. The flags of an NVDIMM are those of all its mappings taken together, to other ranges
/// too (`drivers/acpi/nfit/core.c`, `acpi_nfit_register_dimms`).
fn state(index: u16, mappings: &[&RegionMapping]) -> State {
    let behind: Vec<u32> = mappings
        .iter()
        .filter(|mapping| mapping.spa_range_index.get() == index)
        .map(|mapping| mapping.device_handle.get())
        .collect();
    mappings
        .iter()
        .filter(|mapping| behind.contains(&mapping.device_handle.get()))
        .fold(State::default(), |all, mapping| all.and(State(mapping.state.get())))
}

/// Returns the structures, once the table is known to be whole.
fn body(table: &[u8]) -> Result<&[u8], NotAnNfit> {
    if !table.starts_with(b"NFIT") {
        return Err(NotAnNfit::Signature);
    }
    let says = table
        .get(4..8)
        .and_then(|bytes| U32::read_from_bytes(bytes).ok())
        .ok_or(NotAnNfit::Signature)?
        .get();
    if usize::try_from(says) != Ok(table.len()) {
        return Err(NotAnNfit::Length {
            says,
            found: table.len(),
        });
    }
    if table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
        return Err(NotAnNfit::Checksum);
    }
    table.get(HEADER..).ok_or(NotAnNfit::Signature)
}
