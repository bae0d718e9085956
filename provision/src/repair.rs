//! The plan that heals what is damaged, from the half that is not.
//!
//! It repairs only what is beyond doubt. If two halves contradict each other, or another tool has left its signature where a repair would
//! write, it changes nothing.

use crate::all_copies;
use crate::commit::{self, Content};
use crate::entries::Partitions;
use crate::gpt::{Tables, Unfit, block_0};
use crate::overlay::Overlay;
use crate::places::Shape;
use crate::plan::{self, Before, Plan, Refusal};
use crate::promise::Promise;
use std::io;
use xen_pmem_format::inspect::{Inspection, State, inspect};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::Which;
use xen_pmem_format::units::{Address as _, DeviceOffset, DeviceRange};

/// Why nothing is repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to repair.
    #[error("there is no reservation to repair: {0}")]
    Nothing(String),
    /// Nobody can say what is right.
    #[error("cannot be repaired: {0}; `xen-pmem-provision verify` says what can be done")]
    Hopeless(String),
    /// The table does not fit the device.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// What is there must not be changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The steps cannot be made.
    #[error(transparent)]
    Commit(#[from] commit::Error),
}

/// Plans the repair: no steps if there is nothing wrong. Reads the device and writes nothing.
///
/// # Errors
///
/// Why it cannot be repaired, or must not be.
pub fn plan<D: ReadAt + ?Sized>(before: &Before<'_, D>) -> Result<Plan, Error> {
    let (device, inspection) = (before.device, before.inspection);
    plan::refuse_newer(inspection)?;
    if inspection.state == State::Unprepared {
        return Err(Error::Nothing(inspection.reasons()));
    }
    let damaged = inspection.reservation().is_none();
    if damaged && !plan::refuse_foreign(before)?.0.is_empty() {
        // The caller gives up what another tool has left before the copies, but not a valid table: judge the device without those bytes.
        let mut without = Overlay::new(device);
        let size = match inspection.primary_table {
            Ok(_) => inspection.lba_size.bytes(),
            Err(_) => Which::Primary.offset().distance(),
        };
        without.zero(DeviceRange::clamped(DeviceOffset(0), size))?;
        let inspection = inspect(&without, Some(inspection.lba_size))?;
        return steps(device, &inspection, &block_0(&without)?);
    }
    steps(device, inspection, &block_0(device)?)
}

/// Returns the plan for a device with this inspection, made with or without the bytes that are given up.
fn steps<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, block_0: &[u8]) -> Result<Plan, Error> {
    let (superblock, table) = inspection
        .reservation()
        .ok_or_else(|| Error::Hopeless(inspection.reasons()))?;
    let promise = Promise::Prepared {
        superblock: *superblock,
        partitions: Partitions::of_table(table).map_err(Unfit::from)?,
    };
    let shape = Shape {
        lba_size: table.lba_size(),
        entries: table.header().entries,
    };
    if inspection.state == State::Prepared {
        return Ok(Plan::nothing(promise, shape));
    }
    let mut steps = Vec::new();
    if tables_are_flawed(inspection) {
        let first_usable = table.usable().base().max(superblock.reserved.end());
        let tables = Tables::changed(table, inspection.device_size, first_usable, block_0)?;
        steps.extend(commit::both_tables(device, inspection, &tables)?);
    }
    let content = Content::over(device, inspection, *superblock)?;
    for which in copies_to_write(inspection) {
        steps.extend(commit::copy(device, which, &content));
    }
    // Copies that stand elsewhere would come back when the ones at the fixed places are gone.
    let mut found = all_copies::find(device, table)?;
    found.retain(|found| Which::BOTH.iter().all(|which| which.offset() != found.offset));
    steps.extend(found.iter().flat_map(|found| commit::erase(found.which, found.offset)));
    Ok(Plan {
        steps,
        promise,
        shape,
        writable: all_copies::places(&found),
        taken: Vec::new(),
        gives_up_partitions: false,
    })
}

/// Returns the copies that are not whole at their fixed places. One whose place holds the copy in use, which belongs elsewhere, comes last.
fn copies_to_write(inspection: &Inspection) -> Vec<Which> {
    let (in_use, _) = commit::in_use(inspection);
    let in_use = inspection.copy(in_use);
    let whole = |which: Which| {
        let copy = inspection.copy(which);
        copy.reading == in_use.reading && copy.offset == which.offset()
    };
    let mut missing: Vec<Which> = Which::BOTH.into_iter().filter(|which| !whole(*which)).collect();
    missing.sort_by_key(|which| which.offset() == in_use.offset);
    missing
}

/// Returns whether a table is missing, not where it belongs, unlike the other one, or leaves the reserved area unprotected.
fn tables_are_flawed(inspection: &Inspection) -> bool {
    use xen_pmem_format::inspect::Finding::{BackupTableNotAtEnd, ProtectiveMbr, Table, TablesDiffer, Unprotected};
    inspection.findings.iter().any(|finding| {
        matches!(
            finding,
            Table { .. } | TablesDiffer | BackupTableNotAtEnd { .. } | Unprotected { .. } | ProtectiveMbr { .. }
        )
    })
}
