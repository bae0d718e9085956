//! What other tools left on a device: found before anything is written over it.
//!
//! libblkid knows what file systems, RAID members and the like look like. It does not know everything, so a preparation without
//! `--force` also asks that the bytes which it writes, or hands to Xen, are zeros or known to be ours.

mod blank;
mod ours;
mod probe;

use crate::gpt;
use crate::places;
use std::io;
use xen_pmem_blkid::{Kind, Signature};
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::{Inspection, copies_in_gap};
use xen_pmem_format::mbr::BlockZero;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::table::Place;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange};

/// Something that is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What it is.
    pub what: String,
    /// Where it is: its signature, or its first byte that is not zero.
    pub offset: DeviceOffset,
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at offset {}", self.what, self.offset)
    }
}

/// All that is on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces(pub Vec<Trace>);

impl std::fmt::Display for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(", "))
    }
}

/// libnvdimm's info blocks, which libblkid does not know: 4 KiB from the start of a namespace (Linux `drivers/nvdimm/{pfn,btt}.h`).
const INFO_BLOCKS_AT: DeviceOffset = DeviceOffset(4096);
const INFO_BLOCKS: [(&[u8; 16], &str); 3] = [
    (b"NVDIMM_PFN_INFO\0", "libnvdimm's fsdax info block"),
    (b"NVDIMM_DAX_INFO\0", "libnvdimm's devdax info block"),
    (b"BTT_ARENA_INFO\0\0", "libnvdimm's BTT info block"),
];

/// Where a file system may begin that was made through a block device which begins later: the unit that libnvdimm aligns the data of
/// fsdax and devdax namespaces to (Linux `drivers/nvdimm/pfn_devs.c`), and what partitioners align the first partition to.
const STARTS: [Bytes; 3] = [Bytes(2 << 20), Bytes(1 << 20), Bytes(4096)];

/// Finds what is in the way of a preparation that writes to `taken` or hands it to Xen: partition tables, super blocks, other tools'
/// signatures on the device and at the starts of these ranges, and, if none of these is found, the first byte in them that is not zero.
/// The rest of an interrupted first preparation is ours and is not listed.
///
/// # Errors
///
/// If the device cannot be read there.
pub fn find<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, taken: &[DeviceRange]) -> io::Result<Traces> {
    let ours = ours::interrupted(device, inspection)?;
    let mut traces: Vec<Trace> = table(inspection).into_iter().collect();
    let table_there = !traces.is_empty();
    if ours.is_empty() {
        let there = inspection
            .copies
            .iter()
            .filter(|copy| !matches!(copy.reading, Reading::Missing));
        traces.extend(there.map(|copy| Trace {
            what: format!("a {} super block of xen-pmem", copy.which),
            offset: copy.offset,
        }));
    }
    traces.extend(info_block(device)?);
    let whole = DeviceRange::clamped(DeviceOffset(0), inspection.device_size);
    let signatures = probe::signatures(device, whole)?;
    let new = signatures.iter().filter(|found| !(table_there && is_gpt(found)));
    traces.extend(new.map(|found| trace(found, DeviceOffset(0))));
    for start in taken.iter().map(|range| range.base()).filter(|start| start.0 != 0) {
        for trace in beginning_at(device, inspection, start)? {
            // Signatures at the end of a device are found from any assumed start of it.
            if !traces.iter().any(|known| known.offset == trace.offset) {
                traces.push(trace);
            }
        }
    }
    if traces.is_empty() {
        traces.extend(data_in(device, inspection, taken, &ours)?);
    }
    Ok(Traces(traces))
}

