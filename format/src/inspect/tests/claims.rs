//! Other things on the whole disk, in the place of the protective MBR or of the primary table, and entries in the way.

use super::disk::{BACKUP_GPT, DATA, Disk, MIB, RESERVED, entries, header, superblock};
use crate::inspect::claim::SIGNATURES;
use crate::inspect::{Claim, Finding, Inspection, State, inspect};
use crate::mbr::record;
use crate::superblock::Which;
use crate::units::{DeviceOffset, LbaSize};
use gptman::GPTHeader;
use proptest::prelude::*;
use std::io::Cursor;

/// Where the head of a table of 128 entries and 512-byte blocks ends.
const HEAD: u64 = 34 * 512;

fn claim(inspection: &Inspection) -> Option<Claim> {
    inspection.findings.iter().find_map(|finding| match finding {
        Finding::Claimed(claim) => Some(*claim),
        _ => None,
    })
}

/// Returns what a byte at `offset` claims on a device without a primary table.
fn claimed_by(offset: u64, bytes: &[u8]) -> Option<Claim> {
    let mut disk = Disk::prepared();
    disk.wipe(0, 8192);
    disk.put(offset, bytes);
    let inspection = disk.inspect();
    let claim = claim(&inspection);
    let expected = if claim.is_some() {
        State::Damaged
    } else {
        State::Degraded
    };
    assert_eq!(inspection.state, expected, "{}", inspection.reasons());
    claim
}

#[test]
fn each_signature_claims_the_start_and_is_named() {
    for (what, signature, places) in SIGNATURES {
        for place in *places {
            let claim = claimed_by(*place, signature);
            assert_eq!(claim.map(|claim| claim.what), Some(*what), "at {place}");
        }
    }
}

#[test]
fn bytes_of_something_unknown_claim_the_start() {
    for place in [
        0,
        3,
        445,
        512,
        519,
        604,
        1023,
        HEAD,
        HEAD + 1,
        0x7ffff,
        0x81000,
        0x17ffff,
    ] {
        assert_eq!(
            claimed_by(place, &[1]).map(|claim| (claim.what, claim.at)),
            Some((
                "data of something else",
                DeviceOffset(if (512..1024).contains(&place) { 512 } else { place })
            )),
            "at {place}"
        );
    }
    // What a table or a copy leaves behind, and what lies behind the copies.
    for place in [1024, 8191, HEAD - 1, 0x181000, RESERVED.0, DATA] {
        assert_eq!(claimed_by(place, &[1]), None, "at {place}");
    }
    assert_eq!(
        claimed_by(
            64 << 10,
            &superblock().encode_at(Which::Primary, DeviceOffset(64 << 10))
        ),
        None
    );
}

#[test]
fn a_partition_table_in_the_mbr_is_what_linux_goes_by() {
    let mut disk = Disk::prepared();
    disk.put(446, &record(0x83, 2048, 4096));
    let inspection = disk.inspect();
    assert_eq!(inspection.state, State::Damaged);
    assert_eq!(claim(&inspection).unwrap().what, "a partition table in the MBR");
    assert!(inspection.primary_table.is_ok());
}

#[test]
fn a_file_system_over_the_mbr_of_larger_blocks_leaves_the_primary_table() {
    let prepared = || {
        let mut disk = Disk::partitioned(4096, DATA, &[(DATA, 32 * MIB)]);
        for which in Which::BOTH {
            disk.put_copy(which, &superblock());
        }
        disk
    };
    assert_eq!(prepared().inspect().state, State::Prepared);
    let mut swap = prepared();
    swap.wipe(0, 1024);
    swap.put(4086, b"SWAPSPACE2");
    let inspection = swap.inspect();
    assert!(inspection.primary_table.is_ok());
    assert_eq!(claim(&inspection).unwrap().what, "a swap area");
    assert_eq!(inspection.state, State::Damaged);
    let mut md = prepared();
    md.put(4096, &[0xfc, 0x4e, 0x2b, 0xa9]);
    assert_eq!(claim(&md.inspect()).unwrap().what, "a member of an md array");
}

