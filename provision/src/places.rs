//! Which bytes of a device a plan may write, and which belong to somebody else.

use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{COPY, Which};
use xen_pmem_format::table::{Partition, Place, Table, entry_blocks, head, last_lba};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, Lba, LbaSize};

/// What a writable range is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One of the partition tables.
    Table(Place),
    /// A copy of the super block.
    Copy,
    /// Bytes that the plan has shown to belong to nobody.
    Free,
}

/// The shape of the partition table that a plan writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The bytes of its blocks.
    pub lba_size: LbaSize,
    /// The number of its entries.
    pub entries: u32,
}

/// The ranges that a plan may write to, each with its purpose.
#[derive(Clone, Debug)]
pub struct Writable(Vec<(Part, DeviceRange)>);

impl Writable {
    /// Returns the places of both tables of this shape, both copies' fixed places, and `others`.
    pub fn new(device_size: Bytes, shape: Shape, others: &[(Part, DeviceRange)]) -> Self {
        let mut ranges = vec![
            (Part::Table(Place::Primary), head(shape.lba_size, shape.entries)),
            (Part::Table(Place::Backup), tail(device_size, shape)),
        ];
        ranges.extend(Which::BOTH.map(|which| (Part::Copy, which.range())));
        ranges.extend(others);
        Self(ranges)
    }

    /// Returns what a range that is wholly writable is for.
    pub fn part_of(&self, range: DeviceRange) -> Option<Part> {
        let found = self.0.iter().find(|(_, writable)| writable.contains(range));
        found.map(|(part, _)| *part)
    }
}

/// Returns the bytes at the end of a device that the backup table's entries and its header take.
pub fn tail(device_size: Bytes, shape: Shape) -> DeviceRange {
    let blocks = entry_blocks(shape.lba_size, shape.entries).saturating_add(1);
    let size = shape.lba_size.bytes().checked_mul(blocks).unwrap_or(device_size);
    let end = shape
        .lba_size
        .blocks_in(device_size)
        .saturating_mul(shape.lba_size.bytes().0);
    let start = end.saturating_sub(size.0);
    DeviceRange::clamped(DeviceOffset(start), Bytes(end.saturating_sub(start)))
}

/// The valid partition tables of a device, wherever they stand: of either block size, at the start, where the one at the start says
/// that its backup is, and in the last block.
#[derive(Clone, Debug, Default)]
pub struct Tables(Vec<Table>);

/// Bytes that a plan must not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// A partition's.
    Partition {
        /// Its number.
        number: u32,
        /// Its bytes.
        range: DeviceRange,
        /// The table that has it.
        table: Place,
    },
    /// A table's header or entries.
    Table {
        /// Which table.
        table: Place,
        /// Those bytes.
        range: DeviceRange,
    },
}

impl Tables {
    /// Reads all of a device's tables.
    pub fn read<D: ReadAt + ?Sized>(device: &D, device_size: Bytes) -> Self {
        let mut tables = Vec::new();
        for lba_size in [LbaSize::B512, LbaSize::B4096] {
            let read = |place, at| Table::read(device, device_size, lba_size, place, at).ok();
            let primary = read(Place::Primary, Lba(1));
            let said = primary.as_ref().map(Table::other_header);
            let last = last_lba(lba_size, device_size).filter(|last| Some(*last) != said);
            let backups = [said, last].into_iter().flatten();
            tables.extend(backups.filter_map(|at| read(Place::Backup, at)));
            tables.extend(primary);
        }
        Self(tables)
    }

    /// Returns all partitions of all tables, each with the table that has it.
    pub fn partitions(&self) -> impl Iterator<Item = (Place, &Partition)> {
        self.0
            .iter()
            .flat_map(|table| table.partitions().iter().map(|partition| (table.place(), partition)))
    }

    /// Returns the owner of bytes that a write to `range`, which is writable as `part`, would destroy.
    pub fn owner(&self, range: DeviceRange, part: Part) -> Option<Owned> {
        let partition = self.partitions().find(|(_, partition)| partition.range.overlaps(range));
        if let Some((table, partition)) = partition {
            return Some(Owned::Partition {
                number: partition.number,
                range: partition.range,
                table,
            });
        }
        let mut structures = self.0.iter().flat_map(|table| {
            structures(table).map(|bytes| Owned::Table {
                table: table.place(),
                range: bytes,
            })
        });
        structures.find(|owned| match owned {
            Owned::Table { table, range: bytes } => bytes.overlaps(range) && part != Part::Table(*table),
            Owned::Partition { .. } => false,
        })
    }
}

/// Returns the block of a table's header, and its entries.
pub fn structures(table: &Table) -> impl Iterator<Item = DeviceRange> {
    let (header, lba_size) = (table.header(), table.lba_size());
    let blocks = |first: u64, count: u64| {
        DeviceRange::new(lba_size.offset_of(Lba(first))?, lba_size.bytes().checked_mul(count)?)
    };
    let entries = entry_blocks(lba_size, header.entries);
    [blocks(header.lba.0, 1), blocks(header.entries_lba.0, entries)]
        .into_iter()
        .flatten()
}

/// Returns the page of a copy at `offset`.
pub fn page(offset: DeviceOffset) -> DeviceRange {
    DeviceRange::clamped(offset, COPY)
}
