//! An NFIT to be: what the parser reads, written.

use super::{
    CONTROL_REGION, ControlRegion, HEADER, PERSISTENT_MEMORY, REGION_MAPPING, RegionMapping, SPA_RANGE, SpaRange, State,
};
use uuid::Uuid;
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Where the table's length, revision and checksum stand (ACPI Specification 6.5, 5.2.6).
const LENGTH: std::ops::Range<usize> = 4..8;
const REVISION: usize = 8;
const CHECKSUM: usize = 9;
/// The memory type of a range: write-back, and not to be forgotten (UEFI `EFI_MEMORY_WB | EFI_MEMORY_NV`).
const WRITE_BACK_NON_VOLATILE: u64 = 0x8008;

/// Whose tables these are.
const OEM: (std::ops::Range<usize>, &[u8; 26]) = (10..36, b"XENPMMXENPMEM \x01\0\0\0XPMM\x01\0\0\0");
/// A vendor that JEDEC has given no number.
const VENDOR: u16 = 1;
/// Region format interface code: byte-addressable, without energy source (JEDEC Annex L, release 3; Linux `NFIT_FIC_BYTEN`).
const BYTE_ADDRESSABLE: u16 = 0x301;

/// The structures of a table, in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct Table {
    structures: Vec<u8>,
}

impl Table {
    /// Adds a range of persistent memory. 0 is not a number of a range.
    #[must_use]
    pub fn range(self, index: u16, range: PhysRange) -> Self {
        self.range_of(PERSISTENT_MEMORY, index, range.base(), range.size())
    }

    /// Adds a range of any type, whether it makes sense or not.
    #[must_use]
    pub fn range_of(self, kind: Uuid, index: u16, base: PhysAddr, size: Bytes) -> Self {
        self.range_as(kind, index, base, size, WRITE_BACK_NON_VOLATILE)
    }

    /// Adds a range with these memory mapping attributes (UEFI's `EFI_MEMORY_*`).
    #[must_use]
    pub fn range_as(self, kind: Uuid, index: u16, base: PhysAddr, size: Bytes, attributes: u64) -> Self {
        let mut range = SpaRange::new_zeroed();
        range.kind = U16::new(SPA_RANGE);
        range.length = length_of(&range);
        range.index = U16::new(index);
        range.type_guid = kind.to_bytes_le();
        range.base = U64::new(base.0);
        range.size = U64::new(size.0);
        range.attributes = U64::new(attributes);
        self.structure(range.as_bytes())
    }

    /// Adds the mapping of an NVDIMM to the range `index`.
    #[must_use]
    pub fn mapping(self, device_handle: u32, index: u16, state: State) -> Self {
        let mut mapping = RegionMapping::new_zeroed();
        mapping.kind = U16::new(REGION_MAPPING);
        mapping.length = length_of(&mapping);
        mapping.device_handle = U32::new(device_handle);
        mapping.spa_range_index = U16::new(index);
        mapping.interleave_ways = U16::new(1);
        mapping.state = U16::new(state.0);
        self.structure(mapping.as_bytes())
    }

    /// Adds a range of persistent memory with one NVDIMM behind it that is the range and nothing else, as Linux wants it described: a
    /// mapping and a control region of the same number. `index` is also the NVDIMM's handle, the `_ADR` of its device below `ACPI0012`.
    /// The serial number must be the same at each boot: Linux makes the names of NVDIMMs and regions' cookies from it.
    #[must_use]
    pub fn nvdimm(self, index: u16, range: PhysRange, serial: u32) -> Self {
        let mut mapping = RegionMapping::new_zeroed();
        mapping.kind = U16::new(REGION_MAPPING);
        mapping.length = length_of(&mapping);
        mapping.device_handle = U32::new(index.into());
        mapping.physical_id = U16::new(index);
        mapping.spa_range_index = U16::new(index);
        mapping.control_region_index = U16::new(index);
        mapping.size = U64::new(range.size().0);
        mapping.interleave_ways = U16::new(1);
        let mut control = ControlRegion::new_zeroed();
        control.kind = U16::new(CONTROL_REGION);
        control.length = length_of(&control);
        control.index = U16::new(index);
        control.vendor_id = U16::new(VENDOR);
        control.serial_number = U32::new(serial);
        control.format_interface_code = U16::new(BYTE_ADDRESSABLE);
        self.range(index, range)
            .structure(mapping.as_bytes())
            .structure(control.as_bytes())
    }

    /// Adds the bytes of a structure, or bytes that replace one.
    #[must_use]
    pub fn structure(mut self, bytes: &[u8]) -> Self {
        self.structures.extend(bytes);
        self
    }

    /// Returns the bytes of the whole table; `None` if it is longer than a table can be.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = b"NFIT".to_vec();
        bytes.resize(HEADER, 0);
        bytes.extend(&self.structures);
        let length = u32::try_from(bytes.len()).ok()?;
        bytes.get_mut(LENGTH)?.copy_from_slice(&length.to_le_bytes());
        *bytes.get_mut(REVISION)? = 1;
        bytes.get_mut(OEM.0)?.copy_from_slice(OEM.1);
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        *bytes.get_mut(CHECKSUM)? = sum.wrapping_neg();
        Some(bytes)
    }
}

/// Returns the length that a structure says of itself; each is far shorter than 64 KiB.
fn length_of<T>(structure: &T) -> U16 {
    U16::new(u16::try_from(size_of_val(structure)).unwrap_or(u16::MAX))
}
