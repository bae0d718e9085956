//! Devices as they come: blank, ours, other tools'; and what happens to them.

use crate::disk::{Disk, Writer};
use gptman::{GPTHeader, GPTPartitionEntry};
use proptest::prelude::*;
use uuid::Uuid;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::{COPY_SIZE, Creator, Features, Planned, SuperBlock, UnixTime, Which};
use xen_pmem_format::table::entry_blocks;
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, LbaSize, NamespaceOffset};
use xen_pmem_provision::entries::entries_of;
use xen_pmem_provision::geometry::Geometry;
use xen_pmem_provision::gpt::header_of;
use xen_pmem_provision::init::{self, Request};
use xen_pmem_provision::layout::{PartitionRequest, PartitionSize, Reserve};
use xen_pmem_provision::plan::Before;

pub(crate) const MIB: u64 = 1 << 20;

/// What a device is at first.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Blank,
    /// Prepared by this program, with partitions of these sizes and one over the rest.
    Ours(Vec<u64>),
    /// Partitioned by another tool.
    Theirs(Theirs),
}

/// A table of another tool.
#[derive(Clone, Debug)]
pub(crate) struct Theirs {
    pub(crate) entries: u32,
    /// Blocks between the header and the entries.
    pub(crate) entries_after: u64,
    /// Usable blocks that are left out at the start and at the end.
    pub(crate) unusable: (u64, u64),
    /// Whether the last usable block is the one before the device's last, so that there is no room for a backup table.
    pub(crate) no_room: bool,
    /// The partitions: 4 KiB blocks that are free before each, and its size in 4 KiB blocks.
    pub(crate) partitions: Vec<(u64, u64)>,
    /// The super blocks, if any: the area's number of superpages.
    pub(crate) reserved: Option<u64>,
}

/// Something that happens to a device.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Truncate(u64),
    Grow(u64),
    Shift(i64),
    Wipe(Region, u64),
    Flip(Region, u64),
    /// A copy's page is moved to another page, with its own offset and checksum right.
    MoveCopy(Which, u64),
    /// Another copy stands at this page.
    Stray(Which, u64),
    Sequence(Which, u64),
    ReadOnlyFeature(Which),
    /// A later minor version has written both.
    Minor,
    Swap,
    HybridMbr,
    NoMbr,
    /// The primary table's entries are moved to this block.
    MoveEntries(u64),
    /// The backup table has another partition: its first 4 KiB block and its size in these.
    OtherBackup(u64, u64),
    /// The last partition ends that many blocks before the end of the device, and the last usable block is its last one.
    ExtendLast(u64),
}

/// Where something happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Region {
    Head,
    Tail,
    Copy(Which),
    Gap,
}

impl Region {
    fn offset(self, disk: &Disk, at: u64) -> u64 {
        match self {
            Self::Head => at % (34 * 512),
            Self::Tail => disk.len().saturating_sub(1 + at % (33 * 512)),
            Self::Copy(which) => which.offset().0 + at % 256,
            Self::Gap => (20 << 10) + at % (6 * MIB),
        }
    }
}