#[test]
fn a_hybrid_mbr_may_not_claim_the_reservation() {
    for (first, blocks, state) in [
        ((DATA / 512) as u32, 8, State::Prepared),
        ((RESERVED.0 / 512) as u32, 8, State::Damaged),
        (1, (DATA / 512) as u32 - 1, State::Damaged),
        (1024, 1, State::Damaged),
        (1023, 1, State::Prepared),
    ] {
        let mut disk = Disk::prepared();
        disk.put(446 + 16, &record(0x0c, first, blocks));
        let inspection = disk.inspect();
        assert_eq!(inspection.state, state, "{first} {blocks}: {}", inspection.reasons());
    }
}

#[test]
fn without_a_protective_mbr_it_is_degraded() {
    type Loss = fn(&mut Disk);
    let losses: [Loss; 4] = [
        |d| d.wipe(0, 512),
        |d| d.wipe(510, 2),
        |d| d.wipe(450, 1),
        |d| d.fail(0, 256),
    ];
    for lose in losses {
        let mut disk = Disk::prepared();
        lose(&mut disk);
        let inspection = disk.inspect();
        assert_eq!(inspection.state, State::Degraded, "{}", inspection.reasons());
        let [Finding::ProtectiveMbr { .. }] = inspection.findings.as_slice() else {
            panic!("{}", inspection.reasons());
        };
    }
}

/// Writes `header` and its entries where it says.
fn put_table(disk: &mut Disk, mut header: GPTHeader) {
    let entries = entries(disk.inspect().table().unwrap());
    header
        .write_into(&mut Cursor::new(&mut disk.bytes), 512, &entries)
        .unwrap();
}

#[test]
fn the_gap_begins_behind_the_entries_wherever_they_are() {
    for (at, reportable) in [
        (2, true),
        (3, true),
        ((512 << 10) / 512 - 32, true),
        ((512 << 10) / 512 - 31, false),
        ((512 << 10) / 512, false),
        (0x181000 / 512, false),
        (RESERVED.0 / 512, false),
        ((RESERVED.0 + RESERVED.1) / 512 - 32, false),
    ] {
        let mut disk = Disk::prepared();
        let header = header(disk.inspect().table().unwrap());
        put_table(
            &mut disk,
            GPTHeader {
                partition_entry_lba: at,
                ..header
            },
        );
        let inspection = disk.inspect();
        assert_eq!(
            inspection.reservation().is_some(),
            reportable,
            "{at}: {}",
            inspection.reasons()
        );
        let moved = inspection
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::EntriesMoved { .. }));
        assert_eq!(moved, !reportable, "{at}: {}", inspection.reasons());
        let state = if reportable { State::Prepared } else { State::Damaged };
        assert_eq!(inspection.state, state, "{at}: {}", inspection.reasons());
    }
}

#[test]
fn a_backup_table_before_the_end_of_the_usable_blocks_is_none() {
    // The primary header names a block of the reserved area as the place of its backup.
    let mut disk = Disk::prepared();
    let primary = header(disk.inspect().table().unwrap());
    let at = RESERVED.0 / 512;
    let backup = GPTHeader {
        primary_lba: at,
        backup_lba: 1,
        partition_entry_lba: BACKUP_GPT / 512 - 32,
        ..primary.clone()
    };
    put_table(&mut disk, backup);
    put_table(
        &mut disk,
        GPTHeader {
            backup_lba: at,
            ..primary
        },
    );
    let inspection = disk.inspect();
    assert!(inspection.primary_table.is_ok(), "{}", inspection.reasons());
    assert!(inspection.backup_table.is_err(), "{}", inspection.reasons());
}

