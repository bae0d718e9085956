//! The partition table's bytes, both copies, with a first usable block past the reserved area.
//!
//! gptman encodes; its `update_from` would set the first usable block back to the end of the entries, so the headers are made
//! field by field. Source: UEFI Specification 2.10, chapter 5.

use crate::entries::{Partitions, Undecodable, entries_of};
use crate::places::Shape;
use crate::step::{self, Step};
use gptman::{GPTHeader, GPTPartitionEntry};
use std::io::{self, Seek, SeekFrom, Write};
use uuid::Uuid;
use xen_pmem_format::mbr::{self, BlockZero};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::table::{
    DEFAULT_ENTRIES, ENTRY_SIZE, HEADER_SIZE, Place, SIGNATURE, Table, entry_blocks, last_lba,
};
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange, Lba, LbaSize, PAGE};

/// The bytes at the start of block 0 that belong to a boot loader.
const BOOT_CODE: usize = 440;

/// A partition's entry to be.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its bytes.
    pub range: DeviceRange,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its own GUID.
    pub guid: Uuid,
    /// Its name.
    pub name: String,
}

/// Both copies of a partition table, and the protective MBR before them.
#[derive(Clone, Debug)]
pub struct Tables {
    lba_size: LbaSize,
    block_0: Vec<u8>,
    primary: GPTHeader,
    entries: Vec<GPTPartitionEntry>,
}

/// Why a table cannot be written to a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// A sum does not fit in 64 bits.
    #[error("the partition table's geometry is beyond what 64 bits can hold")]
    Overflow,
    /// An entry cannot be decoded.
    #[error(transparent)]
    Entry(#[from] Undecodable),
    /// The last partition reaches into the bytes of the backup table.
    #[error(
        "partition {number} ends at offset {end}, which leaves no room for the backup of the partition table behind it: make the device at least {least} bytes large again (an image: truncate -s {least} FILE), or end that partition at offset {bound} (shrink first what is on it), then try again", least = .least.0
    )]
    NoRoom {
        /// The partition's number.
        number: u32,
        /// Where it ends.
        end: DeviceOffset,
        /// Where it would have to end.
        bound: DeviceOffset,
        /// The size that the device must have.
        least: Bytes,
    },
}

impl Tables {
    /// Returns a new table, on a device whose block 0 begins with `block_0`. `None` if a range is not made of whole blocks or does not fit.
    pub fn new(
        lba_size: LbaSize,
        device_size: Bytes,
        disk_guid: Uuid,
        usable: DeviceRange,
        partitions: &[Entry],
        block_0: &[u8],
    ) -> Option<Self> {
        let last_of = |end: DeviceOffset| lba_size.lba_at(end)?.0.checked_sub(1);
        let mut entries: Vec<GPTPartitionEntry> = Vec::new();
        for partition in partitions {
            entries.push(GPTPartitionEntry {
                partition_type_guid: partition.type_guid.to_bytes_le(),
                unique_partition_guid: partition.guid.to_bytes_le(),
                starting_lba: lba_size.lba_at(partition.range.base())?.0,
                ending_lba: last_of(partition.range.end())?,
                attribute_bits: 0,
                partition_name: partition.name.as_str().into(),
            });
        }
        entries.resize(usize::try_from(DEFAULT_ENTRIES).ok()?, GPTPartitionEntry::empty());
        let primary = GPTHeader {
            signature: *SIGNATURE,
            revision: [0, 0, 1, 0],
            header_size: HEADER_SIZE,
            crc32_checksum: 0,
            reserved: [0; 4],
            primary_lba: 1,
            backup_lba: last_lba(lba_size, device_size)?.0,
            first_usable_lba: lba_size.lba_at(usable.base())?.0,
            last_usable_lba: last_of(usable.end())?,
            disk_guid: disk_guid.to_bytes_le(),
            partition_entry_lba: 2,
            number_of_partition_entries: DEFAULT_ENTRIES,
            size_of_partition_entry: ENTRY_SIZE,
            partition_entry_array_crc32: 0,
        };
        Some(Self {
            lba_size,
            block_0: protective_mbr(block_0, lba_size, device_size),
            primary,
            entries,
        })
    }

