//! What the hypervisor's file system (hypfs) answers to a read.
//!
//! Source: Xen `xen/include/public/hypfs.h`: `struct xen_hypfs_direntry`, and behind it the content of the node.

use core::mem::size_of;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Xen's hypercall number of operations on its file system (`xen/include/public/xen.h`).
pub(super) const HYPERVISOR_HYPFS_OP: u64 = 42;
/// The operation that reads a node.
pub(super) const READ: u64 = 1;

/// The type of an unsigned integer.
const UNSIGNED: u8 = 3;
/// Content as it is, not compressed.
const PLAIN: u8 = 0;

/// `struct xen_hypfs_direntry` and an integer's content.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Node {
    kind: u8,
    encoding: u8,
    pad: u16,
    content_length: u32,
    max_write_length: u32,
    content: u32,
}

const _: () = assert!(size_of::<Node>() == 16);

impl Node {
    /// Returns the number in it. `None` if it is not an unsigned integer of 32 bits.
    pub(super) fn unsigned(&self) -> Option<u32> {
        let is_number = self.kind == UNSIGNED && self.encoding == PLAIN && self.content_length == 4;
        is_number.then_some(self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_nothing_else_are_read() {
        // Type, encoding, padding, length of the content, length that may be written, content.
        let bytes: [u8; 16] = [3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0];
        assert_eq!(Node::read_from_bytes(&bytes).unwrap().unsigned(), Some(0x201));
        for (place, value) in [(0, 2), (0, 4), (1, 1), (4, 8), (4, 2), (7, 1)] {
            let mut other = bytes;
            other[place] = value;
            assert_eq!(Node::read_from_bytes(&other).unwrap().unsigned(), None, "{other:?}");
        }
    }
}
