//! What a new layout clears before it is written: bytes between the table and the super blocks that are not ours.
//!
//! A reader believes a backup table alone only if nothing else claims the start of the device (`docs/format.md`, R29). So foreign bytes
//! there must be cleared while there is no reservation, or while the primary table is still valid.

use crate::gpt::Tables;
use crate::places::{Part, Shape};
use crate::step::Step;
use std::io;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::mbr::BlockZero;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{COPY, COPY_SIZE, Which};
use xen_pmem_format::table::head;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange};

/// The steps that clear the start of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clearing {
    /// Before the new layout is written.
    pub before: Vec<Step>,
    /// After it: where something of the old layout stands that is in use until then.
    pub after: Vec<Step>,
}

impl Clearing {
    /// Plans the clearing of a device that is to have these tables.
    ///
    /// # Errors
    ///
    /// If the device's size cannot be found out.
    pub fn plan<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, tables: &Tables) -> io::Result<Self> {
        let mut clearing = Self::default();
        let lba_size = inspection.lba_size;
        let in_use = in_use(inspection);
        // The bytes of a valid primary table are left to those who replace it.
        let start = match inspection.primary_table {
            Ok(_) => gap(tables.shape()).base(),
            Err(_) => DeviceOffset::after(lba_size.bytes()),
        };
        let end = Which::Backup.offset().min(DeviceOffset::after(device.size()?));
        let mut at = start;
        // No step lies half on the table's own place.
        let head_end = gap(tables.shape()).base();
        let end_of = |at: DeviceOffset| if at < head_end { head_end.min(end) } else { end };
        while let Some(chunk) = next_chunk(device, at, end_of(at)).or_else(|| next_chunk(device, at.max(head_end), end))
        {
            at = chunk.end();
            let fixed = chunk.overlaps(Which::Primary.range());
            if fixed || is_zero(device, chunk) {
                continue;
            }
            let later = in_use.iter().any(|range| range.overlaps(chunk));
            let steps = if later {
                &mut clearing.after
            } else {
                &mut clearing.before
            };
            zero(steps, chunk, head_end);
        }
        // A lost one is written with the table behind it.
        if matches!(inspection.block_0, Ok(BlockZero::Foreign(_)) | Err(_)) && inspection.reservation().is_none() {
            let mut block_0 = tables.block_0().to_vec();
            block_0.resize(usize::try_from(lba_size.bytes().0).unwrap_or(0), 0);
            clearing.before.push(Step::Write {
                offset: DeviceOffset(0),
                bytes: block_0,
                what: "protective MBR".to_owned(),
            });
        }
        for steps in [&mut clearing.before, &mut clearing.after] {
            if !steps.is_empty() {
                steps.push(Step::Flush);
            }
        }
        Ok(clearing)
    }

    /// Returns the bytes to clear behind a table of this shape: according to the tables they belong to nobody.
    pub fn cleared(&self, shape: Shape) -> impl Iterator<Item = DeviceRange> + '_ {
        let start = gap(shape).base();
        let steps = self.before.iter().chain(&self.after);
        steps.filter_map(move |step| match step {
            Step::Write { offset, bytes, .. } if *offset >= start => {
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                Some(DeviceRange::clamped(*offset, Bytes(size)))
            }
            Step::Write { .. } | Step::Flush => None,
        })
    }
}

/// Returns the bytes between a table of this shape and the backup super block: what may be cleared besides the tables' own places.
pub fn gap(shape: Shape) -> DeviceRange {
    let start = head(shape.lba_size, shape.entries).end();
    DeviceRange::between(start, Which::Backup.offset()).unwrap_or(DeviceRange::clamped(start, Bytes(0)))
}

/// Returns the same, for a plan that clears.
pub fn writable(shape: Shape) -> Vec<(Part, DeviceRange)> {
    vec![(Part::Free, gap(shape))]
}

/// Returns the bytes that the layout which is there needs until the new one is whole.
fn in_use(inspection: &Inspection) -> Vec<DeviceRange> {
    let mut ranges = Vec::new();
    if let Ok(table) = &inspection.primary_table {
        ranges.push(head(table.lba_size(), table.header().entries));
        ranges.push(table.entries_at());
    }
    if inspection.reservation().is_some() {
        ranges.extend(
            inspection
                .copies
                .iter()
                .map(|copy| DeviceRange::clamped(copy.offset, COPY)),
        );
    }
    ranges
}

/// Returns the next bytes, from `at` on, that may be something: the rest of a page.
fn next_chunk<D: ReadAt + ?Sized>(device: &D, at: DeviceOffset, end: DeviceOffset) -> Option<DeviceRange> {
    let from = device.next_data(at)?.align_down(COPY).max(at);
    let to = from.align_down(COPY).checked_add(COPY)?.min(end);
    DeviceRange::between(from, to).filter(|chunk| !chunk.is_empty())
}

/// Returns whether a chunk is all zeros. What cannot be read is not: writing may heal it.
fn is_zero<D: ReadAt + ?Sized>(device: &D, chunk: DeviceRange) -> bool {
    let mut page = [0; COPY_SIZE];
    usize::try_from(chunk.size().0)
        .ok()
        .and_then(|size| page.get_mut(..size))
        .is_some_and(|bytes| device.read_exact_at(chunk.base(), bytes).is_ok() && bytes.iter().all(|byte| *byte == 0))
}

/// Zeros over `chunk`, with one step for chunks that follow each other on the same side of `head_end`.
fn zero(steps: &mut Vec<Step>, chunk: DeviceRange, head_end: DeviceOffset) {
    let size = usize::try_from(chunk.size().0).unwrap_or(0);
    if let Some(Step::Write { offset, bytes, .. }) = steps.last_mut()
        && let Ok(length) = u64::try_from(bytes.len())
        && offset.checked_add(Bytes(length)) == Some(chunk.base())
        && chunk.base() != head_end
    {
        bytes.resize(bytes.len().saturating_add(size), 0);
        return;
    }
    steps.push(Step::Write {
        offset: chunk.base(),
        bytes: vec![0; size],
        what: "zeros over what is not ours before the super blocks".to_owned(),
    });
}
