//! The layout of the platform operations, as `docs/hypercall.md` specifies it.

use core::ffi::CStr;
use core::mem::{offset_of, size_of};
use xen_pmem_format::units::{Frame, FrameRange};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Xen's hypercall number of platform operations (`xen/include/public/xen.h`).
pub const HYPERVISOR_PLATFORM_OP: u64 = 7;
/// The version of the platform operations' interface (`xen/include/public/platform.h`).
pub const INTERFACE_VERSION: u32 = 0x0300_0001;

/// The node of the hypervisor's file system that holds the version of the operations, as an unsigned integer.
///
/// A hypervisor without the operations does not have the node. To such a hypervisor the numbers of the operations may mean something
/// else.
pub const NODE: &CStr = c"/pmem/abi";
/// The node of hypfs that says that guests can be given partitions, and its value then.
pub const GUESTS: (&CStr, u32) = (c"/pmem/domctl", 1);
/// The version of numbers and layout that this module describes.
pub const VERSION: u32 = 1;

/// The flag of the operation that registers a range: Xen checks, says what it needs, and changes nothing.
const DRY_RUN: u32 = 1;

/// The operations of a hypervisor that has said that it has them.
///
/// This is the only way to make a [`Request`]: nothing else knows the numbers, so no operation is sent on a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations {
    /// Registers a range of persistent memory.
    add: u32,
    /// Returns a registered range.
    get: u32,
}

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
    flags: u32,
    index: u32,
    range_start: u64,
    range_end: u64,
    reserved_start: u64,
    reserved_end: u64,
    frames_needed: u64,
    frames_used: u64,
    regions: u32,
    pad: [u32; 17],
}

const _: () = {
    assert!(size_of::<Request>() == 136);
    assert!(offset_of!(Request, region) == 8);
    assert!(offset_of!(Region, index) == 4);
    assert!(offset_of!(Region, range_start) == 8);
    assert!(offset_of!(Region, frames_needed) == 40);
    assert!(offset_of!(Region, regions) == 56);
    assert!(size_of::<Region>() == 128);
};

impl Operations {
    /// Returns the operations of a hypervisor whose [`NODE`] holds this version. `None` if this module does not know the version.
    pub fn of(version: u32) -> Option<Self> {
        (version == VERSION).then_some(Self { add: 67, get: 68 })
    }

    /// Returns the request to register a range.
    pub fn to_add(self, region: Region) -> Request {
        Request {
            command: self.add,
            interface_version: INTERFACE_VERSION,
            region,
        }
    }

    /// Returns the request for the range that was registered as number `index`.
    pub fn to_get(self, index: u32) -> Request {
        Request {
            command: self.get,
            interface_version: INTERFACE_VERSION,
            region: Region {
                index,
                ..Region::new_zeroed()
            },
        }
    }
}

impl Request {
    /// Returns what Xen wrote back.
    pub fn answer(&self) -> &Region {
        &self.region
    }
}

impl Region {
    /// Returns a range and its reserved area.
    pub fn new(range: FrameRange, reserved: FrameRange) -> Self {
        Self {
            range_start: range.first().0,
            range_end: range.end().0,
            reserved_start: reserved.first().0,
            reserved_end: reserved.end().0,
            ..Self::new_zeroed()
        }
    }

    /// Returns the same, to be checked only.
    pub fn dry_run(self) -> Self {
        Self { flags: DRY_RUN, ..self }
    }

    /// Returns the range; `None` if it ends before it begins.
    pub fn range(&self) -> Option<FrameRange> {
        FrameRange::new(Frame(self.range_start), Frame(self.range_end))
    }

    /// Returns the reserved area; `None` if it ends before it begins.
    pub fn reserved(&self) -> Option<FrameRange> {
        FrameRange::new(Frame(self.reserved_start), Frame(self.reserved_end))
    }

    /// Returns how many frames of the reserved area Xen needs.
    pub fn frames_needed(&self) -> u64 {
        self.frames_needed
    }

    /// Returns how many frames of the reserved area Xen uses.
    pub fn frames_used(&self) -> u64 {
        self.frames_used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Returns the value of a `#define` in a header, or in a patch that adds it.
    fn defined(text: &str, name: &str) -> Vec<String> {
        text.lines()
            .filter_map(|line| {
                let line = line.strip_prefix('+').unwrap_or(line);
                let mut words = line.split_whitespace();
                let found = words.next() == Some("#define") && words.next() == Some(name);
                found.then(|| words.next().map(str::to_owned)).flatten()
            })
            .collect()
    }

    /// The same constants stand in the C header and in the series' own header, and everywhere only once.
    #[test]
    fn headers_and_this_module_agree() {
        let xen = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xen");
        let header = fs::read_to_string(xen.join("include/xen-pmem.h")).unwrap();
        let patches: String = fs::read_to_string(xen.join("patches/series"))
            .unwrap()
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|name| fs::read_to_string(xen.join("patches").join(name)).unwrap())
            .collect();
        let operations = Operations::of(VERSION).unwrap();
        for (name, value) in [
            ("XENPF_pmem_add", operations.add),
            ("XENPF_pmem_get", operations.get),
            ("XENPF_PMEM_ABI", VERSION),
        ] {
            for (place, text) in [("the C header", &header), ("the patches", &patches)] {
                assert_eq!(defined(text, name), [value.to_string()], "{name} in {place}");
            }
        }
        let node = NODE.to_str().unwrap();
        assert_eq!(defined(&header, "XEN_PMEM_ABI_NODE"), [format!("\"{node}\"")]);
        assert!(patches.contains(node), "the patches have another node");
    }

    #[test]
    fn only_a_known_version_has_operations() {
        assert!(Operations::of(VERSION).is_some());
        for version in [0, VERSION + 1, u32::MAX] {
            assert_eq!(Operations::of(version), None);
        }
    }
}
