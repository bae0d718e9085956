//! How large the area reserved for Xen must be.
//!
//! For every page frame of a namespace Xen keeps a `struct page_info` in the frame table and an entry in the machine-to-physical
//! table (M2P). Both are windows of virtual addresses indexed by frame number, mapped with 2 MiB superpages, so what is needed is
//! one 2 MiB chunk for every aligned group of frames that the namespace touches: with Xen's x86-64 sizes, one per 256 MiB for
//! the frame table (32 bytes a page) and one per 1 GiB for the M2P (8 bytes a page). A Xen built for 32-bit PV guests also
//! keeps a compat M2P (4 bytes a page) for frames below 1 TiB: one chunk per 2 GiB.
//!
//! Sources: Xen 4.20, `xen/arch/x86/include/asm/mm.h` (`struct page_info`), `xen/arch/x86/include/asm/config.h` (the windows),
//! `xen/arch/x86/x86_64/mm.c` (`setup_m2p_table`, `extend_frame_table`).

use crate::units::{Address as _, Bytes, PAGE, PhysAddr, PhysRange, SUPERPAGE};

/// Frames at or above this address have no entry in the compat M2P.
const COMPAT_M2P_LIMIT: PhysAddr = PhysAddr(1 << 40);

/// The bytes of each kind of entry that Xen keeps for one page frame: what a reservation is planned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntrySizes {
    /// The bytes of one page frame.
    pub page: Bytes,
    /// The bytes of one frame table entry (`struct page_info`).
    pub frame_table: Bytes,
    /// The bytes of one M2P entry.
    pub m2p: Bytes,
    /// The bytes of one compat M2P entry; zero for a Xen without 32-bit PV guests.
    pub compat_m2p: Bytes,
}

impl EntrySizes {
    /// Xen on x86-64 with 64-bit guests only, as Debian builds it.
    pub const XEN_X86_64: Self = Self {
        page: PAGE,
        frame_table: Bytes(32),
        m2p: Bytes(8),
        compat_m2p: Bytes(0),
    };

    /// Xen on x86-64 that also runs 32-bit PV guests (`CONFIG_PV32`, not turned off at boot).
    pub const XEN_X86_64_PV32: Self = Self {
        compat_m2p: Bytes(4),
        ..Self::XEN_X86_64
    };
}

impl EntrySizes {
    /// Returns whether there can be such sizes: pages of a power of two of bytes from 4096 on, and no entry larger than a page or than the
    /// 2 MiB chunks that Xen maps. Then every chunk describes at least 2 MiB.
    pub fn are_possible(self) -> bool {
        let most = self.page.min(SUPERPAGE);
        self.page.0.is_power_of_two()
            && self.page >= PAGE
            && [self.frame_table, self.m2p]
                .into_iter()
                .all(|entry| entry.0 > 0 && entry <= most)
            && self.compat_m2p <= most
    }
}

impl core::fmt::Display for EntrySizes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            page,
            frame_table,
            m2p,
            compat_m2p,
        } = self;
        write!(
            f,
            "page {}, frame table {}, M2P {}, compat M2P {}",
            page.0, frame_table.0, m2p.0, compat_m2p.0
        )
    }
}

/// One of Xen's structures: how many superpages it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Structure {
    /// The bytes of physical address space that one chunk describes.
    pub group: Bytes,
    /// The number of 2 MiB chunks.
    pub chunks: u64,
}

impl Structure {
    /// Returns the bytes of all chunks.
    pub fn size(self) -> Option<Bytes> {
        SUPERPAGE.checked_mul(self.chunks)
    }
}

/// What Xen needs for a namespace, and how it comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Need {
    /// The frame table's part.
    pub frame_table: Structure,
    /// The M2P's part.
    pub m2p: Structure,
    /// The compat M2P's part; `None` when planned without one.
    pub compat_m2p: Option<Structure>,
    /// The sum: a multiple of 2 MiB.
    pub total: Bytes,
}