    /// Returns the table that is there, with its first usable block moved to `first_usable`, its entries behind the header, and its backup
    /// at the end of the device, on a device whose block 0 begins with `block_0`.
    ///
    /// The last usable block stays where it is, or moves where the device's size has changed. A hybrid MBR stays as it is.
    ///
    /// # Errors
    ///
    /// If a partition lies where the backup must.
    pub fn changed(
        table: &Table,
        device_size: Bytes,
        first_usable: DeviceOffset,
        block_0: &[u8],
    ) -> Result<Self, Unfit> {
        let lba_size = table.lba_size();
        let last = last_lba(lba_size, device_size).ok_or(Unfit::Overflow)?.0;
        let backup = entry_blocks(lba_size, table.header().entries);
        let most = last.checked_sub(backup).and_then(|first| first.checked_sub(1));
        let bound = lba_size
            .offset_of(Lba(last.saturating_sub(backup)))
            .ok_or(Unfit::Overflow)?;
        if let Some(partition) = table.partitions().last()
            && partition.range.end() > bound
        {
            let end = partition.range.end();
            let behind = lba_size.bytes().checked_mul(backup.saturating_add(1));
            let least = behind.and_then(|behind| end.distance().checked_add(behind)?.align_up(PAGE));
            return Err(Unfit::NoRoom {
                number: partition.number,
                end,
                bound,
                least: least.ok_or(Unfit::Overflow)?,
            });
        }
        let made_for = match table.place() {
            Place::Primary => table.header().other_lba.0,
            Place::Backup => table.header().lba.0,
        };
        let most = most.ok_or(Unfit::Overflow)?;
        let last_usable = if made_for == last {
            most.min(table.header().last_usable.0)
        } else {
            most
        };
        let primary = GPTHeader {
            primary_lba: 1,
            backup_lba: last,
            partition_entry_lba: 2,
            first_usable_lba: lba_size.lba_at(first_usable).ok_or(Unfit::Overflow)?.0,
            last_usable_lba: last_usable,
            ..header_of(table)
        };
        Ok(Self {
            lba_size,
            block_0: kept_mbr(block_0, lba_size, device_size),
            primary,
            entries: entries_of(table)?,
        })
    }

    /// Returns the protective MBR before them.
    pub fn block_0(&self) -> &[u8] {
        &self.block_0
    }

    /// Returns the shape of both.
    pub fn shape(&self) -> Shape {
        Shape {
            lba_size: self.lba_size,
            entries: self.primary.number_of_partition_entries,
        }
    }

    /// Returns the partitions of both.
    pub fn partitions(&self) -> Partitions {
        Partitions::of(&self.entries)
    }

    /// Returns the steps that write one copy, so that it is absent or whole at every moment; with the primary one the protective MBR.
    /// `there` says that a header's signature stands in its place.
    ///
    /// # Errors
    ///
    /// If gptman cannot encode it.
    pub fn steps(&self, place: Place, there: bool) -> Result<Vec<Step>, gptman::Error> {
        let blocks = entry_blocks(self.lba_size, self.primary.number_of_partition_entries);
        let last = self.primary.backup_lba;
        let (header, first_block, what) = match place {
            Place::Primary => (self.primary.clone(), 0, "primary GPT"),
            Place::Backup => {
                let entries = last.saturating_sub(blocks);
                let header = GPTHeader {
                    primary_lba: last,
                    backup_lba: 1,
                    partition_entry_lba: entries,
                    ..self.primary.clone()
                };
                (header, entries, "backup GPT")
            }
        };
        let start = self.lba_size.offset_of(Lba(first_block)).unwrap_or_default();
        let header_at = self.lba_size.offset_of(Lba(header.primary_lba)).unwrap_or_default();
        let mut window = Window {
            start: start.0,
            position: start.0,
            bytes: Vec::new(),
        };
        if place == Place::Primary {
            window.bytes = self.block_0.clone();
        }
        header
            .clone()
            .write_into(&mut window, self.lba_size.bytes().0, &self.entries)?;
        // A header's block is zero behind the header.
        let length = self
            .lba_size
            .bytes()
            .checked_mul(blocks.saturating_add(1))
            .unwrap_or_default()
            .0;
        let length = if place == Place::Primary {
            length.saturating_add(self.lba_size.bytes().0)
        } else {
            length
        };
        window.bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        let at = usize::try_from(header_at.0.saturating_sub(start.0)).unwrap_or(0);
        Ok(step::replace(start, &window.bytes, at, there, what))
    }
}

