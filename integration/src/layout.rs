//! What an NVDIMM's backing file must look like when it is prepared: read from `docs/format.md` and the UEFI specification, without
//! the project's own crates, as a second opinion.

use crate::image::{self, MIB};
use anyhow::{Result, ensure};
use std::path::Path;

/// Bytes of a logical block of pmem.
const BLOCK: u64 = 512;
/// Where the two copies of the super block stand, and how they begin.
const COPIES: [(u64, &[u8; 8]); 2] = [(512 << 10, b"XenPmemP"), (1536 << 10, b"XenPmemB")];

/// A prepared device, as its bytes say. All positions are bytes from the start of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The reservation's UUID.
    pub uuid: String,
    /// Where the area reserved for Xen begins.
    pub reserved_base: u64,
    /// How large it is.
    pub reserved_size: u64,
    /// The partitions' first byte and size, in the order of their numbers.
    pub partitions: Vec<(u64, u64)>,
}

impl Layout {
    /// Reads and checks the device that takes `size` bytes at `start` in the file.
    ///
    /// # Errors
    ///
    /// If it is not prepared, or its parts contradict each other.
    pub fn read(file: &Path, start: u64, size: u64) -> Result<Self> {
        let device = Device { file, start };
        let last_block = size / BLOCK - 1;
        let primary = device.header(1, last_block)?;
        let backup = device.header(last_block, 1)?;
        ensure!(
            primary.usable == backup.usable,
            "the two partition tables differ: {primary:x?} and {backup:x?}"
        );
        ensure!(
            primary.guid == backup.guid,
            "the two partition tables have different GUIDs"
        );

        let copies: Vec<Copy> = COPIES
            .iter()
            .map(|(offset, signature)| device.copy(*offset, *signature))
            .collect::<Result<_>>()?;
        let [first, second] = copies.as_slice() else {
            unreachable!("there are two")
        };
        ensure!(
            first == second,
            "the super block's copies differ: {first:x?} and {second:x?}"
        );
        ensure!(
            first.disk_guid == primary.guid,
            "the super block is of another partition table"
        );
        ensure!(
            first.device_size == size,
            "the super block is of a device of {} bytes",
            first.device_size
        );

        let (base, end) = (first.reserved_base, first.reserved_base + first.reserved_size);
        let gap = (2 + 32) * BLOCK;
        ensure!(
            base >= gap && base >= COPIES[1].0 + 4096,
            "the reserved area begins at {base:#x}, on other things"
        );
        ensure!(
            base.is_multiple_of(2 * MIB) && first.reserved_size.is_multiple_of(2 * MIB),
            "no whole superpages"
        );
        ensure!(
            primary.usable.0 * BLOCK >= end,
            "the first usable block lies in the reserved area"
        );
        let partitions = device.partitions(&primary)?;
        for (start, size) in &partitions {
            ensure!(
                *start >= end,
                "the partition at {start:#x} lies on the reserved area, which ends at {end:#x}"
            );
            ensure!(
                start.is_multiple_of(2 * MIB) && size.is_multiple_of(4096),
                "{start:#x}+{size:#x} is not aligned"
            );
            ensure!(
                start + size <= (primary.usable.1 + 1) * BLOCK,
                "the partition at {start:#x} ends too late"
            );
        }
        Ok(Self {
            uuid: first.uuid.clone(),
            reserved_base: base,
            reserved_size: first.reserved_size,
            partitions,
        })
    }
}

/// Where a device lies in a file.
struct Device<'a> {
    file: &'a Path,
    start: u64,
}

/// What a GPT header says.
#[derive(Debug)]
struct Header {
    guid: Vec<u8>,
    /// First and last usable block.
    usable: (u64, u64),
    entries_at: u64,
    entries: u64,
    entry_size: u64,
}

/// What a copy of the super block says.
#[derive(Debug, PartialEq, Eq)]
struct Copy {
    uuid: String,
    disk_guid: Vec<u8>,
    device_size: u64,
    reserved_base: u64,
    reserved_size: u64,
}

impl Device<'_> {
    fn read(&self, offset: u64, count: usize) -> Result<Vec<u8>> {
        image::read(self.file, self.start + offset, count)
    }

    fn number(&self, offset: u64) -> Result<u64> {
        image::number(self.file, self.start + offset)
    }

    fn header(&self, block: u64, other: u64) -> Result<Header> {
        let at = block * BLOCK;
        ensure!(
            self.read(at, 8)? == b"EFI PART",
            "there is no GPT header in block {block}"
        );
        ensure!(
            self.number(at + 24)? == block,
            "the GPT header in block {block} says that it is elsewhere"
        );
        ensure!(
            self.number(at + 32)? == other,
            "the GPT header in block {block} has the other one in the wrong place"
        );
        let counts = self.number(at + 80)?;
        Ok(Header {
            guid: self.read(at + 56, 16)?,
            usable: (self.number(at + 40)?, self.number(at + 48)?),
            entries_at: self.number(at + 72)? * BLOCK,
            entries: counts & 0xffff_ffff,
            entry_size: counts >> 32,
        })
    }

    fn partitions(&self, header: &Header) -> Result<Vec<(u64, u64)>> {
        let mut partitions = Vec::new();
        for index in 0..header.entries {
            let at = header.entries_at + index * header.entry_size;
            if self.read(at, 16)?.iter().any(|byte| *byte != 0) {
                let (first, last) = (self.number(at + 32)?, self.number(at + 40)?);
                partitions.push((first * BLOCK, (last + 1 - first) * BLOCK));
            }
        }
        Ok(partitions)
    }

    fn copy(&self, at: u64, signature: &[u8]) -> Result<Copy> {
        ensure!(self.read(at, 8)? == signature, "there is no super block at {at:#x}");
        ensure!(
            self.number(at + 56)? == at,
            "the super block at {at:#x} says that it is elsewhere"
        );
        Ok(Copy {
            uuid: uuid(&self.read(at + 64, 16)?),
            disk_guid: self.read(at + 80, 16)?,
            device_size: self.number(at + 96)?,
            reserved_base: self.number(at + 104)?,
            reserved_size: self.number(at + 112)?,
        })
    }
}

/// Returns RFC 9562's text of 16 bytes.
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_dashes() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid(&bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn a_blank_image_is_not_prepared() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 * MIB).unwrap();
        let error = Layout::read(file.path(), 0, 16 * MIB).unwrap_err();
        assert!(error.to_string().contains("no GPT header in block 1"), "{error}");
    }
}
