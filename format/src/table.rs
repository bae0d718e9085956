//! The GUID partition table (GPT), read from bounded bytes.
//!
//! gptman decodes the partitions. The header is decoded here: gptman takes a header of 92 bytes only, where the specification allows
//! any size up to the block's, and trusts what a right checksum covers. Source: UEFI Specification 2.10, chapter 5.3.

use crate::read::ReadAt;
use crate::units::{Bytes, DeviceOffset, DeviceRange, Lba, LbaSize};
use gptman::GPTPartitionEntry;
use std::io::{self, Read as _};
use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// The first bytes of a GPT header.
pub const SIGNATURE: &[u8; 8] = b"EFI PART";
/// The bytes of one entry; other sizes are allowed by the specification and made by no common tool.
pub const ENTRY_SIZE: u32 = 128;
const ENTRY_BYTES: usize = 128;
/// The most entries that are read: eight times what tools make by default.
pub const MAX_ENTRIES: u32 = 1024;
/// The entries that a new table has.
pub const DEFAULT_ENTRIES: u32 = 128;

/// The only revision of the header that there is: 1.0.
const REVISION: u32 = 0x0001_0000;
/// The bytes of a header that carry meaning: the least size that it may have.
pub const HEADER_SIZE: u32 = 92;

/// The bytes that must follow the last entry: gptman reads an entry into a larger buffer.
const ENTRY_SLACK: usize = 256;

/// One of the two places where a table is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// At the start of the device.
    Primary,
    /// At its end.
    Backup,
}

impl Place {
    /// Returns the other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Backup,
            Self::Backup => Self::Primary,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1: N of /dev/pmem0pN.
    pub number: u32,
    /// Its bytes on the device.
    pub range: DeviceRange,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its own GUID.
    pub guid: Uuid,
    /// Its name.
    pub name: String,
}

/// A valid partition table, as one of its two places holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    place: Place,
    lba_size: LbaSize,
    header: Header,
    entries: Vec<EntryBytes>,
    entries_at: DeviceRange,
    partitions: Vec<Partition>,
    usable: DeviceRange,
}

/// The bytes of an entry as they stand on the device. Source: UEFI Specification 2.10, table 5.6.
pub type EntryBytes = [u8; ENTRY_BYTES];

/// The fields of a valid header. Source: UEFI Specification 2.10, table 5.5.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The block of this header.
    pub lba: Lba,
    /// The block where the other header is, according to this one.
    pub other_lba: Lba,
    /// The first block that partitions may use.
    pub first_usable: Lba,
    /// The last block that partitions may use.
    pub last_usable: Lba,
    /// The GUID of the disk.
    pub disk_guid: Uuid,
    /// The first block of the entries.
    pub entries_lba: Lba,
    /// How many entries there are, used or not.
    pub entries: u32,
    /// How many bytes each of them has.
    pub entry_size: u32,
    /// The CRC-32 of the entries.
    pub entries_checksum: u32,
    /// The reserved bytes behind the header's own checksum.
    pub reserved: [u8; 4],
}

/// A header as it stands on the device.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    signature: [u8; 8],
    revision: U32,
    header_size: U32,
    checksum: U32,
    reserved: [u8; 4],
    my_lba: U64,
    alternate_lba: U64,
    first_usable: U64,
    last_usable: U64,
    disk_guid: [u8; 16],
    entries_at: U64,
    entries: U32,
    entry_size: U32,
    entries_checksum: U32,
}

const _: () = assert!(size_of::<RawHeader>() == 92);