/// The facts about the namespace that a reservation serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// Its system physical addresses are known.
    At(PhysRange),
    /// Only its size is known (an image): the worst alignment is assumed.
    Unplaced(Bytes),
}

impl Namespace {
    /// Returns the bytes of the namespace.
    pub fn size(self) -> Bytes {
        match self {
            Self::At(range) => range.size(),
            Self::Unplaced(size) => size,
        }
    }

    /// Returns the aligned groups of `group` bytes that it touches below `limit`, or may touch.
    fn groups(self, group: Bytes, limit: Option<PhysAddr>) -> Option<u64> {
        match self {
            Self::At(range) => {
                let end = limit.map_or(range.end(), |limit| range.end().min(limit));
                let below = PhysRange::between(range.base().min(end), end)?;
                below.blocks_touched(group)
            }
            Self::Unplaced(size) => {
                // A page in the group before the rest: one group more than the size alone fills.
                let reach = limit.map_or(size, |limit| size.min(limit.distance()));
                let whole = reach.align_up(group)?.0.checked_div(group.0)?;
                let most = limit
                    .map(|limit| limit.0.checked_div(group.0))
                    .unwrap_or(Some(u64::MAX))?;
                whole
                    .checked_add(u64::from(reach > PAGE))
                    .map(|groups| groups.min(most))
            }
        }
    }
}

fn structure(namespace: Namespace, page: Bytes, entry: Bytes, limit: Option<PhysAddr>) -> Option<Structure> {
    let entries = SUPERPAGE.0.checked_div(entry.0)?;
    let group = page.checked_mul(entries)?;
    Some(Structure {
        group,
        chunks: namespace.groups(group, limit)?,
    })
}

