//! The plan that takes a reservation away; partitions and their content stay.

use crate::commit;
use crate::gpt::Tables;
use crate::step::Step;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::Which;

/// Why nothing is removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no super block.
    #[error("there is no super block to remove: {0}")]
    Nothing(String),
    /// There is no table that could be put right.
    #[error(
        "its super blocks can be removed only together with what the partition table says, and {0}: restore the table first"
    )]
    NoTable(String),
    /// The super block uses something that this program does not know.
    #[error("the super block uses features {0:#x} that this program must know to change it: use a newer version")]
    Features(u64),
    /// The steps cannot be made.
    #[error(transparent)]
    Commit(#[from] commit::Error),
}

/// Plans the removal. Reads the device and writes nothing.
///
/// # Errors
///
/// Why there is nothing to remove, or it cannot be done.
pub fn plan<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection) -> Result<Vec<Step>, Error> {
    let there = |which: Which| !matches!(inspection.copy(which).reading, Reading::Missing);
    if !Which::BOTH.into_iter().any(there) {
        return Err(Error::Nothing(inspection.reasons()));
    }
    let table = inspection.table().ok_or_else(|| Error::NoTable(inspection.reasons()))?;
    if let Some((superblock, _)) = inspection.reservation()
        && superblock.unknown_read_only_features() != 0
    {
        return Err(Error::Features(superblock.unknown_read_only_features()));
    }
    let mut steps = commit::no_copies(inspection);
    let overflow = || Error::NoTable("its geometry is beyond what 64 bits can hold".to_owned());
    let tables = Tables::with_first_usable(table, inspection.device_size, table.head().end()).ok_or_else(overflow)?;
    steps.extend(commit::both_tables(device, inspection, &tables)?);
    Ok(steps)
}
