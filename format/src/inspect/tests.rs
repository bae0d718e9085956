//! Disks made by hand, damaged one way at a time: each damage has its outcome in a table.

use super::*;
use crate::superblock::tests::sample;
use crate::units::Address;
use gptman::{GPT, GPTPartitionEntry};
use proptest::prelude::*;
use std::cell::RefCell;
use std::io::Cursor;

const MIB: u64 = 1 << 20;
const DISK: u64 = 64 * MIB;
const RESERVED: (u64, u64) = (2 * MIB, 6 * MIB);
const DATA: u64 = 8 * MIB;

/// A device in memory, some of whose bytes cannot be read, that counts what is read.
struct Disk {
    bytes: Vec<u8>,
    /// Whether it knows where it holds zeros.
    sparse: bool,
    bad: Vec<DeviceRange>,
    read: RefCell<u64>,
}

impl ReadAt for Disk {
    fn size(&self) -> io::Result<Bytes> {
        self.bytes.size()
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        *self.read.borrow_mut() += buf.len() as u64;
        let wanted = DeviceRange::clamped(offset, Bytes(buf.len() as u64));
        if self.bad.iter().any(|bad| bad.overlaps(wanted)) {
            return Err(io::Error::other("media error"));
        }
        self.bytes.read_exact_at(offset, buf)
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        if !self.sparse {
            return Some(offset);
        }
        let rest = &self.bytes[offset.0 as usize..];
        let zeros = rest.iter().position(|byte| *byte != 0)?;
        Some(DeviceOffset(offset.0 + zeros as u64))
    }
}

fn superblock() -> SuperBlock {
    SuperBlock {
        device_size: Bytes(DISK),
        reserved: DeviceRange::new(DeviceOffset(RESERVED.0), Bytes(RESERVED.1)).unwrap(),
        ..sample()
    }
}

/// Where the backup header is.
const BACKUP_GPT: u64 = DISK - 512;

impl Disk {
    fn blank() -> Self {
        Self {
            bytes: vec![0; DISK as usize],
            sparse: false,
            bad: Vec::new(),
            read: RefCell::new(0),
        }
    }

    fn partitioned(lba: u64, first_usable: u64, partitions: &[(u64, u64)]) -> Self {
        let mut disk = Self::blank();
        let mut cursor = Cursor::new(&mut disk.bytes);
        let mut gpt = GPT::new_from(&mut cursor, lba, superblock().disk_guid.to_bytes_le()).unwrap();
        gpt.header.first_usable_lba = first_usable / lba;
        for (number, (start, end)) in (1u32..).zip(partitions) {
            gpt[number] = GPTPartitionEntry {
                partition_type_guid: [1; 16],
                unique_partition_guid: [u8::try_from(number).unwrap(); 16],
                starting_lba: start / lba,
                ending_lba: end / lba - 1,
                attribute_bits: 0,
                partition_name: "data".into(),
            };
        }
        gpt.write_into(&mut cursor).unwrap();
        disk
    }