/// Why there is no valid table in a place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotATable {
    /// No signature.
    #[error("the GPT signature is missing")]
    NoSignature,
    /// The device failed to read it.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// Another revision of the header.
    #[error("the header has revision {0:#010x}, not {REVISION:#010x}")]
    Revision(u32),
    /// The header is smaller than its fields or larger than its block.
    #[error("the header has {0} bytes; it must have 92 at least and fit in a block")]
    HeaderSize(u32),
    /// A checksum is wrong.
    #[error("corrupted CRC32 checksum of the {what}: {found:#010x}, its bytes give {computed:#010x}")]
    Checksum {
        /// Of what.
        what: &'static str,
        /// What the header says.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// An entry cannot be decoded.
    #[error("entry {number} cannot be decoded: {reason}")]
    Entry {
        /// The number of the entry: the first one has the number 1.
        number: u32,
        /// Why it cannot be decoded.
        reason: String,
    },
    /// A size or a number of entries that no tool writes.
    #[error("{count} entries of {size} bytes are not supported (1 to {MAX_ENTRIES} entries of {ENTRY_SIZE} bytes are)")]
    Entries {
        /// The number of entries.
        count: u32,
        /// The bytes of each.
        size: u32,
    },
    /// The header says that it belongs to another block.
    #[error("header at {found} declares the position {says}")]
    Misplaced {
        /// Where it was found.
        found: Lba,
        /// Where it says it is.
        says: Lba,
    },
    /// The header, the entries or the usable blocks do not lie where they can.
    #[error("its entries at {entries} and its usable blocks {first} to {last} do not fit the device")]
    Geometry {
        /// The entries' first block.
        entries: Lba,
        /// The first usable block.
        first: Lba,
        /// The last usable block.
        last: Lba,
    },
    /// A partition outside the device or the usable blocks, or backwards.
    #[error("partition {0} does not lie within the usable blocks")]
    PartitionOutside(u32),
    /// Two partitions share bytes.
    #[error("partitions {0} and {1} overlap")]
    PartitionsOverlap(u32, u32),
}

impl NotATable {
    /// Returns whether something of a table is there, or may be, as opposed to nothing.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::NoSignature)
    }

    /// Returns whether the signature of a header is there.
    pub(crate) fn has_signature(&self) -> bool {
        !matches!(self, Self::NoSignature | Self::Io(_))
    }
}

impl Table {
    /// Reads and checks the table whose header stands at `header_at`.
    ///
    /// # Errors
    ///
    /// The reason why there is no valid table there.
    pub fn read<D: ReadAt + ?Sized>(
        device: &D,
        device_size: Bytes,
        lba_size: LbaSize,
        place: Place,
        header_at: Lba,
    ) -> Result<Self, NotATable> {
        let block = read_block(device, device_size, lba_size, header_at)?;
        Self::of_block(device, device_size, lba_size, place, header_at, &block)
    }

    /// Checks the table whose header `block` holds, the block at `header_at`; reads its entries.
    ///
    /// # Errors
    ///
    /// The reason why there is no valid table there.
    pub(crate) fn of_block<D: ReadAt + ?Sized>(
        device: &D,
        device_size: Bytes,
        lba_size: LbaSize,
        place: Place,
        header_at: Lba,
        block: &[u8],
    ) -> Result<Self, NotATable> {
        let header = header(block)?;
        if header.lba != header_at {
            return Err(NotATable::Misplaced {
                found: header_at,
                says: header.lba,
            });
        }
        let (count, size) = (header.entries, header.entry_size);
        if size != ENTRY_SIZE || count == 0 || count > MAX_ENTRIES {
            return Err(NotATable::Entries { count, size });
        }
        let ranges = Ranges::of(&header, lba_size, device_size, place).ok_or(NotATable::Geometry {
            entries: header.entries_lba,
            first: header.first_usable,
            last: header.last_usable,
        })?;
        let mut bytes = vec![0; usize::try_from(ranges.entries.size().0).unwrap_or(0)];
        device
            .read_exact_at(ranges.entries.base(), &mut bytes)
            .map_err(NotATable::Io)?;
        let entries = entries(&header, bytes)?;
        let partitions = partitions(&entries, lba_size, ranges.usable)?;
        Ok(Self {
            place,
            lba_size,
            header,
            entries,
            entries_at: ranges.entries,
            partitions,
            usable: ranges.usable,
        })
    }

    /// Returns where this table was read from.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Returns the block size that it was read with.
    pub fn lba_size(&self) -> LbaSize {
        self.lba_size
    }

    /// Returns the fields of the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the bytes of all entries, the unused ones too.
    pub fn entries(&self) -> &[EntryBytes] {
        &self.entries
    }

    /// Returns the partitions, in the order of their start.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Returns the GUID of the disk: what a super block names its table by.
    pub fn disk_guid(&self) -> Uuid {
        self.header.disk_guid
    }

    /// Returns the bytes from the first usable block to the end of the last one.
    pub fn usable(&self) -> DeviceRange {
        self.usable
    }

