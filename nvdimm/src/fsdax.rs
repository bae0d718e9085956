//! What Linux wants of a range of persistent memory before it makes an fsdax namespace of it.
//!
//! A partition that goes to a guest is a namespace there, so the same holds for it.
//!
//! Sources: Linux `drivers/nvdimm/region_devs.c` (`default_align`, `MEMREMAP_COMPAT_ALIGN_MAX`), `pfn_devs.c` (`nd_pfn_init`);
//! ndctl `ndctl/namespace.c` (`validate_namespace_options`).

use std::fmt;
use xen_pmem_format::units::{Address as _, Bytes, PhysAddr, PhysRange, SUPERPAGE};

/// The size must be a multiple of this: `ndctl create-namespace` refuses others.
pub const SIZE_UNIT: Bytes = Bytes(16 << 20);
/// The physical address must be a multiple of this: the kernel refuses others, and no huge page fits there.
pub const START_UNIT: Bytes = SUPERPAGE;

/// Why a range cannot become an fsdax namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Its address.
    Start(PhysAddr),
    /// Its size.
    Size(Bytes),
}

/// Returns what keeps a range from becoming an fsdax namespace, if anything does.
pub fn objection(range: PhysRange) -> Option<Objection> {
    if !range.base().is_aligned(START_UNIT) {
        return Some(Objection::Start(range.base()));
    }
    if range.is_empty() || !range.size().is_aligned(SIZE_UNIT) {
        return Some(Objection::Size(range.size()));
    }
    None
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(start) => write!(f, "its address {start} is not a multiple of {START_UNIT}"),
            Self::Size(size) => write!(f, "its size of {} bytes is not a multiple of {SIZE_UNIT}", size.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_and_size_must_be_multiples() {
        const MIB: u64 = 1 << 20;
        for (base, size, expected) in [
            (1 << 32, 16 * MIB, None),
            (2 * MIB, 160 * MIB, None),
            (2 * MIB, 0, Some(Objection::Size(Bytes(0)))),
            (2 * MIB, 18 * MIB, Some(Objection::Size(Bytes(18 * MIB)))),
            (2 * MIB, 16 * MIB + 512, Some(Objection::Size(Bytes(16 * MIB + 512)))),
            (MIB, 16 * MIB, Some(Objection::Start(PhysAddr(MIB)))),
            (MIB, 18 * MIB, Some(Objection::Start(PhysAddr(MIB)))),
        ] {
            let range = PhysRange::new(PhysAddr(base), Bytes(size)).unwrap();
            assert_eq!(objection(range), expected, "{range}");
        }
    }
}