/// Returns the size of the area that Xen needs to manage the whole of `namespace`.
///
/// `None` if an entry size is zero (other than the compat M2P's) or larger than a superpage, or the arithmetic overflows.
pub fn need(namespace: Namespace, entries: EntrySizes) -> Option<Need> {
    let frame_table = structure(namespace, entries.page, entries.frame_table, None)?;
    let m2p = structure(namespace, entries.page, entries.m2p, None)?;
    let compat_m2p = match entries.compat_m2p {
        Bytes(0) => None,
        entry => Some(structure(namespace, entries.page, entry, Some(COMPAT_M2P_LIMIT))?),
    };
    let total = [Some(frame_table), Some(m2p), compat_m2p]
        .into_iter()
        .flatten()
        .try_fold(Bytes(0), |total, part| total.checked_add(part.size()?))?;
    Some(Need {
        frame_table,
        m2p,
        compat_m2p,
        total,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const FRAME: u64 = 4096;

    fn frames(base: u64, size: u64, entries: EntrySizes) -> u64 {
        let range = PhysRange::new(PhysAddr(base), Bytes(size)).unwrap();
        need(Namespace::At(range), entries).unwrap().total.0 / FRAME
    }

    #[test]
    fn what_a_hypervisor_was_seen_to_use() {
        assert_eq!(frames(4 * GIB, 512 * MIB, EntrySizes::XEN_X86_64), 1536);
        assert_eq!(frames(4 * GIB, 512 * MIB, EntrySizes::XEN_X86_64_PV32), 2048);
        assert_eq!(frames(4 * GIB, 6 * GIB, EntrySizes::XEN_X86_64_PV32), 16896);
    }

    #[test]
    fn a_namespace_of_one_page_cannot_straddle_groups() {
        let one = need(Namespace::Unplaced(PAGE), EntrySizes::XEN_X86_64).unwrap();
        assert_eq!((one.frame_table.chunks, one.m2p.chunks), (1, 1));
        let two = need(Namespace::Unplaced(Bytes(2 * FRAME)), EntrySizes::XEN_X86_64).unwrap();
        assert_eq!((two.frame_table.chunks, two.m2p.chunks), (2, 2));
    }

    #[test]
    fn a_namespace_has_its_size_wherever_it_is() {
        let range = PhysRange::new(PhysAddr(GIB), Bytes(MIB)).unwrap();
        assert_eq!(Namespace::At(range).size(), Bytes(MIB));
        assert_eq!(Namespace::Unplaced(Bytes(MIB)).size(), Bytes(MIB));
    }

    #[test]
    fn about_one_percent() {
        let one_tib = need(Namespace::Unplaced(Bytes(1024 * GIB)), EntrySizes::XEN_X86_64).unwrap();
        assert_eq!(one_tib.frame_table.chunks, 4097);
        assert_eq!(one_tib.m2p.chunks, 1025);
        assert_eq!(one_tib.total, Bytes((4097 + 1025) * 2 * MIB));
    }

    #[test]
    fn the_compat_table_ends_at_a_tebibyte() {
        let straddling = PhysRange::new(PhysAddr(1023 * GIB), Bytes(8 * GIB)).unwrap();
        let need_straddling = need(Namespace::At(straddling), EntrySizes::XEN_X86_64_PV32).unwrap();
        assert_eq!(need_straddling.compat_m2p.unwrap().chunks, 1);
        let above = PhysRange::new(PhysAddr(1024 * GIB), Bytes(8 * GIB)).unwrap();
        assert_eq!(
            need(Namespace::At(above), EntrySizes::XEN_X86_64_PV32)
                .unwrap()
                .compat_m2p
                .unwrap()
                .chunks,
            0
        );
    }

    #[test]
    fn at_an_unknown_address_the_compat_table_is_sized_for_a_tebibyte_at_most() {
        for (gib, frame_table, m2p, compat) in [
            (1022, 4089, 1023, 512),
            (1023, 4093, 1024, 512),
            (1024, 4097, 1025, 512),
            (2048, 8193, 2049, 512),
            (1000, 4001, 1001, 501),
        ] {
            let need = need(Namespace::Unplaced(Bytes(gib * GIB)), EntrySizes::XEN_X86_64_PV32).unwrap();
            let chunks = (
                need.frame_table.chunks,
                need.m2p.chunks,
                need.compat_m2p.unwrap().chunks,
            );
            assert_eq!(chunks, (frame_table, m2p, compat), "{gib} GiB");
            assert_eq!(need.total, Bytes((frame_table + m2p + compat) * 2 * MIB));
        }
    }

    #[test]
    fn senseless_entries_need_nothing_that_could_be_named() {
        for entries in [
            EntrySizes {
                frame_table: Bytes(0),
                ..EntrySizes::XEN_X86_64
            },
            EntrySizes {
                m2p: Bytes(u64::MAX),
                ..EntrySizes::XEN_X86_64
            },
            EntrySizes {
                page: Bytes(u64::MAX),
                ..EntrySizes::XEN_X86_64
            },
            EntrySizes {
                page: Bytes(0),
                ..EntrySizes::XEN_X86_64
            },
        ] {
            assert_eq!(need(Namespace::Unplaced(Bytes(GIB)), entries), None, "{entries:?}");
        }
    }

    proptest! {
        #[test]
        fn an_unplaced_namespace_gets_the_worst_case(base in 0..1u64 << 30, size in 1..1u64 << 20) {
            let (base, size) = (base * FRAME, size * FRAME);
            for entries in [EntrySizes::XEN_X86_64, EntrySizes::XEN_X86_64_PV32] {
                let unplaced = need(Namespace::Unplaced(Bytes(size)), entries).unwrap().total.0;
                let placed = frames(base, size, entries) * FRAME;
                prop_assert!(placed <= unplaced);
                let parts = 2 + u64::from(entries.compat_m2p.0 > 0);
                prop_assert!(unplaced - placed <= parts * SUPERPAGE.0 || base + size > COMPAT_M2P_LIMIT.0);
            }
        }
    }
}