    fn prepared() -> Self {
        let mut disk = Self::partitioned(512, DATA, &[(DATA, 32 * MIB), (32 * MIB, 60 * MIB)]);
        for which in Which::BOTH {
            disk.put_copy(which, &superblock());
        }
        disk
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn put_copy(&mut self, which: Which, content: &SuperBlock) {
        self.put(which.offset().0, &content.encode(which));
    }

    fn flip(&mut self, offset: u64) {
        self.bytes[offset as usize] ^= 0x40;
    }

    fn wipe(&mut self, offset: u64, size: u64) {
        self.bytes[offset as usize..][..size as usize].fill(0);
    }

    fn fail(&mut self, offset: u64, size: u64) {
        self.bad
            .push(DeviceRange::new(DeviceOffset(offset), Bytes(size)).unwrap());
    }

    fn inspect(&self) -> Inspection {
        inspect(self, None).unwrap()
    }
}

#[test]
fn a_prepared_disk_has_no_findings() {
    let disk = Disk::prepared();
    let inspection = disk.inspect();
    assert_eq!(inspection.findings, []);
    assert_eq!(inspection.state, State::Prepared);
    let (found, table) = inspection.reservation().unwrap();
    assert_eq!(*found, superblock());
    let partitions: Vec<_> = table
        .partitions()
        .iter()
        .map(|p| (p.number, p.range.base().0, p.range.end().0))
        .collect();
    assert_eq!(partitions, [(1, DATA, 32 * MIB), (2, 32 * MIB, 60 * MIB)]);
    assert!(
        *disk.read.borrow() < 64 << 10,
        "a prepared disk is judged from a few pages"
    );
}

#[test]
fn a_disk_of_4096_byte_blocks_is_found_without_being_told() {
    let mut disk = Disk::partitioned(4096, DATA, &[(DATA, 32 * MIB)]);
    for which in Which::BOTH {
        disk.put_copy(which, &superblock());
    }
    let inspection = disk.inspect();
    assert_eq!(
        (inspection.state, inspection.lba_size),
        (State::Prepared, LbaSize::B4096),
        "{}",
        inspection.reasons()
    );
    let told_wrong = inspect(&disk, Some(LbaSize::B512)).unwrap();
    assert_eq!(told_wrong.state, State::Unprepared);
}

/// A kind of damage: what it is called, what it does to a prepared disk, the state it leads to, the start of a word said of it.
type Damage = (&'static str, fn(&mut Disk), State, &'static str);

const DAMAGES: &[Damage] = &[
    (
        "primary copy flipped",
        |d| d.flip(512 << 10),
        State::Degraded,
        "primary super block at offset 0x80000 is missing",
    ),
    (
        "primary copy, content",
        |d| d.flip((512 << 10) + 60),
        State::Degraded,
        "is corrupt: checksum",
    ),
    (
        "backup copy, last byte",
        |d| d.flip((1536 << 10) + 4095),
        State::Degraded,
        "backup super block at offset 0x180000 is corrupt",
    ),
    (
        "primary copy wiped",
        |d| d.wipe(512 << 10, 4096),
        State::Degraded,
        "is missing",
    ),
    (
        "both copies corrupt",
        |d| {
            d.flip((512 << 10) + 8);
            d.flip((1536 << 10) + 8);
        },
        State::Damaged,
        "is corrupt",
    ),
    (
        "both copies wiped",
        |d| {
            d.wipe(512 << 10, 4096);
            d.wipe(1536 << 10, 4096);
        },
        State::Unprepared,
        "no super block",
    ),
    (
        "primary copy unreadable",
        |d| d.fail(512 << 10, 256),
        State::Degraded,
        "is io-error: media error",
    ),
    (
        "both copies unreadable",
        |d| {
            d.fail(512 << 10, 256);
            d.fail(1536 << 10, 256);
        },
        State::Damaged,
        "io-error",
    ),
    (
        "one copy unreadable, the other wiped",
        |d| {
            d.fail(512 << 10, 256);
            d.wipe(1536 << 10, 4096);
        },
        State::Damaged,
        "io-error",
    ),
    (
        "primary GPT header",
        |d| d.flip(512 + 56),
        State::Degraded,
        "primary GPT is not valid (corrupted CRC32",
    ),
    (
        "primary GPT entries",
        |d| d.flip(1024 + 40),
        State::Degraded,
        "primary GPT is not valid",
    ),
    (
        "primary GPT unreadable",
        |d| d.fail(512, 512),
        State::Degraded,
        "cannot be read: media error",
    ),
    (
        "backup GPT header",
        |d| d.flip(BACKUP_GPT + 56),
        State::Degraded,
        "backup GPT is not valid",
    ),
    (
        "backup GPT wiped",
        |d| d.wipe(BACKUP_GPT, 512),
        State::Degraded,
        "backup GPT is not valid (no GPT signature)",
    ),
    (
        "first 8 KiB zeroed, as by reconfiguring a namespace",
        |d| d.wipe(0, 8192),
        State::Degraded,
        "primary GPT",
    ),
    (
        "both GPTs corrupt",
        |d| {
            d.flip(512 + 56);
            d.flip(BACKUP_GPT + 56);
        },
        State::Damaged,
        "no GUID partition table",
    ),
    (
        "both GPTs gone without a trace",
        |d| {
            d.wipe(0, 32 << 10);
            d.wipe(DISK - (32 << 10), 32 << 10);
        },
        State::Unprepared,
        "no GUID partition table",
    ),
    (
        "copies swapped",
        |d| {
            d.put(512 << 10, &superblock().encode(Which::Backup));
            d.put(1536 << 10, &superblock().encode(Which::Primary));
        },
        State::Damaged,
        "was written for offset",
    ),
    (
        "copies moved within the gap",
        |d| {
            for which in Which::BOTH {
                d.wipe(which.offset().0, 4096);
                d.put(which.offset().0 - 8192, &superblock().encode(which));
            }
        },
        State::Unprepared,
        "no super block",
    ),
    (
        "an older backup",
        |d| {
            d.put_copy(
                Which::Backup,
                &SuperBlock {
                    sequence: 6,
                    ..superblock()
                },
            )
        },
        State::Degraded,
        "is stale: its sequence number is only 6",
    ),
    (
        "equal sequence, different content",
        |d| {
            let reserved = DeviceRange::new(DeviceOffset(RESERVED.0), Bytes(4 * MIB)).unwrap();
            d.put_copy(
                Which::Backup,
                &SuperBlock {
                    reserved,
                    ..superblock()
                },
            );
        },
        State::Damaged,
        "neither is believed",
    ),
    (
        "another disk's copies",
        |d| {
            for which in Which::BOTH {
                d.put_copy(
                    which,
                    &SuperBlock {
                        disk_guid: uuid::Uuid::from_u128(9),
                        ..superblock()
                    },
                );
            }
        },
        State::Unprepared,
        "which is not on this device",
    ),
    (
        "another disk's newer backup",
        |d| {
            let foreign = SuperBlock {
                disk_guid: uuid::Uuid::from_u128(9),
                sequence: 99,
                ..superblock()
            };
            d.put_copy(Which::Backup, &foreign);
        },
        State::Degraded,
        "belongs to partition table",
    ),
    (
        "device grown",
        |d| d.bytes.resize((DISK + MIB) as usize, 0),
        State::Damaged,
        "written for a device of 64 MiB",
    ),
    (
        "device truncated",
        |d| d.bytes.truncate((DISK - MIB) as usize),
        State::Damaged,
        "",
    ),
    (
        "reserved area over a partition",
        |d| {
            for which in Which::BOTH {
                let reserved = DeviceRange::new(DeviceOffset(RESERVED.0), Bytes(8 * MIB)).unwrap();
                d.put_copy(
                    which,
                    &SuperBlock {
                        reserved,
                        ..superblock()
                    },
                );
            }
        },
        State::Damaged,
        "does not lie between",
    ),
    (
        "a copy in a partition is none",
        |d| {
            let mut forged = Disk::partitioned(512, MIB, &[(MIB, 60 * MIB)]);
            forged.put_copy(Which::Backup, &superblock());
            d.bytes = forged.bytes;
        },
        State::Unprepared,
        "no super block",
    ),
    (
        "both copies behind the last partition, moved there",
        |d| {
            d.wipe(512 << 10, 4096);
            d.wipe(1536 << 10, 4096);
            d.put(61 * MIB, &superblock().encode(Which::Primary));
        },
        State::Unprepared,
        "no super block",
    ),
    (
        "first usable block moved back",
        |d| {
            let moved = Disk::partitioned(512, 34 * 512, &[(DATA, 32 * MIB), (32 * MIB, 60 * MIB)]);
            for (offset, size) in [(512, 32 << 10), (DISK - (17 << 10), 17 << 10)] {
                let bytes = moved.bytes[offset as usize..][..size as usize].to_vec();
                d.put(offset, &bytes);
            }
        },
        State::Degraded,
        "another tool could place a partition there",
    ),
];

#[test]
fn each_damage_has_its_outcome() {
    for (name, damage, state, word) in DAMAGES {
        let mut disk = Disk::prepared();
        damage(&mut disk);
        let inspection = disk.inspect();
        assert_eq!(inspection.state, *state, "{name}: {}", inspection.reasons());
        assert!(inspection.reasons().contains(word), "{name}: {}", inspection.reasons());
        let believed = matches!(state, State::Prepared | State::Degraded);
        assert_eq!(inspection.reservation().is_some(), believed, "{name}");
        assert!(!inspection.findings.is_empty(), "{name}");
    }
}

#[test]
fn what_a_hostile_table_asks_for_is_bounded() {
    use table::Invalid;
    type Change = fn(&mut gptman::GPTHeader);
    type Verdict = fn(&Invalid) -> bool;
    let entries: Verdict = |why| matches!(why, Invalid::Entries { .. });
    let geometry: Verdict = |why| matches!(why, Invalid::Geometry { .. });
    let misplaced: Verdict = |why| matches!(why, Invalid::Misplaced { .. });
    let changes: &[(Change, Verdict)] = &[
        (|h| h.number_of_partition_entries = u32::MAX, entries),
        (|h| h.number_of_partition_entries = 0, entries),
        (|h| h.number_of_partition_entries = 1025, entries),
        // As many as are supported, but they do not fit before the first usable block.
        (
            |h| {
                h.number_of_partition_entries = 1024;
                h.first_usable_lba = 34;
            },
            geometry,
        ),
        (|h| h.size_of_partition_entry = u32::MAX, entries),
        (|h| h.size_of_partition_entry = 256, entries),
        (|h| h.partition_entry_lba = u64::MAX, geometry),
        (|h| h.partition_entry_lba = 0, geometry),
        (|h| h.partition_entry_lba = 1, geometry),
        // The entries would lie where partitions may.
        (|h| h.partition_entry_lba = h.first_usable_lba - 31, geometry),
        (|h| h.first_usable_lba = u64::MAX, geometry),
        (|h| h.last_usable_lba = u64::MAX, geometry),
        (|h| h.last_usable_lba = DISK / 512, geometry),
        (|h| h.first_usable_lba = 0, geometry),
        (|h| h.first_usable_lba = 33, geometry),
        (|h| h.primary_lba = 7, misplaced),
        (|h| h.last_usable_lba = 0, geometry),
    ];
    for (change, verdict) in changes {
        let mut disk = Disk::prepared();
        let mut header = disk.inspect().table().unwrap().header().clone();
        change(&mut header);
        header.update_crc32_checksum();
        let mut fields = header.signature.to_vec();
        fields.extend(header.revision);
        fields.extend(header.header_size.to_le_bytes());
        fields.extend(header.crc32_checksum.to_le_bytes());
        fields.extend(header.reserved);
        for lba in [
            header.primary_lba,
            header.backup_lba,
            header.first_usable_lba,
            header.last_usable_lba,
        ] {
            fields.extend(lba.to_le_bytes());
        }
        fields.extend(header.disk_guid);
        fields.extend(header.partition_entry_lba.to_le_bytes());
        fields.extend(header.number_of_partition_entries.to_le_bytes());
        fields.extend(header.size_of_partition_entry.to_le_bytes());
        fields.extend(header.partition_entry_array_crc32.to_le_bytes());
        disk.put(512, &fields);
        let inspection = disk.inspect();
        let why = inspection.primary_table.as_ref().unwrap_err();
        assert!(verdict(why), "{header:?}: {why}");
        assert_eq!(
            inspection.state,
            State::Degraded,
            "the backup is in use: {}",
            inspection.reasons()
        );
    }
}

#[test]
fn tiny_devices_hold_nothing() {
    for size in [0, 1, 511, 512, 513, 1024, 4096, 17408] {
        assert_eq!(
            inspect(&vec![0u8; size], None).unwrap().state,
            State::Unprepared,
            "{size}"
        );
        assert_eq!(
            inspect(&vec![0xffu8; size], None).unwrap().state,
            State::Unprepared,
            "{size}"
        );
    }
}

#[test]
fn a_copy_that_was_written_for_another_place_in_the_gap_is_found() {
    // Made by another writer of the format: the own offset says where.
    let mut disk = Disk::prepared();
    for which in Which::BOTH {
        disk.wipe(which.offset().0, 4096);
    }
    let offset = DeviceOffset(MIB).align_up(COPY).unwrap();
    let bytes = superblock().encode_at(Which::Backup, offset);
    disk.put(offset.0, &bytes);
    let inspection = disk.inspect();
    assert_eq!(inspection.state, State::Degraded, "{}", inspection.reasons());
    assert_eq!(inspection.copy(Which::Backup).offset, offset);
    assert!(inspection.reasons().contains("not at its fixed place"));
}

#[test]
fn holes_are_not_searched() {
    for places in [
        [None, None],
        [Some(3 * MIB), None],
        [Some(3 * MIB + 4096), Some(DATA - 4096)],
    ] {
        let mut disk = Disk::prepared();
        for (which, place) in Which::BOTH.into_iter().zip(places) {
            disk.wipe(which.offset().0, 4096);
            if let Some(place) = place {
                disk.put(place, &superblock().encode_at(which, DeviceOffset(place)));
            }
        }
        let searched = disk.inspect();
        let read_all = disk.read.replace(0);
        disk.sparse = true;
        let skipped = disk.inspect();
        let offsets = |inspection: &Inspection| inspection.copies.each_ref().map(|copy| (copy.offset, copy.reading));
        assert_eq!(offsets(&skipped), offsets(&searched), "{places:?}");
        assert_eq!(skipped.state, searched.state, "{places:?}");
        assert!(*disk.read.borrow() < read_all - 2 * MIB, "{places:?}");
    }
}

#[test]
fn a_copy_with_the_other_ones_signature_in_its_place_is_not_believed() {
    // Its own offset is right, so only the signature tells.
    let mut disk = Disk::prepared();
    let place = Which::Primary.offset();
    disk.put(place.0, &superblock().encode_at(Which::Backup, place));
    let inspection = disk.inspect();
    assert!(
        matches!(inspection.copy(Which::Primary).reading, Reading::Corrupt(_)),
        "{:?}",
        inspection.copy(Which::Primary)
    );
}

#[test]
fn a_reserved_area_over_a_copy_elsewhere_in_the_gap_is_not_believed() {
    // An older copy lies where the newer one says that Xen may write; neither is at its fixed place.
    let mut disk = Disk::prepared();
    for which in Which::BOTH {
        disk.wipe(which.offset().0, 4096);
    }
    let elsewhere = DeviceOffset(64 << 10);
    disk.put(elsewhere.0, &superblock().encode_at(Which::Primary, elsewhere));
    let inside = DeviceOffset(RESERVED.0 + 8192);
    let older = SuperBlock {
        sequence: superblock().sequence - 1,
        reserved: DeviceRange::new(DeviceOffset(4 * MIB), Bytes(4 * MIB)).unwrap(),
        ..superblock()
    };
    disk.put(inside.0, &older.encode_at(Which::Backup, inside));
    let inspection = disk.inspect();
    assert_eq!(inspection.state, State::Damaged, "{}", inspection.reasons());
    assert!(
        inspection
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::ReservedCoversCopy { .. })),
        "{}",
        inspection.reasons()
    );
}

