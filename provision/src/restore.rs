//! The plan that puts saved pieces back.

use crate::backup::Backup;
use crate::clearing::{self, Clearing};
use crate::commit::{self, Content};
use crate::gpt::{Tables, Unfit, block_0};
use crate::overlay::Overlay;
use crate::places::{self, Part, Shape};
use crate::plan::{self, Before, Plan, Refusal};
use crate::promise::Promise;
use crate::step::Step;
use std::io;
use uuid::Uuid;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::{Inspection, inspect};
use xen_pmem_format::mbr::BlockZero;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{SuperBlock, Which};
use xen_pmem_format::table::{DEFAULT_ENTRIES, Place, Table};
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange};

/// Why nothing is restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device has another size.
    #[error("has {is}, the backup is of a device of {was}")]
    Size {
        /// The device's.
        is: Bytes,
        /// The one that was saved.
        was: Bytes,
    },
    /// There is another reservation or table that works.
    #[error("there is {0}, which the backup would replace")]
    Replaces(String),
    /// The table does not fit the device.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// What is there must not be changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The backup does not contain a layout of this format.
    #[error("the backup does not contain a whole reservation ({0})")]
    NoReservation(String),
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The steps cannot be made.
    #[error(transparent)]
    Commit(#[from] commit::Error),
}

/// Plans the restoration. Reads the device and writes nothing.
///
/// # Errors
///
/// Why it cannot be restored, or must not be.
pub fn plan<D: ReadAt + ?Sized>(before: &Before<'_, D>, backup: &Backup) -> Result<Plan, Error> {
    let (device, force) = (before.device, before.force);
    let device_size = before.inspection.device_size;
    if backup.device_size() != device_size {
        return Err(Error::Size {
            is: device_size,
            was: backup.device_size(),
        });
    }
    let mut restored = Overlay::new(device);
    for (offset, bytes) in backup.pieces() {
        restored.write(offset, bytes);
    }
    // An image does not have a block size: take that of the backup's tables, since the image's tables may be gone.
    let wanted = inspect(&restored, before.own_lba_size)?;
    let Some((superblock, table)) = wanted.reservation() else {
        return if force {
            Ok(as_they_are(backup, &wanted))
        } else {
            Err(Error::NoReservation(wanted.reasons()))
        };
    };
    let there = inspect(device, Some(wanted.lba_size))?;
    if !force {
        refuse_loss(before, &there, superblock, table)?;
    }
    let first_usable = table.usable().base().max(superblock.reserved.end());
    let mbr = block_0(&restored)?;
    let tables = Tables::changed(table, device_size, first_usable, &mbr)?;
    if !force {
        refuse_hybrid_mbr(device, &there, &mbr)?;
    }
    let clearing = Clearing::plan(device, &there, &tables)?;
    let cleared = clearing.cleared(tables.shape());
    let content = Content::over(&restored, &wanted, *superblock)?;
    // A reservation that differs goes first: half of the one and half of the other must never be seen as one.
    let mut steps = Vec::new();
    match there.reservation() {
        Some((old, old_table)) if old == superblock && old_table.agrees_with(table) => {}
        Some(_) => steps.extend(commit::no_copies(device, &there, &[])),
        None => {}
    }
    let unprepared = inspect(&Overlay::with_steps(device, &steps), Some(wanted.lba_size))?;
    steps.extend(commit::whole(device, &unprepared, &content, &tables)?);
    Ok(Plan {
        steps,
        promise: Promise::Prepared {
            superblock: *superblock,
            partitions: tables.partitions(),
        },
        shape: tables.shape(),
        writable: [own_places(&there), clearing::writable(tables.shape())].concat(),
        taken: cleared.chain(new_area(&there, superblock)).collect(),
        gives_up_partitions: false,
    })
}

/// Returns what Xen would newly get: the reserved area, unless a copy of the same reservation on the device says that Xen has it.
fn new_area(there: &Inspection, wanted: &SuperBlock) -> Option<DeviceRange> {
    let has_it = there.copies.iter().any(|copy| match copy.reading {
        Reading::Valid(old) | Reading::Ambiguous(old) | Reading::Foreign(old) => {
            old.uuid == wanted.uuid && old.reserved.contains(wanted.reserved)
        }
        Reading::Corrupt(_) | Reading::Missing | Reading::IoError => false,
    });
    (!has_it).then_some(wanted.reserved)
}

/// Returns where copies of the reservation that is there were found.
fn own_places(there: &Inspection) -> Vec<(Part, DeviceRange)> {
    let found = there.copies.iter().filter(|copy| copy.reading != Reading::Missing);
    found.map(|copy| (Part::Copy, places::page(copy.offset))).collect()
}

/// Refuses to replace what works or what is not ours.
fn refuse_loss<D: ReadAt + ?Sized>(
    before: &Before<'_, D>,
    inspection: &Inspection,
    superblock: &SuperBlock,
    table: &Table,
) -> Result<(), Error> {
    let differs = |what: &str, guid: Uuid| Error::Replaces(format!("{what} {guid}"));
    if let Some((old, _)) = inspection.reservation()
        && (old.uuid != superblock.uuid || old.sequence > superblock.sequence)
    {
        return Err(differs("a working reservation, maybe a newer one:", old.uuid));
    }
    if let Some(old) = inspection.table() {
        if old.disk_guid() != table.disk_guid() {
            return Err(differs("a working partition table,", old.disk_guid()));
        }
        if old.entries() != table.entries() {
            return Err(Error::Replaces(
                "a working partition table with other partitions".to_owned(),
            ));
        }
        return Ok(());
    }
    plan::refuse_foreign(before)?;
    Ok(())
}

/// Refuses to write over other records of a hybrid MBR, which no signature shows.
fn refuse_hybrid_mbr<D: ReadAt + ?Sized>(device: &D, there: &Inspection, mbr: &[u8]) -> Result<(), Error> {
    match &there.block_0 {
        Ok(BlockZero::Protective { others }) if !others.is_empty() && block_0(device)? != mbr => {
            Err(Error::Replaces("a hybrid MBR".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Returns the plan that puts the pieces back byte by byte.
fn as_they_are(backup: &Backup, wanted: &Inspection) -> Plan {
    let pieces: Vec<(DeviceOffset, Vec<u8>)> = backup.pieces().collect();
    let device_end = DeviceOffset::after(wanted.device_size);
    let writable = pieces.iter().map(|(offset, bytes)| {
        let range = DeviceRange::clamped(*offset, Bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX)));
        let part = if range.end() <= Which::Primary.offset() {
            Part::Table(Place::Primary)
        } else if range.end() == device_end {
            Part::Table(Place::Backup)
        } else {
            Part::Free
        };
        (part, range)
    });
    let writes = pieces.iter().map(|(offset, bytes)| Step::Write {
        offset: *offset,
        bytes: bytes.clone(),
        what: "saved bytes".to_owned(),
    });
    Plan {
        steps: writes.flat_map(|write| [write, Step::Flush]).collect(),
        writable: writable.collect(),
        shape: Shape {
            lba_size: wanted.lba_size,
            entries: DEFAULT_ENTRIES,
        },
        promise: Promise::Bytes(pieces),
        taken: Vec::new(),
        gives_up_partitions: false,
    }
}
