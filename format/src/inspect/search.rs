//! The search for copies away from their fixed places, over the pages of the gap.

use super::{CopyReport, reading};
use crate::copies::Reading;
use crate::read::ReadAt;
use crate::superblock::{COPY, COPY_SIZE, Which};
use crate::table::Table;
use crate::units::{Address, Bytes, DeviceOffset, DeviceRange};

/// How far into a gap is searched. A reservation for 1.5 TiB of persistent memory lies within it.
const SEARCH_LIMIT: Bytes = Bytes(16 << 30);
/// The bytes read at once.
const CHUNK: usize = 1 << 20;

/// Looks through the gap of `table` and puts the valid copies found there in place of the readings that are not.
pub(super) fn fill_in<D: ReadAt + ?Sized>(device: &D, table: &Table, copies: &mut [CopyReport; 2]) {
    let gap = table.gap();
    let Some(start) = gap.base().align_up(COPY) else { return };
    let end = gap.end().min(DeviceRange::clamped(start, SEARCH_LIMIT).end());
    let mut buffer = vec![0; CHUNK];
    let mut next = Some(start);
    while let Some(at) = next.and_then(|at| data_page(device, at))
        && let Some(left) = DeviceRange::between(at, end).map(|rest| rest.size().align_down(COPY))
        && left.0 > 0
    {
        let length = usize::try_from(left.0).unwrap_or(CHUNK).min(CHUNK);
        let Some(chunk) = buffer.get_mut(..length) else { return };
        match device.read_exact_at(at, chunk) {
            Ok(()) => search_chunk(chunk, at, table, copies),
            // A bad spot hides the copies near it, not those beyond: page by page, past the ones that fail.
            Err(_) => {
                for (page, offset) in chunk.chunks_exact_mut(COPY_SIZE).zip(pages_from(at)) {
                    if device.read_exact_at(offset, page).is_ok() {
                        search_chunk(page, offset, table, copies);
                    }
                }
            }
        }
        next = u64::try_from(length)
            .ok()
            .and_then(|length| at.checked_add(Bytes(length)));
    }
}

/// The first page, from the one at `at` on, that may hold anything.
fn data_page<D: ReadAt + ?Sized>(device: &D, at: DeviceOffset) -> Option<DeviceOffset> {
    Some(device.next_data(at)?.align_down(COPY).max(at))
}

fn pages_from(start: DeviceOffset) -> impl Iterator<Item = DeviceOffset> {
    std::iter::successors(Some(start), |at| at.checked_add(COPY))
}

fn search_chunk(chunk: &[u8], start: DeviceOffset, table: &Table, copies: &mut [CopyReport; 2]) {
    let (pages, _) = chunk.as_chunks::<COPY_SIZE>();
    for (page, offset) in pages.iter().zip(pages_from(start)) {
        let Some(which) = Which::of_signature(page) else {
            continue;
        };
        let found = reading(page, which, offset, Some(table));
        let Reading::Valid(superblock) = found else { continue };
        let Some(report) = copies.iter_mut().find(|report| report.which == which) else {
            continue;
        };
        let newer = match report.reading {
            Reading::Valid(known) => superblock.sequence > known.sequence,
            _ => true,
        };
        if newer {
            *report = CopyReport {
                offset,
                reading: found,
                error: None,
                ..*report
            };
        }
    }
}