    /// Returns whether both say the same of the disk: the disk GUID, the usable blocks, and every byte of the entries. What is left to
    /// differ is where each stands.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.header.disk_guid == other.header.disk_guid && self.usable == other.usable && self.entries == other.entries
    }

    /// Returns the block where this header says that the other one stands.
    pub fn other_header(&self) -> Lba {
        self.header.other_lba
    }

    /// Returns the whole blocks of this table's entries.
    pub fn entries_at(&self) -> DeviceRange {
        self.entries_at
    }

    /// Returns the bytes that the protective MBR and the primary header and entries take at the start of the device, where writers put
    /// them.
    pub fn head(&self) -> DeviceRange {
        head(self.lba_size, self.header.entries)
    }

    /// Returns the bytes between the primary table and the first partition, or the first usable block if there is no partition:
    /// where a super block and a reserved area may lie.
    ///
    /// It begins behind the primary table's entries. A backup table does not say where these are: then the gap begins where it would if a
    /// writer of this format had put them there.
    pub fn gap(&self) -> DeviceRange {
        let start = match self.place {
            Place::Primary => self.entries_at.end(),
            Place::Backup => self.head().end(),
        };
        self.up_to_first_partition(start)
    }

    /// Returns the bytes between the primary header and the first partition, entries included: where copies of the super block are looked
    /// for, even if they must not be believed because the entries were moved.
    pub(crate) fn before_partitions(&self) -> DeviceRange {
        self.up_to_first_partition(head(self.lba_size, 0).end())
    }

    fn up_to_first_partition(&self, start: DeviceOffset) -> DeviceRange {
        let end = self
            .partitions
            .first()
            .map_or(self.usable.base(), |first| first.range.base());
        DeviceRange::between(start, end.max(start)).unwrap_or(DeviceRange::clamped(start, Bytes(0)))
    }
}

/// Returns the bytes that the protective MBR and a primary table of `entries` entries take at the start of a device.
pub fn head(lba_size: LbaSize, entries: u32) -> DeviceRange {
    let blocks = entry_blocks(lba_size, entries).saturating_add(2);
    let size = lba_size.bytes().checked_mul(blocks).unwrap_or(Bytes(0));
    DeviceRange::clamped(DeviceOffset(0), size)
}

/// Returns the whole blocks that `entries` entries take.
pub fn entry_blocks(lba_size: LbaSize, entries: u32) -> u64 {
    u64::from(entries)
        .saturating_mul(u64::from(ENTRY_SIZE))
        .div_ceil(lba_size.bytes().0.max(1))
}

/// Returns the last block of a device: where the backup header belongs. `None` if the device has no block.
pub fn last_lba(lba_size: LbaSize, device_size: Bytes) -> Option<Lba> {
    lba_size.blocks_in(device_size).checked_sub(1).map(Lba)
}

/// Reads the block at `at`. A block that is not on the device holds no table.
pub(crate) fn read_block<D: ReadAt + ?Sized>(
    device: &D,
    device_size: Bytes,
    lba_size: LbaSize,
    at: Lba,
) -> Result<Vec<u8>, NotATable> {
    if last_lba(lba_size, device_size).is_none_or(|last| at > last) {
        return Err(NotATable::NoSignature);
    }
    let offset = lba_size.offset_of(at).ok_or(NotATable::NoSignature)?;
    let mut block = vec![0; usize::try_from(lba_size.bytes().0).unwrap_or(0)];
    device.read_exact_at(offset, &mut block).map_err(NotATable::Io)?;
    Ok(block)
}

/// Returns the header that a block holds.
fn header(block: &[u8]) -> Result<Header, NotATable> {
    let (raw, _) = RawHeader::ref_from_prefix(block).map_err(|_| NotATable::NoSignature)?;
    if raw.signature != *SIGNATURE {
        return Err(NotATable::NoSignature);
    }
    if raw.revision.get() != REVISION {
        return Err(NotATable::Revision(raw.revision.get()));
    }
    let size = raw.header_size.get();
    let bytes = usize::try_from(size)
        .ok()
        .filter(|_| size >= HEADER_SIZE)
        .and_then(|size| block.get(..size))
        .ok_or(NotATable::HeaderSize(size))?;
    let checksum_at = std::mem::offset_of!(RawHeader, checksum);
    let (before, rest) = bytes.split_at_checked(checksum_at).unwrap_or((bytes, &[]));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(before);
    hasher.update(&[0; size_of::<U32>()]);
    hasher.update(rest.get(size_of::<U32>()..).unwrap_or(&[]));
    checked("header", raw.checksum.get(), hasher.finalize())?;
    Ok(Header {
        lba: Lba(raw.my_lba.get()),
        other_lba: Lba(raw.alternate_lba.get()),
        first_usable: Lba(raw.first_usable.get()),
        last_usable: Lba(raw.last_usable.get()),
        disk_guid: Uuid::from_bytes_le(raw.disk_guid),
        entries_lba: Lba(raw.entries_at.get()),
        entries: raw.entries.get(),
        entry_size: raw.entry_size.get(),
        entries_checksum: raw.entries_checksum.get(),
        reserved: raw.reserved,
    })
}

