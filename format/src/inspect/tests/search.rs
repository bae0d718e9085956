//! Copies of the super block away from their fixed places.

use super::disk::{DATA, Disk, MIB, RESERVED, superblock};
use crate::copies::Reading;
use crate::inspect::{Finding, Inspection, State, copies_in_gap};
use crate::superblock::{COPY, SuperBlock, Which};
use crate::units::{Address, Bytes, DeviceOffset, DeviceRange};

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
fn copies_of_one_kind_that_contradict_each_other_are_not_believed() {
    let places = [DeviceOffset(64 << 10), DeviceOffset(128 << 10)];
    let other = SuperBlock {
        updated: crate::superblock::UnixTime(superblock().updated.0 + 1),
        ..superblock()
    };
    let newer = SuperBlock {
        sequence: superblock().sequence + 1,
        ..superblock()
    };
    let cases = [
        (superblock(), None, State::Degraded),
        (other, None, State::Damaged),
        (other, Some(superblock()), State::Damaged),
        (other, Some(newer), State::Degraded),
    ];
    for (second, backup, state) in cases {
        let mut disk = Disk::prepared();
        for which in Which::BOTH {
            disk.wipe(which.offset().0, 4096);
        }
        for (place, content) in places.into_iter().zip([superblock(), second]) {
            disk.put(place.0, &content.encode_at(Which::Primary, place));
        }
        if let Some(backup) = backup {
            let place = DeviceOffset(192 << 10);
            disk.put(place.0, &backup.encode_at(Which::Backup, place));
        }
        let inspection = disk.inspect();
        assert_eq!(inspection.state, state, "{}", inspection.reasons());
        let ambiguous = inspection
            .findings
            .contains(&Finding::Ambiguous { which: Which::Primary });
        assert_eq!(ambiguous, state == State::Damaged, "{}", inspection.reasons());
    }
}

#[test]
fn a_fixed_place_is_searched_for_the_other_kind() {
    // It is corrupt as the copy that belongs there, and found as the other one.
    let mut disk = Disk::prepared();
    disk.wipe(Which::Backup.offset().0, 4096);
    let place = Which::Primary.offset();
    disk.put(place.0, &superblock().encode_at(Which::Backup, place));
    let inspection = disk.inspect();
    assert_eq!(inspection.state, State::Degraded, "{}", inspection.reasons());
    assert_eq!(inspection.copy(Which::Backup).offset, place);
    assert!(matches!(inspection.copy(Which::Primary).reading, Reading::Corrupt(_)));
}

#[test]
fn bytes_that_this_version_does_not_know_are_content() {
    let mut disk = Disk::prepared();
    let mut page = superblock().encode(Which::Primary);
    page[4000] = 7;
    let changed = superblock().encode_over(&page, Which::Backup, Which::Backup.offset());
    disk.put(Which::Backup.offset().0, &changed);
    let inspection = disk.inspect();
    assert_eq!(inspection.findings, [Finding::Conflict]);
    assert_eq!(inspection.state, State::Damaged);
}

#[test]
fn an_unknown_read_only_feature_counts_in_every_valid_copy() {
    let mut disk = Disk::prepared();
    assert_eq!(disk.inspect().unknown_read_only_features(), 0);
    let mut stale = SuperBlock {
        sequence: superblock().sequence - 1,
        ..superblock()
    };
    stale.features.read_only = 4;
    disk.put_copy(Which::Backup, &stale);
    let inspection = disk.inspect();
    assert_eq!(inspection.state, State::Degraded);
    assert_eq!(inspection.unknown_read_only_features(), 4);
}
