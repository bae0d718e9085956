//! The layout of the platform operation, as `docs/hypercall.md` specifies it.

use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Xen's hypercall number of platform operations (`xen/include/public/xen.h`).
pub const HYPERVISOR_PLATFORM_OP: u64 = 7;
/// The version of the platform operations' interface (`xen/include/public/platform.h`).
pub const INTERFACE_VERSION: u32 = 0x0300_0001;
/// The operation that registers a range of persistent memory. Above mainline's numbers, which end at 66.
pub const PMEM_ADD: u32 = 80;
/// The version of the operation's own structure.
pub const VERSION: u32 = 1;

/// `struct xen_platform_op`: a command and a union of 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    command: u32,
    interface_version: u32,
    add: Add,
    rest: [u8; 128 - size_of::<Add>()],
}

/// `struct xenpf_pmem_add`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Add {
    version: u32,
    flags: u32,
    range_start: u64,
    range_end: u64,
    reserved_start: u64,
    reserved_end: u64,
    frames_needed: u64,
    frames_used: u64,
}

const _: () = {
    assert!(size_of::<Request>() == 136);
    assert!(offset_of!(Request, add) == 8);
    assert!(offset_of!(Add, range_start) == 8);
    assert!(offset_of!(Add, frames_needed) == 40);
    assert!(size_of::<Add>() == 56);
};

impl Request {
    /// The request to register a range.
    pub fn add(add: Add) -> Self {
        Self {
            command: PMEM_ADD,
            interface_version: INTERFACE_VERSION,
            add,
            rest: [0; _],
        }
    }

    /// What Xen wrote back.
    pub fn answer(&self) -> &Add {
        &self.add
    }
}

impl Add {
    /// The ranges as machine frame numbers: first, and one past the last.
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

    /// How many frames of the reserved area Xen needs.
    pub fn frames_needed(&self) -> u64 {
        self.frames_needed
    }

    /// How many frames of the reserved area Xen uses.
    pub fn frames_used(&self) -> u64 {
        self.frames_used
    }
}
