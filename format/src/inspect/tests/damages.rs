//! A prepared disk, damaged one way at a time: each damage has its outcome in a table.

use super::disk::{BACKUP_GPT, DATA, DISK, Disk, MIB, RESERVED, superblock};
use crate::inspect::State;
use crate::superblock::{SuperBlock, Which};
use crate::units::{Bytes, DeviceOffset, DeviceRange};

/// A kind of damage: its name, what it does to a prepared disk, the resulting state, and the start of the finding's text.
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
        "backup GPT is not valid (the GPT signature is missing)",
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
        "neither can be trusted",
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
