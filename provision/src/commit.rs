//! The order of the writes, which makes every cut-off point show the old state or the new one.

use crate::gpt::{self, Tables, header_at};
use crate::step::{self, SIGNATURE_SIZE, Step};
use std::io;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{COPY_SIZE, SuperBlock, Which};
use xen_pmem_format::table::{Place, SIGNATURE};
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset};

/// Why the steps cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// gptman refuses.
    #[error("the partition table cannot be encoded: {0}")]
    Gpt(#[from] gptman::Error),
}

/// The steps that write both super blocks and both tables where there may be others.
///
/// Without a reservation, super blocks first: until a table is whole there is none, and the table in use is the last thing
/// written. Over a reservation, what is not in use first and what is in use last: the new state is complete before the
/// old table goes.
///
/// # Errors
///
/// If the device cannot be read, or the table not be encoded.
pub fn whole<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    superblock: &SuperBlock,
    tables: &Tables,
) -> Result<Vec<Step>, Error> {
    let (copy_in_use, table_in_use) = in_use(inspection);
    let mut steps = Vec::new();
    if inspection.reservation().is_some() {
        steps.extend(copy(device, copy_in_use.other(), superblock));
        steps.extend(table(device, inspection, tables, other(table_in_use))?);
        steps.extend(table(device, inspection, tables, table_in_use)?);
        steps.extend(copy(device, copy_in_use, superblock));
    } else {
        steps.extend(copy(device, Which::Backup, superblock));
        steps.extend(copy(device, Which::Primary, superblock));
        steps.extend(both_tables(device, inspection, tables)?);
    }
    Ok(steps)
}

/// The steps that write both tables, the one in use last.
///
/// # Errors
///
/// If the device cannot be read, or the table not be encoded.
pub fn both_tables<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    tables: &Tables,
) -> Result<Vec<Step>, Error> {
    let (_, last) = in_use(inspection);
    let mut steps = table(device, inspection, tables, other(last))?;
    steps.extend(table(device, inspection, tables, last)?);
    Ok(steps)
}

/// The steps that write both copies of a super block, the one in use last.
pub fn both_copies<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, superblock: &SuperBlock) -> Vec<Step> {
    let (last, _) = in_use(inspection);
    [last.other(), last]
        .into_iter()
        .flat_map(|which| copy(device, which, superblock))
        .collect()
}

/// The steps that take both copies of a super block away, the one in use last: with its signature goes the reservation.
pub fn no_copies(inspection: &Inspection) -> Vec<Step> {
    let (last, _) = in_use(inspection);
    [last.other(), last]
        .into_iter()
        .map(|which| inspection.copy(which))
        .filter(|copy| !matches!(copy.reading, Reading::Missing))
        .flat_map(|copy| erase(copy.which, copy.offset))
        .collect()
}

/// The steps that write one copy at its fixed place.
pub fn copy<D: ReadAt + ?Sized>(device: &D, which: Which, superblock: &SuperBlock) -> Vec<Step> {
    let there = holds(device, which.offset(), &which.signature());
    step::replace(
        which.offset(),
        &superblock.encode(which),
        0,
        there,
        &format!("{which} super block"),
    )
}

/// The steps that write one table.
fn table<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    tables: &Tables,
    place: Place,
) -> Result<Vec<Step>, Error> {
    let mut block_0 = vec![0; gpt::BOOT_CODE];
    device.read_exact_at(DeviceOffset(0), &mut block_0)?;
    let at = header_at(place, inspection.lba_size, inspection.device_size);
    let there = at.is_some_and(|at| holds(device, at, SIGNATURE));
    Ok(tables.write(place, there, &block_0)?)
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

/// The copy and the table that a reader goes by: the primary ones if both are good.
pub fn in_use(inspection: &Inspection) -> (Which, Place) {
    let valid = |which: Which| matches!(inspection.copy(which).reading, Reading::Valid(_));
    let copy = match inspection.reservation() {
        Some((believed, _)) => Which::BOTH
            .into_iter()
            .find(|which| inspection.copy(*which).reading == Reading::Valid(*believed))
            .unwrap_or(Which::Primary),
        None if valid(Which::Backup) && !valid(Which::Primary) => Which::Backup,
        None => Which::Primary,
    };
    let table = inspection.table().map_or(Place::Primary, |table| table.place());
    (copy, table)
}

/// The other of the two places of a table.
pub fn other(place: Place) -> Place {
    match place {
        Place::Primary => Place::Backup,
        Place::Backup => Place::Primary,
    }
}

/// Whether a signature stands at an offset. What cannot be read may be one.
pub fn holds<D: ReadAt + ?Sized>(device: &D, offset: DeviceOffset, signature: &[u8; SIGNATURE_SIZE]) -> bool {
    let mut found = [0; SIGNATURE_SIZE];
    device.read_exact_at(offset, &mut found).is_err() || found == *signature
}