#[test]
fn of_several_copies_elsewhere_the_newest_counts() {
    let with = |sequence| SuperBlock {
        sequence,
        ..superblock()
    };
    for (first, second, counts) in [(5, 9, 9), (9, 5, 9), (7, 7, 7)] {
        let mut disk = Disk::prepared();
        for which in Which::BOTH {
            disk.wipe(which.offset().0, 4096);
        }
        let places = [DeviceOffset(64 << 10), DeviceOffset(128 << 10)];
        for (place, sequence) in places.into_iter().zip([first, second]) {
            disk.put(place.0, &with(sequence).encode_at(Which::Backup, place));
        }
        let report = disk.inspect();
        let report = report.copy(Which::Backup);
        assert!(
            matches!(report.reading, Reading::Valid(found) if found.sequence == counts),
            "{report:?}"
        );
        // Of two that are as new, the one found first.
        let expected = if second > first { places[1] } else { places[0] };
        assert_eq!(report.offset, expected);
    }
}

#[test]
fn all_copies_in_the_gap_are_listed() {
    let mut disk = Disk::prepared();
    let elsewhere = [DeviceOffset(64 << 10), DeviceOffset(1792 << 10)];
    for (which, place) in Which::BOTH.into_iter().zip(elsewhere) {
        disk.put(place.0, &superblock().encode_at(which, place));
    }
    let foreign = SuperBlock {
        disk_guid: uuid::Uuid::from_u128(9),
        ..superblock()
    };
    let place = DeviceOffset(128 << 10);
    disk.put(place.0, &foreign.encode_at(Which::Primary, place));
    let in_partition = DeviceOffset(DATA + MIB);
    disk.put(in_partition.0, &superblock().encode_at(Which::Primary, in_partition));
    let found: Vec<_> = copies_in_gap(&disk, disk.inspect().table().unwrap())
        .into_iter()
        .map(|found| (found.which, found.offset))
        .collect();
    let expected = [
        (Which::Primary, elsewhere[0]),
        (Which::Primary, Which::Primary.offset()),
        (Which::Backup, Which::Backup.offset()),
        (Which::Backup, elsewhere[1]),
    ];
    assert_eq!(found, expected, "neither another table's nor one in a partition");
}

