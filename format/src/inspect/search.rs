//! The search for copies away from their fixed places, over the pages of the gap.

use super::{CopyReport, reading, same_content};
use crate::copies::Reading;
use crate::read::ReadAt;
use crate::superblock::{COPY, COPY_SIZE, SuperBlock, Which};
use crate::table::Table;
use crate::units::{Address, Bytes, DeviceOffset, DeviceRange};

/// How far into a gap is searched. A reservation for 1.5 TiB of persistent memory lies within it.
const SEARCH_LIMIT: Bytes = Bytes(16 << 30);
/// The bytes read at once.
const CHUNK: usize = 4 << 20;
/// How far into a gap is read as everything else is. What lies behind that is read past the page cache: a page is wanted for eight of its
/// bytes and never again, and making room for it in the cache costs ten times what reading it does. Mapping the device would go
/// through the page cache all the same, and a media error would end the program by a signal.
const CACHED: Bytes = Bytes(16 << 20);

/// A valid copy, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which copy it is.
    pub which: Which,
    /// Where it stands.
    pub offset: DeviceOffset,
    /// What it says.
    pub superblock: SuperBlock,
}

/// Looks through the gap of `table` and replaces readings that are not valid by the valid copies found there: of each kind the one with
/// the highest sequence number. Finds a copy of one kind at the fixed place of the other, too.
pub(super) fn fill_in<D: ReadAt + ?Sized>(device: &D, table: &Table, copies: &mut [CopyReport; 2]) {
    each_copy(device, table, |found, page| {
        let Some(report) = copies.iter_mut().find(|report| report.which == found.which) else {
            return;
        };
        match report.reading {
            Reading::Valid(known) | Reading::Ambiguous(known) if found.superblock.sequence < known.sequence => {}
            Reading::Valid(known) | Reading::Ambiguous(known) if found.superblock.sequence == known.sequence => {
                if !report.page().is_some_and(|one| same_content(one, page)) {
                    report.reading = Reading::Ambiguous(known);
                }
            }
            _ => report.found(page, found.offset, Reading::Valid(found.superblock)),
        }
    });
}

/// Returns all valid copies of `table`'s super block in its gap, at their fixed places and elsewhere, in the order of their offsets.
pub fn copies_in_gap<D: ReadAt + ?Sized>(device: &D, table: &Table) -> Vec<Found> {
    let mut all = Vec::new();
    each_copy(device, table, |found, _| all.push(found));
    all
}

/// Calls `visit` with each valid copy of `table`'s super block in its gap, and with its bytes.
fn each_copy<D: ReadAt + ?Sized>(device: &D, table: &Table, mut visit: impl FnMut(Found, &[u8; COPY_SIZE])) {
    let gap = table.gap();
    let Some(start) = gap.base().align_up(COPY) else { return };
    let end = gap.end().min(DeviceRange::clamped(start, SEARCH_LIMIT).end());
    let past_cache = start.checked_add(CACHED).unwrap_or(end);
    let mut room = vec![0; CHUNK.saturating_add(COPY_SIZE)];
    let aligned = room.as_ptr().align_offset(COPY_SIZE);
    let Some(buffer) = room.get_mut(aligned..) else { return };
    let mut next = Some(start);
    while let Some(at) = next.and_then(|at| data_page(device, at))
        && let Some(left) = DeviceRange::between(at, end).map(|rest| rest.size().align_down(COPY))
        && left.0 > 0
    {
        let length = usize::try_from(left.0).unwrap_or(CHUNK).min(CHUNK);
        let Some(chunk) = buffer.get_mut(..length) else { return };
        let read = if at < past_cache {
            device.read_exact_at(at, chunk)
        } else {
            device.read_once_at(at, chunk)
        };
        match read {
            Ok(()) => search_chunk(chunk, at, table, &mut visit),
            // A bad spot hides the copies near it, not those beyond: page by page, past the ones that fail.
            Err(_) => {
                for (page, offset) in chunk.chunks_exact_mut(COPY_SIZE).zip(pages_from(at)) {
                    if device.read_exact_at(offset, page).is_ok() {
                        search_chunk(page, offset, table, &mut visit);
                    }
                }
            }
        }
        next = u64::try_from(length)
            .ok()
            .and_then(|length| at.checked_add(Bytes(length)));
    }
}

/// Returns the first page, from the one at `at` on, that may hold anything.
fn data_page<D: ReadAt + ?Sized>(device: &D, at: DeviceOffset) -> Option<DeviceOffset> {
    Some(device.next_data(at)?.align_down(COPY).max(at))
}

fn pages_from(start: DeviceOffset) -> impl Iterator<Item = DeviceOffset> {
    std::iter::successors(Some(start), |at| at.checked_add(COPY))
}

fn search_chunk(chunk: &[u8], start: DeviceOffset, table: &Table, visit: &mut impl FnMut(Found, &[u8; COPY_SIZE])) {
    let (pages, _) = chunk.as_chunks::<COPY_SIZE>();
    for (page, offset) in pages.iter().zip(pages_from(start)) {
        let Some(which) = Which::of_signature(page) else {
            continue;
        };
        if let Reading::Valid(superblock) = reading(page, which, offset, Some(table)) {
            let found = Found {
                which,
                offset,
                superblock,
            };
            visit(found, page);
        }
    }
}
