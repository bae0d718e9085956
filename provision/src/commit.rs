//! The order of the writes, which makes every cut-off point show the old state or the new one.

use crate::clearing::Clearing;
use crate::gpt::{Tables, header_at};
use crate::step::{self, SIGNATURE_SIZE, Step};
use std::io;
use xen_pmem_format::copies::{Belief, Reading};
use xen_pmem_format::inspect::{Found, Inspection};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{COPY_SIZE, SuperBlock, Which};
use xen_pmem_format::table::{Place, SIGNATURE, Table};
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

/// The future content of the copies.
#[derive(Clone, Debug)]
pub struct Content {
    superblock: SuperBlock,
    /// A copy of the same reservation, whose bytes that this version does not know are kept.
    base: Option<Box<[u8; COPY_SIZE]>>,
}

impl Content {
    /// Returns a new reservation.
    pub fn new(superblock: SuperBlock) -> Self {
        Self { superblock, base: None }
    }

    /// Returns the content with `superblock` in place of what the copy in use on `device` says.
    ///
    /// # Errors
    ///
    /// If that copy cannot be read.
    pub fn over<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, superblock: SuperBlock) -> io::Result<Self> {
        let (copy, _) = in_use(inspection);
        let mut page = Box::new([0; COPY_SIZE]);
        device.read_exact_at(inspection.copy(copy).offset, page.as_mut_slice())?;
        Ok(Self {
            superblock,
            base: Some(page),
        })
    }

    /// Returns the bytes of copy `which`, for its fixed place.
    fn encode(&self, which: Which) -> [u8; COPY_SIZE] {
        match &self.base {
            Some(base) => self.superblock.encode_over(base, which, which.offset()),
            None => self.superblock.encode(which),
        }
    }
}

/// Returns the steps that write both super blocks and both tables where there may be others.
///
/// Foreign bytes are cleared first: see [`Clearing`]. Without a reservation, super blocks come next: until a table is whole there is no
/// reservation, and the table in use is written last. Over a reservation, the copies that are not in use come first and those in use last:
/// the new state is complete before the old table is overwritten.
///
/// # Errors
///
/// If the device cannot be read, or the table not be encoded.
pub fn whole<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    content: &Content,
    tables: &Tables,
) -> Result<Vec<Step>, Error> {
    let (copy_in_use, table_in_use) = in_use(inspection);
    let clearing = Clearing::plan(device, inspection, tables)?;
    let mut steps = clearing.before;
    if inspection.reservation().is_some() {
        steps.extend(copy(device, copy_in_use.other(), content));
        steps.extend(table(device, inspection, tables, table_in_use.other())?);
        steps.extend(table(device, inspection, tables, table_in_use)?);
        steps.extend(copy(device, copy_in_use, content));
    } else {
        steps.extend(copy(device, Which::Backup, content));
        steps.extend(copy(device, Which::Primary, content));
        steps.extend(both_tables(device, inspection, tables)?);
    }
    steps.extend(clearing.after);
    Ok(steps)
}

/// Returns the steps that write both tables, the one in use last.
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
    let mut steps = table(device, inspection, tables, last.other())?;
    steps.extend(table(device, inspection, tables, last)?);
    Ok(steps)
}

/// Returns the steps that write both copies of a super block, the one in use last.
pub fn both_copies<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, content: &Content) -> Vec<Step> {
    let (last, _) = in_use(inspection);
    [last.other(), last]
        .into_iter()
        .flat_map(|which| copy(device, which, content))
        .collect()
}

/// Returns the steps that take away both copies of a super block, and all valid ones, `found` in the gap. The one in use goes last: with
/// its signature goes the reservation.
pub fn no_copies<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, found: &[Found]) -> Vec<Step> {
    let (last, _) = in_use(inspection);
    let reported = [last, last.other()].map(|which| inspection.copy(which));
    let reported = reported
        .into_iter()
        .filter(|copy| !matches!(copy.reading, Reading::Missing))
        .map(|copy| (copy.which, copy.offset));
    // If a valid copy was found elsewhere, the report does not describe the fixed place.
    let gap = inspection.table().map(Table::gap);
    let fixed = Which::BOTH
        .into_iter()
        .filter(|place| gap.is_some_and(|gap| gap.contains(place.range())))
        .filter(|place| {
            let signed = |which: Which| holds(device, place.offset(), &which.signature());
            Which::BOTH.into_iter().any(signed)
        })
        .map(|place| (place, place.offset()));
    let found = found.iter().map(|found| (found.which, found.offset));
    let mut places: Vec<(Which, DeviceOffset)> = Vec::new();
    for (which, offset) in reported.chain(fixed).chain(found) {
        if places.iter().all(|(_, known)| *known != offset) {
            places.push((which, offset));
        }
    }
    places
        .into_iter()
        .rev()
        .flat_map(|(which, offset)| erase(which, offset))
        .collect()
}

/// Returns the steps that write one copy at its fixed place.
pub fn copy<D: ReadAt + ?Sized>(device: &D, which: Which, content: &Content) -> Vec<Step> {
    let there = holds(device, which.offset(), &which.signature());
    step::replace(
        which.offset(),
        &content.encode(which),
        0,
        there,
        &format!("{which} super block"),
    )
}

/// Returns the steps that write one table.
fn table<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    tables: &Tables,
    place: Place,
) -> Result<Vec<Step>, Error> {
    let at = header_at(place, inspection.lba_size, inspection.device_size);
    let there = at.is_some_and(|at| holds(device, at, SIGNATURE));
    Ok(tables.steps(place, there)?)
}

/// Returns the steps that make a copy absent, then zero.
pub fn erase(which: Which, offset: DeviceOffset) -> Vec<Step> {
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

/// Returns the copy and the table that a reader goes by: of two valid copies the one with the higher sequence number, of two valid tables
/// the primary one. Where a reader goes by none, the primary ones.
pub fn in_use(inspection: &Inspection) -> (Which, Place) {
    let copy = match inspection.verdict {
        Belief::One(believed, _) => believed,
        _ => Which::Primary,
    };
    let table = inspection.table().map_or(Place::Primary, |table| table.place());
    (copy, table)
}

/// Returns whether a signature stands at an offset. What cannot be read may be one.
pub fn holds<D: ReadAt + ?Sized>(device: &D, offset: DeviceOffset, signature: &[u8; SIGNATURE_SIZE]) -> bool {
    let mut found = [0; SIGNATURE_SIZE];
    device.read_exact_at(offset, &mut found).is_err() || found == *signature
}