#[test]
fn tables_agree_only_if_all_is_the_same() {
    let table = |disk: &Disk| disk.inspect().primary_table.unwrap();
    let partitions = [(DATA, 32 * MIB), (32 * MIB, 60 * MIB)];
    let one = table(&Disk::partitioned(512, DATA, &partitions));
    assert!(one.agrees_with(&table(&Disk::partitioned(512, DATA, &partitions))));
    assert!(!one.agrees_with(&table(&Disk::partitioned(512, DATA - MIB, &partitions))));
    assert!(!one.agrees_with(&table(&Disk::partitioned(512, DATA, &partitions[..1]))));
    let mut other = Disk::blank();
    let mut cursor = Cursor::new(&mut other.bytes);
    let mut gpt = GPT::new_from(&mut cursor, 512, [7; 16]).unwrap();
    gpt.header.first_usable_lba = DATA / 512;
    for number in 1..=2 {
        gpt[number] = one.entries()[usize::try_from(number).unwrap() - 1].clone();
    }
    gpt.write_into(&mut cursor).unwrap();
    assert!(!one.agrees_with(&table(&other)), "another disk GUID alone");
    assert_eq!(one.entries().len(), 128);
}

#[test]
fn states_have_their_words() {
    let words = [State::Prepared, State::Degraded, State::Damaged, State::Unprepared].map(State::as_str);
    assert_eq!(words, ["prepared", "degraded", "damaged", "unprepared"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changing_any_byte_never_makes_another_reservation(offset in 0..DISK as usize, bit in 0..8u32, near: bool) {
        let mut disk = Disk::prepared();
        // Half of the changes where they matter.
        let offset = if near { offset % (34 * 512 + 2 * 4096) } else { offset };
        let offset = match offset.checked_sub(34 * 512) {
            Some(rest) if near => (if rest < 4096 { 512 << 10 } else { 1536 << 10 }) + rest % 4096,
            _ => offset,
        };
        disk.bytes[offset] ^= 1 << bit;
        let inspection = disk.inspect();
        if let Some((found, table)) = inspection.reservation() {
            prop_assert_eq!(*found, superblock());
            prop_assert_eq!(table.partitions().len(), 2);
        }
    }
}
