//! The layout of the platform operations, as `docs/hypercall.md` specifies it.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Xen's hypercall number of platform operations (`xen/include/public/xen.h`).
pub const HYPERVISOR_PLATFORM_OP: u64 = 7;
/// The version of the platform operations' interface (`xen/include/public/platform.h`).
pub const INTERFACE_VERSION: u32 = 0x0300_0001;
/// The operation that registers a range of persistent memory. Above mainline's numbers, which end at 66.
pub const PMEM_ADD: u32 = 80;
/// The operation that returns a registered range.
pub const PMEM_GET: u32 = 81;
/// The version of the operations' own structure.
pub const VERSION: u32 = 1;

/// The flag of [`PMEM_ADD`] that checks, says what is needed, and changes nothing.
const DRY_RUN: u32 = 1;

/// `struct xen_platform_op`: a command and a union of 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    command: u32,
    interface_version: u32,
    region: Region,
}

/// `struct xenpf_pmem_region`. Frames are machine frame numbers; an end is one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Region {
    version: u32,
    flags: u32,
    range_start: u64,
    range_end: u64,
    reserved_start: u64,
    reserved_end: u64,
    frames_needed: u64,
    frames_used: u64,
    index: u32,
    regions: u32,
    pad: [u64; 8],
}

const _: () = {
    assert!(size_of::<Request>() == 136);
    assert!(offset_of!(Request, region) == 8);
    assert!(offset_of!(Region, range_start) == 8);
    assert!(offset_of!(Region, frames_needed) == 40);
    assert!(offset_of!(Region, index) == 56);
    assert!(size_of::<Region>() == 128);
};

impl Request {
    /// The request to register a range.
    pub fn add(region: Region) -> Self {
        Self {
            command: PMEM_ADD,
            interface_version: INTERFACE_VERSION,
            region,
        }
    }

    /// The request for the range that was registered as number `index`.
    pub fn get(index: u32) -> Self {
        let region = Region {
            version: VERSION,
            index,
            ..Region::new_zeroed()
        };
        Self {
            command: PMEM_GET,
            ..Self::add(region)
        }
    }

    /// What Xen wrote back.
    pub fn answer(&self) -> &Region {
        &self.region
    }
}

impl Region {
    /// A range and its reserved area, each as its first frame and one past its last.
    pub fn new(range: (u64, u64), reserved: (u64, u64)) -> Self {
        Self {
            version: VERSION,
            range_start: range.0,
            range_end: range.1,
            reserved_start: reserved.0,
            reserved_end: reserved.1,
            ..Self::new_zeroed()
        }
    }

    /// The same, to be checked only.
    pub fn dry_run(self) -> Self {
        Self { flags: DRY_RUN, ..self }
    }

    /// The range: first frame, and one past the last.
    pub fn range(&self) -> (u64, u64) {
        (self.range_start, self.range_end)
    }

    /// The reserved area: first frame, and one past the last.
    pub fn reserved(&self) -> (u64, u64) {
        (self.reserved_start, self.reserved_end)
    }

    /// How many frames of the reserved area Xen needs.
    pub fn frames_needed(&self) -> u64 {
        self.frames_needed
    }

    /// How many frames of the reserved area Xen uses.
    pub fn frames_used(&self) -> u64 {
        self.frames_used
    }
}
