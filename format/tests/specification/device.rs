//! Sparse devices made from the specification: their tables, their copies, and their text form.

use crate::vectors::{Page, content};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{SuperBlock, Which};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, LbaSize, NamespaceOffset};

pub(crate) const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// The bytes of a row of the text form.
const ROW: usize = 32;

/// A device whose bytes are mostly zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) size: u64,
    /// The block size that it has; none for an image.
    pub(crate) told: Option<LbaSize>,
    pages: BTreeMap<u64, Page>,
}

impl ReadAt for Device {
    fn size(&self) -> io::Result<Bytes> {
        Ok(Bytes(self.size))
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        let end = offset.0.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.fill(0);
        if let Some(end) = end {
            for (number, page) in self.pages.range(offset.0 / PAGE..end.div_ceil(PAGE)) {
                let start = number * PAGE;
                let (from, to) = (start.max(offset.0), (start + PAGE).min(end));
                buf[(from - offset.0) as usize..(to - offset.0) as usize]
                    .copy_from_slice(&page[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        let (number, _) = self.pages.range(offset.0 / PAGE..).next()?;
        Some(DeviceOffset((number * PAGE).max(offset.0)))
    }
}

impl Device {
    pub(crate) fn blank(size: u64, told: Option<LbaSize>) -> Self {
        Self {
            size,
            told,
            pages: BTreeMap::new(),
        }
    }

    /// Puts `bytes` at `offset`, as many of them as the device has room for.
    pub(crate) fn put(&mut self, mut offset: u64, mut bytes: &[u8]) {
        let room = self.size.saturating_sub(offset).min(bytes.len() as u64);
        bytes = &bytes[..room as usize];
        while !bytes.is_empty() {
            let within = (offset % PAGE) as usize;
            let (now, rest) = bytes.split_at(bytes.len().min(PAGE as usize - within));
            if self.pages.contains_key(&(offset / PAGE)) || now.iter().any(|byte| *byte != 0) {
                let page = self.pages.entry(offset / PAGE).or_insert([0; PAGE as usize]);
                page[within..within + now.len()].copy_from_slice(now);
            }
            offset += now.len() as u64;
            bytes = rest;
        }
    }

    pub(crate) fn get(&self, offset: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.read_exact_at(DeviceOffset(offset), &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn wipe(&mut self, offset: u64, size: usize) {
        self.put(offset, &vec![0; size]);
    }

    pub(crate) fn flip(&mut self, offset: u64) {
        let byte = self.get(offset, 1)[0];
        self.put(offset, &[byte ^ 0x40]);
    }

    /// Gives it another size; what lies behind that is lost.
    pub(crate) fn resize(&mut self, size: u64) {
        let lost = self.size.saturating_sub(size);
        if lost > 0 {
            self.pages.retain(|number, _| number * PAGE < size);
            if let Some(page) = self.pages.get_mut(&(size / PAGE)) {
                page[(size % PAGE) as usize..].fill(0);
            }
        }
        self.size = size;
    }

    pub(crate) fn copy(&mut self, which: Which, content: &SuperBlock) {
        self.copy_at(which, which.offset().0, content);
    }

    pub(crate) fn copy_at(&mut self, which: Which, offset: u64, content: &SuperBlock) {
        self.put(offset, &content.encode_at(which, DeviceOffset(offset)));
    }

    /// Writes what the reader in C gets.
    pub(crate) fn to_stream(&self, stream: &mut Vec<u8>) {
        stream.extend(self.size.to_le_bytes());
        let told = self.told.map_or(0, |lba| lba.bytes().0 as u32);
        stream.extend(told.to_le_bytes());
        stream.extend((self.pages.len() as u32).to_le_bytes());
        for (number, page) in &self.pages {
            let length = (self.size - number * PAGE).min(PAGE) as usize;
            stream.extend((number * PAGE).to_le_bytes());
            stream.extend((length as u32).to_le_bytes());
            stream.extend(&page[..length]);
        }
    }

    /// Rows of at most 32 bytes, without the zeros at both ends of each.
    pub(crate) fn to_rows(&self) -> String {
        let mut text = String::new();
        for (number, page) in &self.pages {
            for (row, bytes) in page.chunks(ROW).enumerate() {
                let Some(first) = bytes.iter().position(|byte| *byte != 0) else {
                    continue;
                };
                let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(first);
                write!(text, "{:x}:", number * PAGE + (row * ROW + first) as u64).unwrap();
                bytes[first..=last]
                    .iter()
                    .for_each(|byte| write!(text, " {byte:02x}").unwrap());
                text.push('\n');
            }
        }
        text
    }

    pub(crate) fn put_rows(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (offset, bytes) = line.split_once(':').unwrap();
            let bytes: Vec<u8> = bytes
                .split_whitespace()
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect();
            self.put(u64::from_str_radix(offset, 16).unwrap(), &bytes);
        }
    }
}

/// A partition table, field by field; blocks are counted in `block` bytes.
#[derive(Clone, Debug)]
pub(crate) struct Gpt {
    pub(crate) block: u64,
    pub(crate) revision: u32,
    pub(crate) header_size: u32,
    /// The block that the header stands in, and says that it stands in.
    pub(crate) own: u64,
    pub(crate) says_own: u64,
    pub(crate) alternate: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) guid: [u8; 16],
    pub(crate) entries_at: u64,
    pub(crate) count: u32,
    pub(crate) entry_size: u32,
    /// First and last block.
    pub(crate) partitions: Vec<(u64, u64)>,
    pub(crate) name: [u8; 8],
}

impl Gpt {
    /// Returns the primary table that a writer makes, with its first usable block at `first`.
    pub(crate) fn primary(block: u64, size: u64, first: u64, partitions: &[(u64, u64)]) -> Self {
        let blocks = size / block;
        Self {
            block,
            revision: 0x10000,
            header_size: 92,
            own: 1,
            says_own: 1,
            alternate: blocks - 1,
            first: first / block,
            last: blocks - 2 - 128 * 128 / block,
            guid: content().disk_guid.to_bytes_le(),
            entries_at: 2,
            count: 128,
            entry_size: 128,
            partitions: partitions
                .iter()
                .map(|(start, end)| (start / block, end / block - 1))
                .collect(),
            name: *b"d\0a\0t\0a\0",
        }
    }

    /// Returns the backup table that belongs to it.
    pub(crate) fn backup(&self) -> Self {
        Self {
            own: self.alternate,
            says_own: self.alternate,
            alternate: 1,
            entries_at: self.alternate - self.entry_blocks(),
            ..self.clone()
        }
    }

    pub(crate) fn entry_blocks(&self) -> u64 {
        (u64::from(self.count) * 128).div_ceil(self.block)
    }

    pub(crate) fn entries(&self) -> Vec<u8> {
        let mut entries = vec![0; self.count as usize * 128];
        for ((entry, (first, last)), number) in entries.chunks_mut(128).zip(&self.partitions).zip(1..) {
            entry[..16].copy_from_slice(b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4");
            entry[16..32].fill(number);
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            entry[56..64].copy_from_slice(&self.name);
        }
        entries
    }

    pub(crate) fn put(&self, device: &mut Device) {
        let entries = self.entries();
        device.put(self.entries_at * self.block, &entries);
        let mut header = b"EFI PART".to_vec();
        header.extend(self.revision.to_le_bytes());
        header.extend(self.header_size.to_le_bytes());
        header.extend([0; 8]);
        for lba in [self.says_own, self.alternate, self.first, self.last] {
            header.extend(lba.to_le_bytes());
        }
        header.extend(self.guid);
        header.extend(self.entries_at.to_le_bytes());
        header.extend(self.count.to_le_bytes());
        header.extend(self.entry_size.to_le_bytes());
        header.extend(crc32fast::hash(&entries).to_le_bytes());
        device.put(self.own * self.block, &header);
        seal_header(device, self.own * self.block);
    }
}

/// Makes the checksum of the header at `at` right, over as many bytes as it says.
pub(crate) fn seal_header(device: &mut Device, at: u64) {
    if at + 92 > device.size {
        return;
    }
    let size = device.get(at + 12, 4);
    let size = u64::from(u32::from_le_bytes(size.try_into().unwrap()));
    let size = size.clamp(20, 4096).min(device.size - at);
    device.wipe(at + 16, 4);
    let checksum = crc32fast::hash(&device.get(at, size as usize));
    device.put(at + 16, &checksum.to_le_bytes());
}

/// Makes the checksum of the page at `at` right.
pub(crate) fn seal_copy(device: &mut Device, at: u64) {
    if at + PAGE > device.size {
        return;
    }
    device.wipe(at + 16, 4);
    let checksum = crc32c::crc32c(&device.get(at, PAGE as usize));
    device.put(at + 16, &checksum.to_le_bytes());
}

/// Writes a partition record of an MBR.
pub(crate) fn put_record(device: &mut Device, number: u64, kind: u8, first: u32, blocks: u32) {
    let mut record = [0; 16];
    record[4] = kind;
    record[8..12].copy_from_slice(&first.to_le_bytes());
    record[12..].copy_from_slice(&blocks.to_le_bytes());
    device.put(446 + 16 * number, &record);
}

pub(crate) fn put_protective_mbr(device: &mut Device) {
    put_record(device, 0, 0xee, 1, u32::MAX);
    device.put(510, &[0x55, 0xaa]);
}

/// The bytes of the devices made here.
pub(crate) const SIZE: u64 = 8 * MIB;
/// Where their first partition begins, and the last ends.
pub(crate) const DATA: u64 = 6 * MIB;
pub(crate) const DATA_END: u64 = 7 * MIB + 512 * 1024;

/// Returns the content of their super blocks: 4 MiB are reserved at 2 MiB.
pub(crate) fn superblock(size: u64) -> SuperBlock {
    let mut content = content();
    content.device_size = Bytes(size);
    content.reserved = DeviceRange::new(DeviceOffset(2 * MIB), Bytes(4 * MIB)).unwrap();
    content.planned.namespace_size = Bytes(size);
    content.planned.device_in_namespace = NamespaceOffset(0);
    content.address_hint = None;
    content
}

/// Returns the primary table of a device of `SIZE` bytes.
pub(crate) fn table(block: u64) -> Gpt {
    let half = DATA + MIB;
    Gpt::primary(block, SIZE, DATA, &[(DATA, half), (half, DATA_END)])
}

/// Returns a device with these tables and the usual copies.
pub(crate) fn with_tables(primary: &Gpt, backup: &Gpt) -> Device {
    let mut device = Device::blank(SIZE, None);
    put_protective_mbr(&mut device);
    primary.put(&mut device);
    backup.put(&mut device);
    for which in Which::BOTH {
        device.copy(which, &superblock(SIZE));
    }
    device
}

/// Returns a prepared image.
pub(crate) fn prepared(block: u64) -> Device {
    let table = table(block);
    with_tables(&table, &table.backup())
}