fn checked(what: &'static str, found: u32, computed: u32) -> Result<(), NotATable> {
    if found == computed {
        return Ok(());
    }
    Err(NotATable::Checksum { what, found, computed })
}

struct Ranges {
    entries: DeviceRange,
    usable: DeviceRange,
}

impl Ranges {
    /// Returns the header's ranges, if they lie where the specification requires: the primary entries before the usable blocks; the backup
    /// header and entries after them; all within the device.
    fn of(header: &Header, lba_size: LbaSize, device_size: Bytes, place: Place) -> Option<Self> {
        let device = DeviceRange::clamped(DeviceOffset(0), device_size);
        let count = header.entries;
        let entries_size = lba_size.bytes().checked_mul(entry_blocks(lba_size, count))?;
        let entries = DeviceRange::new(lba_size.offset_of(header.entries_lba)?, entries_size)?;
        let first = lba_size.offset_of(header.first_usable)?;
        let end = lba_size.offset_of(Lba(header.last_usable.0.checked_add(1)?))?;
        let usable = DeviceRange::between(first, end).filter(|usable| !usable.is_empty())?;
        let block = DeviceRange::new(lba_size.offset_of(header.lba)?, lba_size.bytes())?;
        let fits = device.contains(entries)
            && device.contains(usable)
            && usable.base() >= head(lba_size, count).end()
            && match place {
                Place::Primary => header.entries_lba.0 >= 2 && entries.end() <= usable.base(),
                Place::Backup => {
                    entries.base() >= usable.end() && block.base() >= usable.end() && !block.overlaps(entries)
                }
            };
        fits.then_some(Self { entries, usable })
    }
}

/// Returns the entries that `header` has, of the blocks that hold them.
fn entries(header: &Header, mut blocks: Vec<u8>) -> Result<Vec<EntryBytes>, NotATable> {
    let count = usize::try_from(header.entries).unwrap_or(0);
    blocks.truncate(count.saturating_mul(ENTRY_BYTES));
    checked("entries", header.entries_checksum, crc32fast::hash(&blocks))?;
    let (entries, _) = blocks.as_chunks::<ENTRY_BYTES>();
    Ok(entries.to_vec())
}

/// Returns what an entry says.
fn decoded(number: u32, bytes: &EntryBytes) -> Result<GPTPartitionEntry, NotATable> {
    let mut padded = bytes.chain(&[0; ENTRY_SLACK][..]);
    GPTPartitionEntry::read_from(&mut padded).map_err(|error| NotATable::Entry {
        number,
        reason: error.to_string(),
    })
}

fn partitions(entries: &[EntryBytes], lba_size: LbaSize, usable: DeviceRange) -> Result<Vec<Partition>, NotATable> {
    let mut partitions = Vec::new();
    // Most entries are all zeros. To decode these would take longer than everything else.
    for (number, bytes) in (1u32..).zip(entries).filter(|(_, bytes)| **bytes != [0; ENTRY_BYTES]) {
        let entry = decoded(number, bytes)?;
        if !entry.is_used() {
            continue;
        }
        let range = partition_range(&entry, lba_size)
            .filter(|range| usable.contains(*range))
            .ok_or(NotATable::PartitionOutside(number))?;
        partitions.push(Partition {
            number,
            range,
            type_guid: Uuid::from_bytes_le(entry.partition_type_guid),
            guid: Uuid::from_bytes_le(entry.unique_partition_guid),
            name: entry.partition_name.as_str().to_owned(),
        });
    }
    partitions.sort_by_key(|partition| partition.range.base());
    for (before, after) in partitions.iter().zip(partitions.iter().skip(1)) {
        if before.range.overlaps(after.range) {
            return Err(NotATable::PartitionsOverlap(before.number, after.number));
        }
    }
    Ok(partitions)
}

fn partition_range(entry: &GPTPartitionEntry, lba_size: LbaSize) -> Option<DeviceRange> {
    let start = lba_size.offset_of(Lba(entry.starting_lba))?;
    let end = lba_size.offset_of(Lba(entry.ending_lba.checked_add(1)?))?;
    DeviceRange::between(start, end).filter(|range| !range.is_empty())
}