/// Makes the header at `at` `size` bytes long and its checksum right.
fn resize_header(disk: &mut Disk, at: u64, size: u32) {
    let at = at as usize;
    disk.bytes[at + 12..at + 16].copy_from_slice(&size.to_le_bytes());
    disk.bytes[at + 16..at + 20].fill(0);
    let checksum = crc32fast::hash(&disk.bytes[at..at + size as usize]);
    disk.bytes[at + 16..at + 20].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_header_may_have_any_size_up_to_its_block() {
    for (size, valid) in [
        (91, false),
        (92, true),
        (93, true),
        (512, true),
        (513, false),
        (4096, false),
    ] {
        let mut disk = Disk::prepared();
        resize_header(&mut disk, 512, size);
        let inspection = disk.inspect();
        assert_eq!(
            inspection.primary_table.is_ok(),
            valid,
            "{size}: {}",
            inspection.reasons()
        );
    }
}

#[test]
fn a_stray_signature_does_not_hide_a_table_of_other_blocks() {
    for (lba, other) in [(512, 4096), (4096, 512)] {
        let disk = || {
            let mut disk = Disk::partitioned(lba, DATA, &[(DATA, 32 * MIB)]);
            for which in Which::BOTH {
                disk.put_copy(which, &superblock());
            }
            disk
        };
        let mut stray = disk();
        // In the last block of the other size, and, where there is room, in its block 1.
        stray.put(super::DISK - other, b"EFI PART");
        if other == 512 {
            assert_eq!(stray.inspect().lba_size, LbaSize::B4096);
            stray.put(512, b"EFI PART");
        }
        let inspection = stray.inspect();
        assert_eq!(inspection.lba_size.bytes().0, lba, "{}", inspection.reasons());
        assert!(inspection.primary_table.is_ok());
        // And the backup alone decides, too.
        let mut backup = disk();
        backup.wipe(0, 8192);
        if other == 512 {
            backup.put(512, b"EFI PART");
        }
        assert_eq!(backup.inspect().lba_size.bytes().0, lba);
    }
}

#[test]
fn the_rest_of_a_device_that_is_no_multiple_of_a_block_belongs_to_none() {
    let mut disk = Disk::prepared();
    disk.bytes.resize(disk.bytes.len() + 100, 7);
    let size = crate::superblock::SuperBlock {
        device_size: crate::units::Bytes(super::DISK + 100),
        ..superblock()
    };
    for which in Which::BOTH {
        disk.put_copy(which, &size);
    }
    let inspection = disk.inspect();
    assert_eq!(inspection.state, State::Prepared, "{}", inspection.reasons());
}

#[test]
fn an_empty_range_of_usable_blocks_makes_no_table() {
    let mut disk = Disk::partitioned(512, DATA, &[]);
    let header = header(disk.inspect().table().unwrap());
    put_table(
        &mut disk,
        GPTHeader {
            last_usable_lba: header.first_usable_lba - 1,
            ..header
        },
    );
    let primary = disk.inspect().primary_table;
    assert!(primary.is_err(), "{primary:?}");
}

#[test]
fn a_table_of_another_revision_is_none() {
    let mut disk = Disk::prepared();
    disk.put(512 + 8, &[0, 0, 2, 0]);
    resize_header(&mut disk, 512, 92);
    let inspection = disk.inspect();
    assert!(
        inspection.reasons().contains("revision 0x00020000"),
        "{}",
        inspection.reasons()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A writer replaces a header by zeroing its signature, writing the rest, writing the signature; what a cut-off leaves of that
    /// claims nothing.
    #[test]
    fn a_torn_primary_table_claims_nothing(written: [bool; 64], block_0: [bool; 64], entries: [bool; 64], over_zeros: bool) {
        let mut disk = Disk::prepared();
        let (new_mbr, mut new) = (disk.bytes[..512].to_vec(), disk.bytes[512..1024].to_vec());
        new[40..48].copy_from_slice(&7u64.to_le_bytes());
        new[16..20].fill(9);
        if over_zeros {
            disk.wipe(0, 8192);
        }
        disk.wipe(512, 8);
        let mut tear = |from: &[u8], at: usize, written: &[bool]| {
            for (word, _) in written.iter().enumerate().filter(|(_, written)| **written) {
                let range = at + word * 8..at + word * 8 + 8;
                disk.bytes[range].copy_from_slice(&from[word * 8..word * 8 + 8]);
            }
        };
        tear(&new_mbr, 0, &block_0);
        tear(&new, 512, &[&[false], &written[1..]].concat());
        tear(&[0x5a; 512], 1024, &entries);
        let inspection = inspect(&disk, None).unwrap();
        prop_assert_eq!(inspection.state, State::Degraded, "{}", inspection.reasons());
    }
}