/// Finds something in `taken` that is neither zeros nor a valid table's, nor a copy of this device's super block. It would be overwritten, by a plan or, in
/// the area that Xen gets, by Xen.
///
/// # Errors
///
/// If the device cannot be read there.
pub fn unknown_in<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    taken: &[DeviceRange],
) -> io::Result<Option<Trace>> {
    if taken.is_empty() {
        return Ok(None);
    }
    let found = inspection.copies.iter().filter(|copy| copy.page().is_some());
    let mut ours: Vec<_> = found.map(|copy| places::page(copy.offset)).collect();
    let tables = [&inspection.primary_table, &inspection.backup_table]
        .into_iter()
        .flatten();
    ours.extend(tables.flat_map(places::structures));
    ours.extend(cut_entries(device, inspection)?);
    let data = data_in(device, inspection, taken, &ours)?;
    match inspection.table() {
        // Only now is it worth a search of the gap.
        Some(table) if data.is_some() => {
            ours.extend(
                copies_in_gap(device, table)
                    .iter()
                    .map(|found| places::page(found.offset)),
            );
            data_in(device, inspection, taken, &ours)
        }
        _ => Ok(data),
    }
}

/// Returns what is left of the backup table's entries where the device was cut: before the block that the primary table names, with the
/// primary table's bytes.
fn cut_entries<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection) -> io::Result<Option<DeviceRange>> {
    let Ok(table) = &inspection.primary_table else {
        return Ok(None);
    };
    let entries = table.entries_at();
    let header = table.lba_size().offset_of(table.other_header());
    let there = header
        .and_then(|header| header.0.checked_sub(entries.size().0))
        .map(DeviceOffset)
        .and_then(|start| DeviceRange::between(start, DeviceOffset::after(inspection.device_size)))
        .map(|rest| DeviceRange::clamped(rest.base(), rest.size().min(entries.size())));
    let Some(there) = there else { return Ok(None) };
    let mut left = vec![0; usize::try_from(there.size().0).map_err(io::Error::other)?];
    let mut right = left.clone();
    device.read_exact_at(there.base(), &mut left)?;
    device.read_exact_at(entries.base(), &mut right)?;
    Ok((left == right).then_some(there))
}

/// Returns the first byte in `taken`, and outside of `ours`, that is not zero.
fn data_in<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    taken: &[DeviceRange],
    ours: &[DeviceRange],
) -> io::Result<Option<Trace>> {
    let first = blank::first_data(device, taken.iter().copied(), ours)?;
    first.map(|offset| unknown(device, inspection, offset)).transpose()
}

/// Finds what libblkid knows at the starts of these ranges: what new partitions would show again.
///
/// # Errors
///
/// If the device cannot be read there.
pub fn exposed<D: ReadAt + ?Sized>(
    device: &D,
    partitions: impl IntoIterator<Item = DeviceRange>,
) -> io::Result<Traces> {
    let mut traces = Vec::new();
    for (number, partition) in (1..).zip(partitions) {
        let found = probe::signatures(device, partition)?;
        traces.extend(found.iter().map(|found| Trace {
            what: format!("{} in partition {number}", what(found)),
            offset: DeviceOffset(found.offset),
        }));
    }
    Ok(Traces(traces))
}

/// Returns what other tools than partitioners of GPTs and ourselves have left on a device, outside its partitions.
///
/// # Errors
///
/// If the device cannot be read there.
pub fn foreign_in<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection) -> io::Result<Traces> {
    let whole = DeviceRange::clamped(DeviceOffset(0), inspection.device_size);
    let signatures = probe::signatures(device, whole)?;
    // What is left of a protective MBR has a boot signature and no partition; libblkid calls that a partition table, too.
    let lost_mbr = |found: &Signature| {
        matches!(inspection.block_0, Ok(BlockZero::Lost)) && found.kind == Kind::PartitionTable && found.name == "dos"
    };
    let foreign = signatures.iter().filter(|found| !is_gpt(found) && !lost_mbr(found));
    let mut traces: Vec<Trace> = foreign.map(|found| trace(found, DeviceOffset(0))).collect();
    traces.extend(info_block(device)?);
    let partitions = inspection.table().map(|table| table.partitions()).unwrap_or_default();
    let in_partition = |trace: &Trace| {
        let byte = DeviceRange::clamped(trace.offset, Bytes(1));
        partitions.iter().any(|partition| partition.range.contains(byte))
    };
    traces.retain(|trace| !in_partition(trace));
    Ok(Traces(traces))
}

