//! Plans for arbitrary devices and requests: nothing overlaps, all is aligned, and what is written reads back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test states what it expects by panicking"
)]

use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use uuid::Uuid;
use xen_pmem_format::inspect::{State, inspect};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::sizing::{self, EntrySizes};
use xen_pmem_format::superblock::{UnixTime, Which};
use xen_pmem_format::table;
use xen_pmem_format::units::{
    Address, Bytes, DeviceOffset, DeviceRange, LbaSize, PAGE, PhysAddr, PhysRange, SUPERPAGE,
};
use xen_pmem_nvdimm::fsdax;
use xen_pmem_provision::device::Device;
use xen_pmem_provision::geometry::{Geometry, Placement};
use xen_pmem_provision::init::{self, Request};
use xen_pmem_provision::layout::{LINUX_DATA, NewPartition, PartitionSize, Reserve};
use xen_pmem_provision::note::{self, Note};
use xen_pmem_provision::plan::Before;
use xen_pmem_provision::step;

/// A device of any size; only the pages that were written take space.
struct Sparse {
    size: u64,
    pages: RefCell<BTreeMap<u64, Box<[u8; 4096]>>>,
}

impl Sparse {
    fn each(&self, offset: u64, length: usize, mut touch: impl FnMut(u64, usize, usize)) -> io::Result<()> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for index in 0..length {
            let at = offset + index as u64;
            touch(at / 4096, (at % 4096) as usize, index);
        }
        Ok(())
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> io::Result<Bytes> {
        Ok(Bytes(self.size))
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        let pages = self.pages.borrow();
        let length = buf.len();
        self.each(offset.0, length, |page, at, index| {
            buf[index] = pages.get(&page).map_or(0, |page| page[at])
        })
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        let pages = self.pages.borrow();
        let (page, _) = pages.range(offset.0 / 4096..).next()?;
        Some(DeviceOffset(page * 4096).max(offset))
    }
}