pub(crate) fn origins() -> impl Strategy<Value = Origin> {
    let theirs = (
        prop_oneof![Just(128u32), 1..=256u32],
        prop_oneof![4 => Just(0), 1 => 0..200u64],
        (0..3000u64, 0..40u64),
        prop::bool::weighted(0.3),
        proptest::collection::vec((0..1500u64, 1..800u64), 0..3),
        proptest::option::weighted(0.7, 1..3u64),
    );
    let theirs = theirs.prop_map(|(entries, entries_after, unusable, no_room, partitions, reserved)| {
        Origin::Theirs(Theirs {
            entries,
            entries_after,
            unusable,
            no_room,
            partitions,
            reserved,
        })
    });
    prop_oneof![
        1 => Just(Origin::Blank),
        5 => proptest::collection::vec(1..2 * MIB, 0..3).prop_map(Origin::Ours),
        5 => theirs,
    ]
}

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    let which = || prop_oneof![Just(Which::Primary), Just(Which::Backup)];
    let region = || {
        prop_oneof![
            Just(Region::Head),
            Just(Region::Tail),
            which().prop_map(Region::Copy),
            Just(Region::Gap)
        ]
    };
    // Pages of the gap, the copies' fixed places among them.
    let page = || prop_oneof![6 => 16..500u64, 1 => Just(128), 1 => Just(384)];
    let event = prop_oneof![
        (1..130u64).prop_map(Event::Truncate),
        (1..130u64).prop_map(Event::Grow),
        prop_oneof![Just(4096i64), Just(2 << 20), Just(-(2 << 20))].prop_map(Event::Shift),
        (region(), any::<u64>()).prop_map(|(region, at)| Event::Wipe(region, at)),
        (region(), any::<u64>()).prop_map(|(region, at)| Event::Flip(region, at)),
        (which(), page()).prop_map(|(which, page)| Event::MoveCopy(which, page)),
        (which(), page()).prop_map(|(which, page)| Event::Stray(which, page)),
        (which(), prop_oneof![1..9u64, Just(u64::MAX)]).prop_map(|(which, sequence)| Event::Sequence(which, sequence)),
        which().prop_map(Event::ReadOnlyFeature),
        Just(Event::Minor),
        Just(Event::Swap),
        Just(Event::HybridMbr),
        Just(Event::NoMbr),
        (2..6000u64).prop_map(Event::MoveEntries),
        (1..2000u64, 1..2000u64).prop_map(|(first, size)| Event::OtherBackup(first, size)),
        (1..40u64).prop_map(Event::ExtendLast),
    ];
    proptest::collection::vec(event, 0..4)
}

pub(crate) fn geometry(disk: &Disk, lba_size: LbaSize) -> Geometry {
    Geometry {
        device_size: Bytes(disk.len()),
        lba_size,
        placement: None,
    }
}

pub(crate) fn request(number: u128, sizes: &[u64]) -> Request {
    let exact = sizes.iter().map(|size| PartitionSize::Exactly(Bytes(*size)));
    let partitions = (1..)
        .zip(exact.chain([PartitionSize::Rest]))
        .map(|(n, size)| {
            let request = PartitionRequest {
                size,
                ..PartitionRequest::default()
            };
            request.with_guid(Uuid::from_u128(number << 64 | n))
        })
        .collect();
    Request {
        reserve: Reserve::Auto,
        entries: EntrySizes::XEN_X86_64,
        partitions,
        uuid: Uuid::from_u128(number << 32 | 1),
        disk_guid: Uuid::from_u128(number << 32 | 2),
        now: UnixTime(1_767_225_600),
    }
}

impl Origin {
    pub(crate) fn make(&self, size: u64, lba_size: LbaSize) -> Disk {
        let disk = Disk::blank(size);
        match self {
            Self::Blank => {}
            Self::Ours(sizes) => {
                let before = Before {
                    device: &disk,
                    own_lba_size: Some(lba_size),
                    inspection: &disk.inspect(Some(lba_size)),
                    force: false,
                };
                let plan = init::plan(&before, &geometry(&disk, lba_size), &request(1, sizes)).unwrap();
                plan.plan.check(&before).unwrap().apply(&disk).unwrap();
                disk.take_written();
            }
            Self::Theirs(theirs) => theirs.make(&disk, lba_size),
        }
        disk
    }
}

