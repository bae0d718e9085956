//! The plan that heals what is damaged, from the half that is not.
//!
//! Only what is beyond doubt is repaired: where two halves contradict each other, or another tool has left its signature where a repair
//! would write, nothing is touched.

use crate::commit;
use crate::gpt::Tables;
use crate::signatures::{self, Traces};
use crate::step::Step;
use std::io;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::{Inspection, State};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::Which;

/// Why nothing is repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to repair.
    #[error("there is no reservation to repair: {0}")]
    Nothing(String),
    /// Nobody can say what is right.
    #[error(
        "cannot be repaired: {0}; restore a backup (xen-pmem-provision restore), or prepare it anew (init --force)"
    )]
    Hopeless(String),
    /// Another tool has been here.
    #[error(
        "is not repaired: there is {0}, which a repair might destroy; if that is not in use, remove it first (wipefs)"
    )]
    Foreign(Traces),
    /// The super block uses something that this program does not know.
    #[error("the super block uses features {0:#x} that this program must know to change it: use a newer version")]
    Features(u64),
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
pub fn plan<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection) -> Result<Vec<Step>, Error> {
    let (superblock, table) = match (inspection.state, inspection.reservation()) {
        (State::Prepared, _) => return Ok(Vec::new()),
        (State::Degraded, Some(reservation)) => reservation,
        (State::Unprepared, _) => return Err(Error::Nothing(inspection.reasons())),
        _ => return Err(Error::Hopeless(inspection.reasons())),
    };
    if superblock.unknown_read_only_features() != 0 {
        return Err(Error::Features(superblock.unknown_read_only_features()));
    }
    let foreign = signatures::foreign_in(device, inspection)?;
    if !foreign.0.is_empty() {
        return Err(Error::Foreign(foreign));
    }
    let mut steps = Vec::new();
    let whole = |which: Which| {
        let copy = inspection.copy(which);
        copy.reading == Reading::Valid(*superblock) && copy.offset == which.offset()
    };
    if tables_are_flawed(inspection) {
        let first_usable = table.usable().base().max(superblock.reserved.end());
        let tables = Tables::with_first_usable(table, inspection.device_size, first_usable)
            .ok_or_else(|| Error::Hopeless("its geometry is beyond what 64 bits can hold".to_owned()))?;
        steps.extend(commit::both_tables(device, inspection, &tables)?);
    }
    for which in Which::BOTH.into_iter().filter(|which| !whole(*which)) {
        steps.extend(commit::copy(device, which, superblock));
    }
    Ok(steps)
}

/// Whether a table is missing, not where it belongs, unlike the other one, or leaves the reserved area unprotected.
fn tables_are_flawed(inspection: &Inspection) -> bool {
    use xen_pmem_format::inspect::Finding::{BackupTableNotAtEnd, Table, TablesDiffer, Unprotected};
    inspection.findings.iter().any(|finding| {
        matches!(
            finding,
            Table { .. } | TablesDiffer | BackupTableNotAtEnd { .. } | Unprotected { .. }
        )
    })
}
