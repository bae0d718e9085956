//! Disks made by hand, byte by byte: a partition table and two super blocks.

use gptman::{GPT, GPTPartitionEntry};
use std::io::Cursor;
use uuid::Uuid;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::{Creator, Features, Planned, SuperBlock, UnixTime, Which};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, NamespaceOffset};

pub(crate) const MIB: u64 = 1 << 20;
/// The smallest disk that these tests use.
pub(crate) const SIZE: u64 = 64 * MIB;
/// Where the reserved area is.
pub(crate) const RESERVED: (u64, u64) = (2 * MIB, 6 * MIB);
/// Where the partition is.
pub(crate) const DATA: (u64, u64) = (8 * MIB, 48 * MIB);

const DISK_GUID: Uuid = Uuid::from_u128(0xaaaaaaaa_bbbb_4ccc_8ddd_eeeeeeeeeeee);

/// A device's bytes.
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
}

impl Disk {
    pub(crate) fn blank() -> Self {
        Self {
            bytes: vec![0; SIZE as usize],
        }
    }

    /// Returns a disk with one partition and no super block.
    pub(crate) fn partitioned() -> Self {
        let mut disk = Self::blank();
        let mut cursor = Cursor::new(&mut disk.bytes);
        let mut gpt = GPT::new_from(&mut cursor, 512, DISK_GUID.to_bytes_le()).unwrap();
        gpt.header.first_usable_lba = DATA.0 / 512;
        gpt[1] = GPTPartitionEntry {
            partition_type_guid: [1; 16],
            unique_partition_guid: [2; 16],
            starting_lba: DATA.0 / 512,
            ending_lba: (DATA.0 + DATA.1) / 512 - 1,
            attribute_bits: 0,
            partition_name: "data".into(),
        };
        gpt.write_into(&mut cursor).unwrap();
        GPT::write_protective_mbr_into(&mut cursor, 512).unwrap();
        disk
    }

    /// Returns a disk that is prepared, its reserved area at `base`.
    pub(crate) fn prepared_at(uuid: Uuid, base: u64) -> Self {
        let mut disk = Self::partitioned();
        let superblock = SuperBlock {
            sequence: 1,
            uuid,
            disk_guid: DISK_GUID,
            device_size: Bytes(SIZE),
            reserved: DeviceRange::new(
                DeviceOffset(base),
                Bytes(RESERVED.1 - (base - RESERVED.0).next_multiple_of(2 * MIB)),
            )
            .unwrap(),
            planned: Planned {
                entries: EntrySizes::XEN_X86_64,
                namespace_size: Bytes(SIZE),
                device_in_namespace: NamespaceOffset(0),
            },
            address_hint: None,
            created: UnixTime(1_700_000_000),
            updated: UnixTime(1_700_000_000),
            creator: Creator::new("tests").unwrap(),
            features: Features::default(),
        };
        for which in Which::BOTH {
            disk.put(which.offset().0, &superblock.encode(which));
        }
        disk
    }

    /// Returns a disk that is prepared.
    pub(crate) fn prepared(uuid: Uuid) -> Self {
        Self::prepared_at(uuid, RESERVED.0)
    }

    /// Returns the disk with a bit flipped at `offset`.
    pub(crate) fn flipped(mut self, offset: u64) -> Self {
        self.bytes[offset as usize] ^= 1;
        self
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
}
