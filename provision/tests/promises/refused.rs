//! Plans that no command makes: the check refuses each of them.

use crate::arbitrary::{MIB, Origin, Theirs};
use crate::disk::Disk;
use xen_pmem_format::superblock::Which;
use xen_pmem_format::table::Place;
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, LbaSize};
use xen_pmem_provision::entries::Partitions;
use xen_pmem_provision::places::Part;
use xen_pmem_provision::plan::{Before, Plan, Refusal};
use xen_pmem_provision::promise::Promise;
use xen_pmem_provision::remove;
use xen_pmem_provision::step::Step;

const SIZE: u64 = 20 * MIB;
const PRIMARY_ENTRIES_AT: u64 = (2 + 100) * 512;

/// Returns a device of another tool, prepared; the primary table's entries stand away from its header.
fn disk() -> Disk {
    Origin::Theirs(Theirs {
        entries: 128,
        entries_after: 100,
        unusable: (0, 0),
        no_room: false,
        partitions: vec![(0, 512), (16, 512)],
        reserved: Some(2),
    })
    .make(SIZE, LbaSize::B512)
}

fn refused(disk: &Disk, change: impl FnOnce(&mut Plan)) -> Refusal {
    let inspection = disk.inspect(None);
    let before = Before {
        device: disk,
        own_lba_size: None,
        inspection: &inspection,
        force: false,
    };
    let mut plan = remove::plan(&before).unwrap();
    plan.check(&before).expect("the command's own plan");
    change(&mut plan);
    plan.check(&before).unwrap_err()
}

fn write(offset: u64, length: usize) -> Step {
    Step::Write {
        offset: DeviceOffset(offset),
        bytes: vec![0; length],
        what: "a test".to_owned(),
    }
}

#[test]
fn a_step_touches_nothing_of_anybody_else() {
    let disk = disk();
    let table = disk.inspect(None).primary_table.unwrap();
    let first = table.partitions()[0].range.base().0;
    let end = table.partitions()[1].range.end().0;
    let area = |offset, size| DeviceRange::clamped(DeviceOffset(offset), Bytes(size));
    // Places outside of this format: the gap, the reserved area, beyond the end, across the border of a place.
    for (offset, length) in [
        (256 << 10, 512),
        (3 * MIB, 512),
        (SIZE - 512, 1024),
        (SIZE, 8),
        (u64::MAX - 4, 8),
        (33 * 512, 1024),
        (Which::Primary.offset().0 - 8, 16),
        (Which::Primary.offset().0 + 4090, 16),
    ] {
        let refusal = refused(&disk, |plan| plan.steps.push(write(offset, length)));
        assert!(matches!(refusal, Refusal::Outside { .. }), "{offset:#x}: {refusal}");
    }
    // A partition, even where the plan says that it is free: its first and its last bytes, and both at once with what is before.
    for offset in [first, first - 504, end - 8] {
        let refusal = refused(&disk, |plan| {
            plan.writable.push((Part::Free, area(offset, MIB)));
            plan.steps.push(write(offset, 512));
        });
        assert!(matches!(refusal, Refusal::Partition { .. }), "{offset:#x}: {refusal}");
    }
    // A table's bytes, by what is for something else. The plan's own places are taken away: they would be looked at first.
    let backup_entries_at = SIZE - 33 * 512;
    for (part, offset, place) in [
        (Part::Free, PRIMARY_ENTRIES_AT + 512, Place::Primary),
        (Part::Copy, PRIMARY_ENTRIES_AT, Place::Primary),
        (Part::Table(Place::Backup), PRIMARY_ENTRIES_AT, Place::Primary),
        (Part::Free, backup_entries_at, Place::Backup),
        (Part::Table(Place::Primary), backup_entries_at, Place::Backup),
    ] {
        let refusal = refused(&disk, |plan| {
            plan.steps = vec![write(offset, 512)];
            plan.shape.entries = 0;
            plan.writable.push((part, area(offset, 512)));
        });
        assert!(
            matches!(refusal, Refusal::Table { table, .. } if table == place),
            "{part:?}: {refusal}"
        );
    }
}

#[test]
fn the_outcome_is_the_promised_one() {
    let disk = disk();
    let outcome = |change: fn(&mut Plan)| match refused(&disk, change) {
        Refusal::Outcome(reason) => reason,
        other => panic!("{other}"),
    };
    type Case = (fn(&mut Plan), &'static str);
    let cases: [Case; 5] = [
        (|plan| plan.steps.clear(), "the device is degraded, not unprepared"),
        (
            |plan| {
                plan.steps.truncate(2);
            },
            "not unprepared",
        ),
        (|plan| plan.steps.push(write(512, 8)), "the primary GPT is not valid"),
        (
            |plan| {
                let Promise::Removed { partitions, .. } = &mut plan.promise else {
                    panic!("it is a removal")
                };
                *partitions = Partitions::of(&[]);
            },
            "the primary GPT has other partitions",
        ),
        (
            |plan| {
                let Promise::Removed { disk_guid, .. } = &mut plan.promise else {
                    panic!("it is a removal")
                };
                *disk_guid = uuid::Uuid::from_u128(5);
            },
            "the primary GPT has other partitions",
        ),
    ];
    for (change, words) in cases {
        let reason = outcome(change);
        assert!(reason.contains(words), "{reason}");
    }
}
