//! The rest of an interrupted first preparation, which nobody else needs.
//!
//! A first preparation writes the backup super block, the primary super block and the backup table, each without its signature, makes
//! that durable, and adds the signature (`commit::whole`, `step::replace`). From the backup table's signature on the device is
//! prepared. Until then there are, of what is whole, only super blocks; and of what comes next, words that have arrived or not.

use super::blank::first_data;
use std::io;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{COPY_SIZE, HEADER_SIZE, SuperBlock, VERSION_MAJOR, VERSION_MINOR, Which};
use xen_pmem_format::table::{DEFAULT_ENTRIES, ENTRY_SIZE, SIGNATURE, entry_blocks, last_lba};
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange, PAGE, SUPERPAGE};

/// How much of the place of the first partition must hold zeros: a file system or a volume begins there.
const CONTENT: Bytes = SUPERPAGE;
/// More than a backup table takes at the end of a device, for every block size.
const TABLE: Bytes = Bytes(64 << 10);

/// Returns the bytes where an interrupted first preparation has been; none if this is something else.
///
/// Super blocks without a table may also be all that is left of a device that was in use. Then the area that Xen had, or the place of
/// the first partition behind it, is not blank.
///
/// # Errors
///
/// If the device cannot be read there.
pub(super) fn interrupted<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection) -> io::Result<Vec<DeviceRange>> {
    if inspection.table().is_some() {
        return Ok(Vec::new());
    }
    let size = inspection.device_size;
    let copies = [page(device, size, Which::Primary)?, page(device, size, Which::Backup)?];
    let ours = match copies {
        [Page::Zero, Page::Torn] => vec![Which::Backup.range()],
        [Page::Whole(primary), Page::Whole(superblock)]
            if superblock == primary && is_first(&superblock, size) && is_unused(device, size, &superblock)? =>
        {
            let table = torn_table(device, inspection, &superblock)?;
            Which::BOTH.map(Which::range).into_iter().chain(table).collect()
        }
        [_, Page::Whole(superblock)]
            if is_first(&superblock, size)
                && arrives(device, Which::Primary, &superblock)?
                && is_unused(device, size, &superblock)? =>
        {
            Which::BOTH.map(Which::range).to_vec()
        }
        _ => Vec::new(),
    };
    Ok(ours)
}

/// What stands at the place of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Nothing.
    Zero,
    /// A copy on its way there.
    Torn,
    /// A copy.
    Whole(SuperBlock),
    /// Something else.
    Other,
}

fn page<D: ReadAt + ?Sized>(device: &D, size: Bytes, which: Which) -> io::Result<Page> {
    if which.range().end() > DeviceOffset::after(size) {
        return Ok(Page::Zero);
    }
    let mut bytes = [0; COPY_SIZE];
    device.read_exact_at(which.offset(), &mut bytes)?;
    Ok(match SuperBlock::decode(&bytes, which.offset()) {
        Ok((found, superblock)) if found == which => Page::Whole(superblock),
        _ if bytes == [0; COPY_SIZE] => Page::Zero,
        _ if is_torn_copy(&bytes, which, size) => Page::Torn,
        _ => Page::Other,
    })
}

/// Returns whether this is a first super block, and this device's.
fn is_first(superblock: &SuperBlock, size: Bytes) -> bool {
    superblock.sequence == 1 && superblock.device_size == size
}

/// Returns whether each word at the place of a copy is zero or this super block's: it is on its way there.
fn arrives<D: ReadAt + ?Sized>(device: &D, which: Which, superblock: &SuperBlock) -> io::Result<bool> {
    let mut bytes = [0; COPY_SIZE];
    device.read_exact_at(which.offset(), &mut bytes)?;
    let expected = superblock.encode(which);
    let (words, _) = bytes.as_chunks::<8>();
    let (right, _) = expected.as_chunks::<8>();
    Ok(words
        .iter()
        .zip(right)
        .all(|(word, right)| word == right || *word == [0; 8]))
}

/// Returns whether neither Xen nor a partition has been where they would be: Xen's area and what follows it hold zeros, and so does each
/// page where another partition could begin.
fn is_unused<D: ReadAt + ?Sized>(device: &D, size: Bytes, superblock: &SuperBlock) -> io::Result<bool> {
    let reserved = superblock.reserved;
    let end = DeviceOffset(size.0.saturating_sub(TABLE.0));
    let content_end = DeviceRange::clamped(reserved.end(), CONTENT).end().min(end);
    let Some(content) = DeviceRange::between(reserved.end(), content_end) else {
        return Ok(false);
    };
    // Partitions are aligned as the area is.
    let step = usize::try_from(SUPERPAGE.0).map_err(io::Error::other)?;
    let starts = (content_end.0..end.0).step_by(step);
    let starts = starts.map(|start| DeviceRange::clamped(DeviceOffset(start), PAGE));
    Ok(first_data(device, [reserved, content].into_iter().chain(starts), &[])?.is_none())
}

