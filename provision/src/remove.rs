//! The plan that takes a reservation away; partitions and their content stay.

use crate::gpt::{Tables, header_at};
use crate::init::{holds, in_use, other};
use crate::step::{self, SIGNATURE_SIZE, Step};
use std::io;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{COPY_SIZE, Which};
use xen_pmem_format::table::SIGNATURE;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset};

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
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// gptman refuses.
    #[error("the partition table cannot be encoded: {0}")]
    Gpt(#[from] gptman::Error),
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
    let (copy, place) = in_use(inspection);
    let mut steps = Vec::new();
    // The copy in use last: with its signature goes the reservation.
    for which in [copy.other(), copy] {
        if there(which) {
            steps.extend(erase(which, inspection.copy(which).offset));
        }
    }
    let device_size = inspection.device_size;
    let lba_size = inspection.lba_size;
    let mut block_0 = vec![0; usize::try_from(lba_size.bytes().0).unwrap_or(512)];
    device.read_exact_at(DeviceOffset(0), &mut block_0)?;
    let overflow = || Error::NoTable("its geometry is beyond what 64 bits can hold".to_owned());
    let tables = Tables::with_first_usable(table, device_size, table.head().end()).ok_or_else(overflow)?;
    for place in [other(place), place] {
        let at = header_at(place, lba_size, device_size).ok_or_else(overflow)?;
        steps.extend(tables.write(place, holds(device, at, SIGNATURE), &block_0)?);
    }
    Ok(steps)
}

/// The steps that make a copy absent, then zero.
fn erase(which: Which, offset: DeviceOffset) -> Vec<Step> {
    let what = format!("{which} super block");
    let mut steps = step::forget(offset, &what).to_vec();
    let rest = vec![0; COPY_SIZE.saturating_sub(SIGNATURE_SIZE)];
    let signature = u64::try_from(SIGNATURE_SIZE).unwrap_or_default();
    if let Some(offset) = offset.checked_add(Bytes(signature)) {
        steps.push(Step::Write {
            offset,
            bytes: rest,
            what: format!("zeros over the rest of the {what}"),
        });
    }
    steps.push(Step::Flush);
    steps
}
