//! Disks made by hand.

use crate::inspect::{Inspection, inspect};
use crate::read::ReadAt;
use crate::superblock::tests::sample;
use crate::superblock::{SuperBlock, Which};
use crate::table::{SIGNATURE, Table};
use crate::units::{Bytes, DeviceOffset, DeviceRange};
use gptman::{GPT, GPTHeader, GPTPartitionEntry};
use std::cell::RefCell;
use std::io::{self, Cursor};

pub(super) const MIB: u64 = 1 << 20;
/// The bytes of a disk.
pub(super) const DISK: u64 = 64 * MIB;
/// Where the reserved area begins, and its size.
pub(super) const RESERVED: (u64, u64) = (2 * MIB, 6 * MIB);
/// Where the first partition begins.
pub(super) const DATA: u64 = 8 * MIB;

/// A device in memory, some of whose bytes cannot be read, that counts what is read.
pub(super) struct Disk {
    pub(super) bytes: Vec<u8>,
    /// Whether it knows where it holds zeros.
    pub(super) sparse: bool,
    pub(super) bad: Vec<DeviceRange>,
    pub(super) read: RefCell<u64>,
}

impl ReadAt for Disk {
    fn size(&self) -> io::Result<Bytes> {
        self.bytes.size()
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        *self.read.borrow_mut() += buf.len() as u64;
        let wanted = DeviceRange::clamped(offset, Bytes(buf.len() as u64));
        if self.bad.iter().any(|bad| bad.overlaps(wanted)) {
            return Err(io::Error::other("media error"));
        }
        self.bytes.read_exact_at(offset, buf)
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        if !self.sparse {
            return Some(offset);
        }
        let rest = &self.bytes[offset.0 as usize..];
        let zeros = rest.iter().position(|byte| *byte != 0)?;
        Some(DeviceOffset(offset.0 + zeros as u64))
    }
}

pub(super) fn superblock() -> SuperBlock {
    SuperBlock {
        device_size: Bytes(DISK),
        reserved: DeviceRange::new(DeviceOffset(RESERVED.0), Bytes(RESERVED.1)).unwrap(),
        ..sample()
    }
}

/// Where the backup header is.
pub(super) const BACKUP_GPT: u64 = DISK - 512;

impl Disk {
    pub(super) fn blank() -> Self {
        Self {
            bytes: vec![0; DISK as usize],
            sparse: false,
            bad: Vec::new(),
            read: RefCell::new(0),
        }
    }

    pub(super) fn partitioned(lba: u64, first_usable: u64, partitions: &[(u64, u64)]) -> Self {
        let mut disk = Self::blank();
        let mut cursor = Cursor::new(&mut disk.bytes);
        let mut gpt = GPT::new_from(&mut cursor, lba, superblock().disk_guid.to_bytes_le()).unwrap();
        gpt.header.first_usable_lba = first_usable / lba;
        for (number, (start, end)) in (1u32..).zip(partitions) {
            gpt[number] = GPTPartitionEntry {
                partition_type_guid: [1; 16],
                unique_partition_guid: [u8::try_from(number).unwrap(); 16],
                starting_lba: start / lba,
                ending_lba: end / lba - 1,
                attribute_bits: 0,
                partition_name: "data".into(),
            };
        }
        gpt.write_into(&mut cursor).unwrap();
        GPT::write_protective_mbr_into(&mut cursor, lba).unwrap();
        disk
    }

    pub(super) fn prepared() -> Self {
        let mut disk = Self::partitioned(512, DATA, &[(DATA, 32 * MIB), (32 * MIB, 60 * MIB)]);
        for which in Which::BOTH {
            disk.put_copy(which, &superblock());
        }
        disk
    }

    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn put_copy(&mut self, which: Which, content: &SuperBlock) {
        self.put(which.offset().0, &content.encode(which));
    }

    pub(super) fn flip(&mut self, offset: u64) {
        self.bytes[offset as usize] ^= 0x40;
    }

    pub(super) fn wipe(&mut self, offset: u64, size: u64) {
        self.bytes[offset as usize..][..size as usize].fill(0);
    }

    pub(super) fn fail(&mut self, offset: u64, size: u64) {
        self.bad
            .push(DeviceRange::new(DeviceOffset(offset), Bytes(size)).unwrap());
    }

    pub(super) fn inspect(&self) -> Inspection {
        inspect(self, None).unwrap()
    }
}

/// Returns the header of a table as gptman has it.
pub(super) fn header(table: &Table) -> GPTHeader {
    let header = table.header();
    GPTHeader {
        signature: *SIGNATURE,
        revision: [0, 0, 1, 0],
        header_size: 92,
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

/// Returns the entries of a table as gptman has them.
pub(super) fn entries(table: &Table) -> Vec<GPTPartitionEntry> {
    let decoded = |bytes: &[u8; 128]| {
        let mut padded = bytes.to_vec();
        padded.resize(384, 0);
        GPTPartitionEntry::read_from(&mut padded.as_slice()).unwrap()
    };
    table.entries().iter().map(decoded).collect()
}