/// Returns whether a page holds only words of a copy without its signature: each identifying word has arrived or is zero, and at least one
/// has arrived.
fn is_torn_copy(bytes: &[u8; COPY_SIZE], which: Which, size: Bytes) -> bool {
    let version = [VERSION_MAJOR.to_le_bytes(), VERSION_MINOR.to_le_bytes()].concat();
    let version = [version, HEADER_SIZE.to_le_bytes().to_vec()].concat();
    let telling: [(usize, &[u8]); 5] = [
        (8, &version),
        (56, &which.offset().0.to_le_bytes()),
        (96, &size.0.to_le_bytes()),
        (176, b"xen-pmem"),
        (184, b"-provisi"),
    ];
    let header = usize::try_from(HEADER_SIZE).unwrap_or(COPY_SIZE);
    is_torn(bytes, &[(0, 8), (24, 48), (header, COPY_SIZE)], &telling)
        && telling.iter().any(|(offset, expected)| holds(bytes, *offset, expected))
}

/// Returns the place of the backup table, if it holds nothing but words of the backup table of this super block without its signature.
fn torn_table<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    superblock: &SuperBlock,
) -> io::Result<Option<DeviceRange>> {
    let lba_size = inspection.lba_size;
    let blocks = entry_blocks(lba_size, DEFAULT_ENTRIES);
    let place = last_lba(lba_size, inspection.device_size).and_then(|last| {
        let header = lba_size.offset_of(last)?;
        let entries = header.0.checked_sub(lba_size.bytes().checked_mul(blocks)?.0)?;
        let whole = DeviceRange::between(DeviceOffset(entries), header.checked_add(lba_size.bytes())?)?;
        Some((last, header, whole))
    });
    let Some((last, header, place)) = place else {
        return Ok(None);
    };
    let mut bytes = vec![0; usize::try_from(lba_size.bytes().0).map_err(io::Error::other)?];
    device.read_exact_at(header, &mut bytes)?;
    // UEFI 2.10, 5.3.2: signature, revision and header size, checksum, own block, the other header's, usable blocks, disk GUID,
    // entries' block, their number and size, their checksum.
    let revision = [0x0001_0000u32.to_le_bytes(), 92u32.to_le_bytes()].concat();
    let guid = superblock.disk_guid.to_bytes_le();
    let counts = [DEFAULT_ENTRIES.to_le_bytes(), ENTRY_SIZE.to_le_bytes()].concat();
    let (first_half, second_half) = guid.split_at(8);
    let telling: [(usize, &[u8]); 6] = [
        (8, &revision),
        (24, &last.0.to_le_bytes()),
        (32, &1u64.to_le_bytes()),
        (56, first_half),
        (64, second_half),
        (80, &counts),
    ];
    let length = bytes.len();
    let zero = [(0, SIGNATURE.len()), (92, length)];
    let ours = is_torn(&bytes, &zero, &telling) && entries_are_ours(device, superblock, place, header)?;
    Ok(ours.then_some(place))
}

/// Returns whether what stands before the header are words of the entries of partitions behind the reserved area.
fn entries_are_ours<D: ReadAt + ?Sized>(
    device: &D,
    superblock: &SuperBlock,
    place: DeviceRange,
    header: DeviceOffset,
) -> io::Result<bool> {
    let size = header.offset_from(place.base()).unwrap_or_default().0;
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    device.read_exact_at(place.base(), &mut bytes)?;
    let blocks = |word: Option<&[u8]>| word.and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes);
    let entry = usize::try_from(ENTRY_SIZE).map_err(io::Error::other)?;
    Ok(bytes.chunks(entry).all(|entry| {
        let (first, last) = (blocks(entry.get(32..40)), blocks(entry.get(40..48)));
        let attributes = blocks(entry.get(48..56));
        let reserved_end = superblock.reserved.end().0;
        // In blocks of either size.
        let behind = |block: u64| block == 0 || block.saturating_mul(4096) >= reserved_end;
        let in_device = |block: u64| block.saturating_mul(512) < superblock.device_size.0;
        attributes == 0 && behind(first) && behind(last) && in_device(first) && in_device(last)
    }))
}

/// Returns whether the ranges `zero` hold zeros, and each of the `telling` words its value, or zeros as before it arrives.
fn is_torn(bytes: &[u8], zero: &[(usize, usize)], telling: &[(usize, &[u8])]) -> bool {
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == 0);
    let mut gaps = zero.iter().map(|(from, to)| bytes.get(*from..*to));
    gaps.all(|gap| gap.is_some_and(is_zero))
        && telling.iter().all(|(offset, expected)| {
            holds(bytes, *offset, expected) || holds(bytes, *offset, &vec![0; expected.len()])
        })
}

/// Returns whether bytes stand at an offset.
fn holds(bytes: &[u8], offset: usize, expected: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(expected))
}