impl Theirs {
    fn make(&self, disk: &Disk, lba_size: LbaSize) {
        let block = lba_size.bytes().0;
        let last = disk.len() / block - 1;
        let blocks = entry_blocks(lba_size, self.entries);
        let entries_at = 2 + self.entries_after;
        let first_usable = entries_at + blocks + self.unusable.0 * 512 / block;
        let last_usable = if self.no_room {
            last - 1
        } else {
            last - blocks - 1 - self.unusable.1
        };
        // The first partition leaves room for a reservation if the device gets one.
        let room = self.reserved.map_or(0, |superpages| (2 + 2 * superpages) * MIB / block);
        let mut next = first_usable.max(room);
        let mut entries = Vec::new();
        for (free, size) in &self.partitions {
            let start = next + free * 4096 / block;
            let end = (start + size * 4096 / block - 1).min(last_usable);
            if start <= end {
                entries.push(entry(entries.len() as u8 + 1, start, end));
            }
            next = end + 1;
        }
        entries.truncate(self.entries as usize);
        entries.resize(self.entries as usize, GPTPartitionEntry::empty());
        let disk_guid = Uuid::from_u128(77);
        let primary = GPTHeader {
            signature: *b"EFI PART",
            revision: [0, 0, 1, 0],
            header_size: 92,
            crc32_checksum: 0,
            reserved: [0; 4],
            primary_lba: 1,
            backup_lba: last,
            first_usable_lba: first_usable,
            last_usable_lba: last_usable,
            disk_guid: disk_guid.to_bytes_le(),
            partition_entry_lba: entries_at,
            number_of_partition_entries: self.entries,
            size_of_partition_entry: 128,
            partition_entry_array_crc32: 0,
        };
        write(disk, block, &primary, &entries);
        if !self.no_room {
            let backup = GPTHeader {
                primary_lba: last,
                backup_lba: 1,
                partition_entry_lba: last - blocks,
                ..primary
            };
            write(disk, block, &backup, &entries);
        }
        protective_mbr(disk, block);
        if let Some(superpages) = self.reserved {
            let superblock = SuperBlock {
                sequence: 3,
                uuid: Uuid::from_u128(78),
                disk_guid,
                device_size: Bytes(disk.len()),
                reserved: DeviceRange::new(DeviceOffset(2 * MIB), Bytes(superpages * 2 * MIB)).unwrap(),
                planned: Planned {
                    entries: EntrySizes::XEN_X86_64,
                    namespace_size: Bytes(disk.len()),
                    device_in_namespace: NamespaceOffset(0),
                },
                address_hint: None,
                created: UnixTime(1),
                updated: UnixTime(2),
                creator: Creator::new("another program").unwrap(),
                features: Features::default(),
            };
            for which in Which::BOTH {
                disk.put(which.offset().0, &superblock.encode(which));
            }
        }
    }
}

fn entry(number: u8, start: u64, end: u64) -> GPTPartitionEntry {
    GPTPartitionEntry {
        partition_type_guid: [0xaa; 16],
        unique_partition_guid: [number; 16],
        starting_lba: start,
        ending_lba: end,
        attribute_bits: 1 << 60 | u64::from(number),
        partition_name: "theirs".into(),
    }
}

/// Writes a header and its entries where the header says that they are.
fn write(disk: &Disk, block: u64, header: &GPTHeader, entries: &[GPTPartitionEntry]) {
    let mut writer = Writer { disk, position: 0 };
    header.clone().write_into(&mut writer, block, entries).unwrap();
}

