//! Saved pieces of a device: what `backup` writes and `restore` reads, and what `init --force` saves of what it overwrites.

use crate::step::Step;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::io;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::Which;
use xen_pmem_format::table::{DEFAULT_ENTRIES, Table, entry_blocks, head};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange};

/// The schema's number.
pub const SCHEMA: u32 = 1;
/// The most bytes that are read from a backup file: tables and super blocks take a thirtieth of that.
pub const MAX_FILE: u64 = 16 << 20;

/// Pieces of a device, as a JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    schema: u32,
    target: String,
    device_size: u64,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    offset: u64,
    /// The bytes, in base64.
    bytes: String,
}

/// Why a file is not a backup of a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not JSON of this shape.
    #[error("is not a backup: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Of another schema.
    #[error("is a backup of schema {0}; this program reads schema {SCHEMA}")]
    Schema(u32),
    /// A piece is not base64.
    #[error("is not a backup: its piece at offset {0} is not base64")]
    Piece(DeviceOffset),
    /// A piece lies outside the device.
    #[error("is not a backup: its piece at offset {0} ends beyond the device of {1}")]
    Outside(DeviceOffset, Bytes),
}

impl Backup {
    /// Saves the tables and the super blocks of a device.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn of_metadata<D: ReadAt + ?Sized>(device: &D, target: &str, inspection: &Inspection) -> io::Result<Self> {
        let (lba_size, size) = (inspection.lba_size, inspection.device_size);
        let entries = inspection
            .table()
            .map_or(DEFAULT_ENTRIES, |table| table.header().entries);
        let blocks = entry_blocks(lba_size, entries).saturating_add(1);
        let tail = lba_size.bytes().checked_mul(blocks).unwrap_or_default().min(size);
        let tail_at = DeviceOffset(size.0.saturating_sub(tail.0));
        let gap = inspection.table().map(Table::gap);
        let copies = inspection
            .copies
            .iter()
            .map(|copy| DeviceRange::clamped(copy.offset, Which::Primary.range().size()));
        let mut ranges = vec![head(lba_size, entries)];
        ranges.extend(copies.filter(|copy| gap.is_none_or(|gap| gap.contains(*copy))));
        ranges.push(DeviceRange::clamped(tail_at, tail));
        Self::of_ranges(device, target, size, &ranges)
    }

    /// Saves what steps are about to overwrite.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn of_overwritten<D: ReadAt + ?Sized>(
        device: &D,
        target: &str,
        device_size: Bytes,
        steps: &[Step],
    ) -> io::Result<Self> {
        let mut ranges: Vec<DeviceRange> = Vec::new();
        for step in steps {
            if let Step::Write { offset, bytes, .. } = step {
                let range = DeviceRange::clamped(*offset, Bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX)));
                // A signature lies within the structure that it is the signature of.
                ranges.retain(|known| !range.contains(*known));
                if !ranges.iter().any(|known| known.contains(range)) {
                    ranges.push(range);
                }
            }
        }
        ranges.sort_by_key(|range| range.base());
        Self::of_ranges(device, target, device_size, &ranges)
    }

    fn of_ranges<D: ReadAt + ?Sized>(
        device: &D,
        target: &str,
        device_size: Bytes,
        ranges: &[DeviceRange],
    ) -> io::Result<Self> {
        let device_end = DeviceRange::clamped(DeviceOffset(0), device_size);
        let mut pieces = Vec::new();
        for range in ranges.iter().filter(|range| device_end.contains(**range)) {
            let mut bytes = vec![0; usize::try_from(range.size().0).map_err(io::Error::other)?];
            device.read_exact_at(range.base(), &mut bytes)?;
            pieces.push(Piece {
                offset: range.base().0,
                bytes: STANDARD.encode(bytes),
            });
        }
        Ok(Self {
            schema: SCHEMA,
            target: target.to_owned(),
            device_size: device_size.0,
            pieces,
        })
    }

    /// Reads a document. Each piece lies within the device that the document describes.
    ///
    /// # Errors
    ///
    /// Why it is not a backup.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let backup: Self = serde_json::from_str(text)?;
        if backup.schema != SCHEMA {
            return Err(Error::Schema(backup.schema));
        }
        let device = DeviceRange::clamped(DeviceOffset(0), backup.device_size());
        for piece in &backup.pieces {
            let offset = DeviceOffset(piece.offset);
            let bytes = piece.decoded().ok_or(Error::Piece(offset))?;
            let size = Bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            if !DeviceRange::new(offset, size).is_some_and(|range| device.contains(range)) {
                return Err(Error::Outside(offset, backup.device_size()));
            }
        }
        Ok(backup)
    }

    /// Returns the size of the device that was saved.
    pub fn device_size(&self) -> Bytes {
        Bytes(self.device_size)
    }

    /// Returns the pieces: where each was, and its bytes.
    pub fn pieces(&self) -> impl Iterator<Item = (DeviceOffset, Vec<u8>)> {
        self.pieces
            .iter()
            .map(|piece| (DeviceOffset(piece.offset), piece.decoded().unwrap_or_default()))
    }
}

impl Piece {
    fn decoded(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.bytes).ok()
    }
}
