//! The property.

use crate::arbitrary::{self, Event, MIB, Origin, geometry, request};
use crate::disk::Disk;
use gptman::GPTPartitionEntry;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::{Inspection, State};
use xen_pmem_format::superblock::{UnixTime, Which};
use xen_pmem_format::units::{Bytes, LbaSize};
use xen_pmem_provision::backup::Backup;
use xen_pmem_provision::entries::entries_of;
use xen_pmem_provision::plan::{Before, Plan};
use xen_pmem_provision::{init, remove, repair, resize, restore};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Command {
    Init,
    Remove,
    Repair,
    Resize(u64),
    Restore,
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Init),
        Just(Command::Remove),
        Just(Command::Repair),
        (1..6u64).prop_map(|superpages| Command::Resize(superpages * 2 * MIB)),
        Just(Command::Restore),
    ]
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Remove => "remove",
            Self::Repair => "repair",
            Self::Resize(_) => "resize",
            Self::Restore => "restore",
        }
    }

    fn plan(self, before: &Before<'_, Disk>, backup: &Backup) -> Result<Plan, String> {
        let geometry = geometry(before.device, before.inspection.lba_size);
        match self {
            Self::Init => init::plan(before, &geometry, &request(9, &[]))
                .map(|plan| plan.plan)
                .map_err(|error| error.to_string()),
            Self::Remove => remove::plan(before).map_err(|error| error.to_string()),
            Self::Repair => repair::plan(before).map_err(|error| error.to_string()),
            Self::Resize(size) => resize::plan(before, &geometry, Bytes(size), UnixTime(9))
                .map(|plan| plan.plan)
                .map_err(|error| error.to_string()),
            Self::Restore => restore::plan(before, backup).map_err(|error| error.to_string()),
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    size: u64,
    lba_size: LbaSize,
    /// Whether it is a block device, which has a block size.
    device: bool,
    origin: Origin,
    events: Vec<Event>,
    command: Command,
    force: bool,
}

prop_compose! {
    fn cases()(
        size in 20..28u64,
        large_blocks in prop::bool::weighted(0.3),
        device: bool,
        origin in arbitrary::origins(),
        events in arbitrary::events(),
        command in commands(),
        force in prop::bool::weighted(0.3),
    ) -> Case {
        let lba_size = if large_blocks { LbaSize::B4096 } else { LbaSize::B512 };
        Case { size: size * MIB, lba_size, device, origin, events, command, force }
    }
}

/// Returns the entries in use, each with its number.
fn entries(inspection: &Inspection) -> Option<Vec<(usize, GPTPartitionEntry)>> {
    let used = |entries: &[GPTPartitionEntry]| {
        let numbered = entries.iter().cloned().enumerate();
        numbered.filter(|(_, entry)| entry.is_used()).collect()
    };
    inspection.table().map(|table| used(&entries_of(table).unwrap()))
}

/// Returns whether a copy that a reader sees must not be changed by this version.
fn is_of_a_newer_version(inspection: &Inspection) -> bool {
    inspection.copies.iter().any(|copy| match copy.reading {
        Reading::Valid(superblock) | Reading::Foreign(superblock) => superblock.features.read_only != 0,
        _ => false,
    })
}

/// Returns what follows the known fields in the copies at their fixed places.
fn rests(disk: &Disk) -> Vec<Vec<u8>> {
    Which::BOTH
        .iter()
        .map(|which| disk.page(which.offset().0)[208..].to_vec())
        .collect()
}

fn run(case: &Case, done: &RefCell<BTreeMap<&'static str, u32>>) -> Result<(), TestCaseError> {
    let mut disk = case.origin.make(case.size, case.lba_size);
    let own = case.device.then_some(case.lba_size);
    let backup = Backup::of_metadata(&disk, "disk", &disk.inspect(own)).unwrap();
    for event in &case.events {
        event.happen(&mut disk, case.lba_size);
    }
    let inspection = disk.inspect(own);
    let before = Before {
        device: &disk,
        own_lba_size: own,
        inspection: &inspection,
        force: case.force,
    };
    let Ok(plan) = case.command.plan(&before, &backup) else {
        return Ok(());
    };
    let Ok(checked) = plan.check(&before) else {
        return Ok(());
    };
    *done.borrow_mut().entry(case.command.name()).or_default() += 1;
    prop_assert!(!is_of_a_newer_version(&inspection), "a newer version's copy");

    let partitions = disk.partitions();
    let unknown = rests(&disk);
    checked.apply(&disk).unwrap();
    let written = disk.take_written();
    let gives_up = case.command == Command::Init && case.force;
    for partition in partitions.iter().filter(|_| !gives_up) {
        let over = written.iter().find(|range| range.overlaps(*partition));
        prop_assert!(over.is_none(), "{over:?} is in the partition {partition}");
    }

    let after = disk.inspect(own);
    let expected = match case.command {
        Command::Remove => State::Unprepared,
        // With --force, the backup of a foreign layout restores that layout.
        Command::Restore if case.force => after.state,
        _ => State::Prepared,
    };
    prop_assert_eq!(after.state, expected, "{}", after.reasons());
    let keeps_partitions = matches!(case.command, Command::Remove | Command::Repair | Command::Resize(_))
        || (case.command == Command::Restore && !case.force && inspection.table().is_some());
    // Over what claims the start of the device, a repair goes by the backup table.
    if keeps_partitions && inspection.table().is_some() {
        prop_assert_eq!(entries(&inspection), entries(&after));
    }
    if case.command == Command::Repair
        && let Some((superblock, _)) = inspection.reservation()
    {
        prop_assert_eq!(*superblock, *after.reservation().unwrap().0);
    }
    if let (Command::Repair | Command::Resize(_), Some((superblock, _))) = (case.command, inspection.reservation()) {
        let copy = inspection
            .copies
            .iter()
            .find(|copy| copy.reading == Reading::Valid(*superblock));
        let kept = disk.page(Which::Primary.offset().0);
        if let Some(copy) = copy.filter(|copy| copy.offset == copy.which.offset()) {
            let was = &unknown[usize::from(copy.which == Which::Backup)];
            prop_assert_eq!(&kept[208..], was.as_slice(), "unknown bytes are kept");
            prop_assert_eq!(rests(&disk)[0].clone(), rests(&disk)[1].clone());
        }
    }

    // Once more, there is nothing left to do.
    let again = Before {
        inspection: &after,
        ..before
    };
    match case.command {
        Command::Remove => prop_assert!(remove::plan(&again).is_err()),
        Command::Repair => prop_assert_eq!(repair::plan(&again).unwrap().steps.len(), 0),
        _ => {}
    }
    Ok(())
}

#[test]
fn what_is_not_refused_keeps_its_promise() {
    let done = RefCell::new(BTreeMap::new());
    let mut runner = TestRunner::new(Config {
        cases: 3000,
        failure_persistence: None,
        ..Config::default()
    });
    runner.run(&cases(), |case| run(&case, &done)).unwrap();
    // Not by refusing everything.
    let done = done.into_inner();
    for command in ["init", "remove", "repair", "resize", "restore"] {
        let count = done.get(command).copied().unwrap_or_default();
        assert!(count > 5, "{command} was done {count} times: {done:?}");
    }
}

/// The caller gives up the bytes in block 0, but not the valid primary table behind it. The property found this case.
#[test]
fn a_repair_by_force_goes_by_the_primary_table() {
    let repair_of_a_foreign_block_0 = Case {
        size: 20 * MIB,
        lba_size: LbaSize::B4096,
        device: false,
        origin: Origin::Ours(Vec::new()),
        events: vec![Event::ExtendLast(5), Event::Swap],
        command: Command::Repair,
        force: true,
    };
    let done = RefCell::new(BTreeMap::new());
    run(&repair_of_a_foreign_block_0, &done).unwrap();
    assert_eq!(done.into_inner().len(), 1, "it is not refused");
}
