//! The plan that takes a reservation away; partitions and their content stay.

use crate::all_copies;
use crate::commit;
use crate::gpt::{Tables, Unfit, block_0};
use crate::plan::{Before, Plan, Refusal};
use crate::promise::Promise;
use std::io;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::Which;

/// Why nothing is removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no super block.
    #[error("there is no super block to remove: {0}")]
    Nothing(String),
    /// No table can be repaired.
    #[error(
        "its super blocks can be removed only together with what the partition table says, and {0}; `xen-pmem-provision verify` says what can be done"
    )]
    NoTable(String),
    /// The table does not fit the device.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A copy must not be changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The steps cannot be made.
    #[error(transparent)]
    Commit(#[from] commit::Error),
}

/// Plans the removal. Reads the device and writes nothing.
///
/// # Errors
///
/// Why there is nothing to remove, or it cannot be done.
pub fn plan<D: ReadAt + ?Sized>(before: &Before<'_, D>) -> Result<Plan, Error> {
    let (device, inspection) = (before.device, before.inspection);
    let there = |which: Which| !matches!(inspection.copy(which).reading, Reading::Missing);
    if !Which::BOTH.into_iter().any(there) {
        return Err(Error::Nothing(inspection.reasons()));
    }
    let table = inspection.table().ok_or_else(|| Error::NoTable(inspection.reasons()))?;
    let found = all_copies::find(device, table)?;
    let mut steps = commit::no_copies(device, inspection, &found);
    let tables = Tables::changed(table, inspection.device_size, table.head().end(), &block_0(device)?)?;
    steps.extend(commit::both_tables(device, inspection, &tables)?);
    Ok(Plan {
        steps,
        promise: Promise::Removed {
            disk_guid: table.disk_guid(),
            partitions: tables.partitions(),
        },
        shape: tables.shape(),
        writable: all_copies::places(&found),
        taken: Vec::new(),
        gives_up_partitions: false,
    })
}