/// Returns the header of a table as gptman has it: 92 bytes, even if there is a larger one.
pub fn header_of(table: &Table) -> GPTHeader {
    let header = table.header();
    GPTHeader {
        signature: *SIGNATURE,
        revision: [0, 0, 1, 0],
        header_size: HEADER_SIZE,
        // gptman computes it when it writes.
        crc32_checksum: 0,
        reserved: header.reserved,
        primary_lba: header.lba.0,
        backup_lba: header.other_lba.0,
        first_usable_lba: header.first_usable.0,
        last_usable_lba: header.last_usable.0,
        disk_guid: header.disk_guid.to_bytes_le(),
        partition_entry_lba: header.entries_lba.0,
        number_of_partition_entries: header.entries,
        size_of_partition_entry: header.entry_size,
        partition_entry_array_crc32: header.entries_checksum,
    }
}

/// Returns block 0 of a device whose table is changed: a hybrid MBR as it is, since its other records belong to somebody, otherwise a new
/// protective one.
fn kept_mbr(there: &[u8], lba_size: LbaSize, device_size: Bytes) -> Vec<u8> {
    match BlockZero::of(there, lba_size) {
        BlockZero::Protective { others } if !others.is_empty() => there.to_vec(),
        _ => protective_mbr(there, lba_size, device_size),
    }
}

/// Returns block 0: an MBR with one partition of type EEh over the whole device, so that tools which do not know GPT see no free space. It
/// keeps the boot loader's bytes of `there`.
fn protective_mbr(there: &[u8], lba_size: LbaSize, device_size: Bytes) -> Vec<u8> {
    let blocks = lba_size.blocks_in(device_size).saturating_sub(1);
    let size = u32::try_from(blocks).unwrap_or(u32::MAX);
    let boot_code = there.iter().copied().chain(std::iter::repeat(0));
    let mut mbr: Vec<u8> = boot_code.take(BOOT_CODE).collect();
    mbr.extend([0; 6]);
    // Not bootable; from cylinder/head/sector 0/0/2, type EEh, to the last one there can be.
    mbr.extend([0, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    mbr.extend(1u32.to_le_bytes());
    mbr.extend(size.to_le_bytes());
    mbr.extend([0; 48]);
    mbr.extend([0x55, 0xaa]);
    mbr
}

/// Reads the MBR of a device. A new one keeps a part of it.
///
/// # Errors
///
/// If they cannot be read.
pub fn block_0<D: ReadAt + ?Sized>(device: &D) -> io::Result<Vec<u8>> {
    let mut block = vec![0; mbr::SIZE];
    device.read_exact_at(DeviceOffset(0), &mut block)?;
    Ok(block)
}

/// Returns where a copy's header belongs.
pub fn header_at(place: Place, lba_size: LbaSize, device_size: Bytes) -> Option<DeviceOffset> {
    match place {
        Place::Primary => lba_size.offset_of(Lba(1)),
        Place::Backup => lba_size.offset_of(last_lba(lba_size, device_size)?),
    }
}

/// The bytes of a device from `start` on, as gptman writes them.
struct Window {
    start: u64,
    position: u64,
    bytes: Vec<u8>,
}

impl Write for Window {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let outside = || io::Error::other("a write before the window");
        let at = self.position.checked_sub(self.start).ok_or_else(outside)?;
        let at = usize::try_from(at).map_err(io::Error::other)?;
        let end = at.checked_add(buffer.len()).ok_or_else(outside)?;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(at..end).ok_or_else(outside)?.copy_from_slice(buffer);
        self.position = self
            .position
            .checked_add(u64::try_from(buffer.len()).map_err(io::Error::other)?)
            .ok_or_else(outside)?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(position) => self.position = position,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(self.position)
    }
}