impl Device for Sparse {
    fn write_all_at(&self, offset: DeviceOffset, bytes: &[u8]) -> io::Result<()> {
        let mut pages = self.pages.borrow_mut();
        self.each(offset.0, bytes.len(), |page, at, index| {
            pages.entry(page).or_insert_with(|| Box::new([0; 4096]))[at] = bytes[index];
        })
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn partition_sizes() -> impl Strategy<Value = Vec<PartitionSize>> {
    let exact = proptest::collection::vec(
        (1..1u64 << 26).prop_map(|size| PartitionSize::Exactly(Bytes(size))),
        0..5,
    );
    (exact, any::<bool>()).prop_map(|(mut sizes, rest)| {
        if rest {
            sizes.push(PartitionSize::Rest);
        }
        sizes
    })
}

prop_compose! {
    fn geometries()(
        pages in 0..1u64 << 31,
        small: bool,
        large_blocks: bool,
        base in proptest::option::of(0..1u64 << 30),
        before in 0..1u64 << 12,
        after in 0..1u64 << 12,
    ) -> Geometry {
        let pages = if small { pages % (1 << 16) } else { pages };
        let device_size = Bytes(pages * PAGE.0);
        let placement = base.map(|base| {
            let namespace = PhysRange::new(PhysAddr(base * PAGE.0), Bytes((before + pages + after) * PAGE.0)).unwrap();
            Placement { device_start: PhysAddr((base + before) * PAGE.0), namespace }
        });
        let lba_size = if large_blocks { LbaSize::B4096 } else { LbaSize::B512 };
        Geometry { device_size, lba_size, placement }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_plan_is_sound_or_refused(
        geometry in geometries(),
        sizes in partition_sizes(),
        reserve in prop_oneof![Just(Reserve::Auto), (0..1u64 << 34).prop_map(|size| Reserve::Size(Bytes(size)))],
        pv32: bool,
    ) {
        let device = Sparse { size: geometry.device_size.0, pages: RefCell::default() };
        let entries = if pv32 { EntrySizes::XEN_X86_64_PV32 } else { EntrySizes::XEN_X86_64 };
        let partitions = (1..)
            .zip(&sizes)
            .map(|(guid, size)| NewPartition {
                size: *size,
                name: "é".to_owned(),
                type_guid: LINUX_DATA,
                guid: Uuid::from_u128(guid),
            })
            .collect();
        let request = Request {
            reserve,
            entries,
            partitions,
            uuid: Uuid::from_u128(1),
            disk_guid: Uuid::from_u128(2),
            now: UnixTime(1),
        };
        let before = Before {
            device: &device,
            own_lba_size: Some(geometry.lba_size),
            inspection: &inspect(&device, Some(geometry.lba_size)).unwrap(),
            force: false,
        };
        let Ok(plan) = init::plan(&before, &geometry, &request) else {
            // Refused: of a large device with room for all, that would be wrong.
            let wanted: u64 = sizes.iter().map(|size| match size { PartitionSize::Exactly(size) => size.0 + 2 * SUPERPAGE.0, PartitionSize::Rest => SUPERPAGE.0 }).sum();
            let need = sizing::need(geometry.namespace(), entries).unwrap().total.0;
            let (reserved, enough) = match reserve { Reserve::Auto => (need, true), Reserve::Size(size) => (size.0 + SUPERPAGE.0, size.0 >= need) };
            prop_assert!(!enough || geometry.device_size.0 < wanted + reserved + (8 << 20));
            return Ok(());
        };

        // Nothing overlaps anything.
        let layout = &plan.layout;
        let mut ranges = vec![table::head(geometry.lba_size, table::DEFAULT_ENTRIES), layout.reserved];
        ranges.extend(Which::BOTH.map(Which::range));
        ranges.extend(layout.partitions.iter().map(|(_, range)| *range));
        ranges.push(DeviceRange::between(layout.usable.end(), DeviceOffset(geometry.device_size.0)).unwrap());
        ranges.sort_by_key(|range| range.base());
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].end() <= pair[1].base(), "{} {}", pair[0], pair[1]);
        }
        prop_assert!(ranges.last().unwrap().end().0 <= geometry.device_size.0);

        // All is aligned in physical address space, and there is enough.
        let physical = |offset: DeviceOffset| geometry.address(offset).unwrap_or(PhysAddr(offset.0));
        prop_assert!(physical(layout.reserved.base()).is_aligned(SUPERPAGE));
        prop_assert!(layout.reserved.size().is_aligned(SUPERPAGE));
        prop_assert!(layout.reserved.size() >= sizing::need(geometry.namespace(), entries).unwrap().total);
        for (request, range) in &layout.partitions {
            prop_assert!(physical(range.base()).is_aligned(SUPERPAGE));
            prop_assert!(range.size().is_aligned(SUPERPAGE));
            match request.size {
                PartitionSize::Exactly(size) => {
                    prop_assert!(range.size() >= size && range.size().0 < size.0 + SUPERPAGE.0);
                }
                PartitionSize::Rest => {
                    let unit = if range.size() < fsdax::SIZE_UNIT { SUPERPAGE } else { fsdax::SIZE_UNIT };
                    prop_assert!(range.size().is_aligned(unit));
                    prop_assert!(layout.usable.end().0 - range.end().0 < unit.0, "{range} leaves too much");
                }
            }
        }

        // The plan notes everything that prevents fsdax in a guest.
        let notes = note::of_plan(layout, &geometry);
        let objections = notes.iter().filter(|note| matches!(note, Note::NoFsdax { .. })).count();
        let odd = layout.partitions.iter().filter(|(_, range)| !range.size().is_aligned(fsdax::SIZE_UNIT)).count();
        prop_assert_eq!(objections, odd);
        let rounded = layout.partitions.iter().filter(|(request, range)| {
            matches!(request.size, PartitionSize::Exactly(size) if size != range.size())
        });
        prop_assert_eq!(notes.iter().filter(|note| matches!(note, Note::Rounded { .. })).count(), rounded.count());

        // What is written reads back, and no write touches a partition or the reserved area.
        let checked = plan.plan.check(&before).unwrap();
        for step in checked.steps() {
            if let step::Step::Write { offset, bytes, .. } = step {
                let written = DeviceRange::new(*offset, Bytes(bytes.len() as u64)).unwrap();
                prop_assert!(!written.overlaps(layout.reserved));
                prop_assert!(layout.partitions.iter().all(|(_, range)| !range.overlaps(written)));
            }
        }
        checked.apply(&device).unwrap();
        let found = inspect(&device, Some(geometry.lba_size)).unwrap();
        prop_assert_eq!(found.state, State::Prepared, "{}", found.reasons());
        let (superblock, table) = found.reservation().unwrap();
        prop_assert_eq!(*superblock, plan.superblock);
        let partitions: Vec<_> = table.partitions().iter().map(|partition| partition.range).collect();
        let planned: Vec<_> = layout.partitions.iter().map(|(_, range)| *range).collect();
        prop_assert_eq!(partitions, planned);
        // Without being told the block size, too.
        prop_assert_eq!(inspect(&device, None).unwrap().state, State::Prepared);
    }
}