fn protective_mbr(disk: &Disk, block: u64) {
    let size = u32::try_from(disk.len() / block - 1).unwrap();
    disk.put(446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    disk.put(458, &size.to_le_bytes());
    disk.put(510, &[0x55, 0xaa]);
}

/// Returns what stands at a copy's fixed place, if that is a valid copy.
fn copy(disk: &Disk, which: Which) -> Option<([u8; COPY_SIZE], SuperBlock)> {
    let page = disk.page(which.offset().0);
    let (_, superblock) = SuperBlock::decode(&page, which.offset()).ok()?;
    Some((page, superblock))
}

impl Event {
    pub(crate) fn happen(&self, disk: &mut Disk, lba_size: LbaSize) {
        let block = lba_size.bytes().0;
        let rewrite = |disk: &Disk, which: Which, change: &dyn Fn(&mut SuperBlock)| {
            if let Some((page, mut superblock)) = copy(disk, which) {
                change(&mut superblock);
                disk.put(which.offset().0, &superblock.encode_over(&page, which, which.offset()));
            }
        };
        match *self {
            Self::Truncate(blocks) => disk.resize(disk.len() - blocks * 512),
            Self::Grow(blocks) => disk.resize(disk.len() + blocks * 512),
            Self::Shift(bytes) => disk.shift(bytes),
            Self::Wipe(region, at) => {
                let start = region.offset(disk, at) / 512 * 512;
                disk.wipe(start, 8192);
            }
            Self::Flip(region, at) => disk.flip(region.offset(disk, at)),
            Self::MoveCopy(which, page) => {
                let there = DeviceOffset(page * 4096);
                if let Some((bytes, superblock)) = copy(disk, which) {
                    disk.wipe(which.offset().0, COPY_SIZE);
                    disk.put(there.0, &superblock.encode_over(&bytes, which, there));
                }
            }
            Self::Stray(which, page) => {
                let there = DeviceOffset(page * 4096);
                if let Some((bytes, superblock)) = copy(disk, which) {
                    disk.put(there.0, &superblock.encode_over(&bytes, which, there));
                }
            }
            Self::Sequence(which, sequence) => rewrite(disk, which, &|superblock| superblock.sequence = sequence),
            Self::ReadOnlyFeature(which) => rewrite(disk, which, &|superblock| superblock.features.read_only |= 1 << 9),
            Self::Minor => {
                for which in Which::BOTH {
                    if let Some((mut page, superblock)) = copy(disk, which) {
                        page[10] = 7;
                        page[12..14].copy_from_slice(&300u16.to_le_bytes());
                        page[208..300].fill(0x5a);
                        disk.put(which.offset().0, &superblock.encode_over(&page, which, which.offset()));
                    }
                }
            }
            Self::Swap => {
                disk.wipe(0, 4096);
                disk.put(1024, &[1, 0, 0, 0, 100, 0, 0, 0]);
                disk.put(4086, b"SWAPSPACE2");
            }
            Self::HybridMbr => disk.put(462, &[0, 0, 2, 0, 0x83, 0xff, 0xff, 0xff, 0, 0x40, 0, 0, 0, 8, 0, 0]),
            Self::NoMbr => disk.wipe(0, 512),
            Self::MoveEntries(to) => {
                if let Ok(table) = &disk.inspect(Some(lba_size)).primary_table {
                    let header = GPTHeader {
                        partition_entry_lba: to,
                        ..header_of(table)
                    };
                    write(disk, block, &header, &entries_of(table).unwrap());
                }
            }
            Self::OtherBackup(first, size) => {
                if let Ok(table) = &disk.inspect(Some(lba_size)).backup_table {
                    let start = (first * 4096 / block).max(table.header().entries_lba.0 % 64);
                    let mut entries = entries_of(table).unwrap();
                    if let Some(place) = entries.last_mut() {
                        *place = entry(99, start, start + size * 4096 / block);
                    }
                    let header = GPTHeader {
                        first_usable_lba: start.min(table.header().first_usable.0),
                        ..header_of(table)
                    };
                    write(disk, block, &header, &entries);
                }
            }
            Self::ExtendLast(blocks) => {
                if let Ok(table) = &disk.inspect(Some(lba_size)).primary_table {
                    let end = (disk.len() / block).saturating_sub(1 + blocks);
                    let mut entries = entries_of(table).unwrap();
                    let last = entries.iter_mut().filter(|entry| entry.is_used());
                    if let Some(last) = last.max_by_key(|entry| entry.starting_lba)
                        && last.starting_lba < end
                    {
                        last.ending_lba = end;
                    }
                    let header = GPTHeader {
                        last_usable_lba: end,
                        ..header_of(table)
                    };
                    write(disk, block, &header, &entries);
                }
            }
        }
    }
}