/// Returns the partition table, or what is left of one.
fn table(inspection: &Inspection) -> Option<Trace> {
    let damaged =
        |table: &Result<_, xen_pmem_format::table::NotATable>| table.as_ref().is_err_and(|error| error.is_damage());
    let (what, place) = if let Some(table) = inspection.table() {
        (
            format!("a GPT with {} partition(s)", table.partitions().len()),
            table.place(),
        )
    } else if damaged(&inspection.primary_table) {
        ("a damaged GPT".to_owned(), Place::Primary)
    } else if damaged(&inspection.backup_table) {
        ("a damaged GPT".to_owned(), Place::Backup)
    } else {
        return None;
    };
    let offset = gpt::header_at(place, inspection.lba_size, inspection.device_size).unwrap_or_default();
    Some(Trace { what, offset })
}

fn info_block<D: ReadAt + ?Sized>(device: &D) -> io::Result<Option<Trace>> {
    let mut magic = [0; 16];
    match device.read_exact_at(INFO_BLOCKS_AT, &mut magic) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let known = INFO_BLOCKS.iter().find(|(bytes, _)| **bytes == magic);
    Ok(known.map(|(_, what)| Trace {
        what: (*what).to_owned(),
        offset: INFO_BLOCKS_AT,
    }))
}

/// Returns what begins at an offset and reaches to the end of the device.
fn beginning_at<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    start: DeviceOffset,
) -> io::Result<Vec<Trace>> {
    let end = DeviceOffset::after(inspection.device_size);
    let Some(rest) = DeviceRange::between(start, end) else {
        return Ok(Vec::new());
    };
    let found = probe::signatures(device, rest)?;
    Ok(found.iter().map(|found| trace(found, start)).collect())
}

/// Returns the offset of the first byte that is not zero, and libblkid's opinion on what may begin before it.
fn unknown<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, offset: DeviceOffset) -> io::Result<Trace> {
    for start in STARTS.map(|unit| offset.align_down(unit)) {
        if let Some(known) = beginning_at(device, inspection, start)?.into_iter().next() {
            return Ok(known);
        }
    }
    Ok(Trace {
        what: "data of an unknown kind".to_owned(),
        offset,
    })
}

/// Returns whether libblkid has found what an inspection judges: a GPT, or the MBR that protects one.
fn is_gpt(found: &Signature) -> bool {
    found.kind == Kind::PartitionTable && ["gpt", "PMBR"].contains(&found.name.as_str())
}

fn trace(found: &Signature, start: DeviceOffset) -> Trace {
    let mut what = what(found);
    if start.0 != 0 {
        what += &format!(" that begins at {start},");
    }
    Trace {
        what,
        offset: DeviceOffset(found.offset),
    }
}

/// Returns a signature in words.
fn what(found: &Signature) -> String {
    let name = &found.name;
    match (found.kind, name.as_str()) {
        (_, "swap") => "a swap area".to_owned(),
        (_, "swsuspend") => "a hibernated system".to_owned(),
        (_, "LVM2_member" | "LVM1_member") => "an LVM physical volume".to_owned(),
        (_, "linux_raid_member") => "a member of an md RAID".to_owned(),
        (_, "zfs_member") => "a member of a ZFS pool".to_owned(),
        (_, "crypto_LUKS") => "a LUKS container".to_owned(),
        (_, "bcache") => "a bcache device".to_owned(),
        (Kind::PartitionTable, "dos") => "an MBR partition table".to_owned(),
        (Kind::PartitionTable, "PMBR") => "a protective MBR".to_owned(),
        (Kind::PartitionTable, "gpt") => "a GPT".to_owned(),
        (Kind::FileSystem, _) => format!("a file system ({name})"),
        (Kind::Raid, _) => format!("a member of a RAID or a volume group ({name})"),
        (Kind::Crypto, _) => format!("an encrypted container ({name})"),
        (Kind::PartitionTable, _) => format!("a partition table ({name})"),
        (Kind::Other, _) => format!("the signature of {name}"),
    }
}
