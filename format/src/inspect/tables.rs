//! Block 0 and the two tables of a device, and the block size that an image must have for them.

use crate::mbr::BlockZero;
use crate::read::ReadAt;
use crate::table::{self, Place, Table, last_lba, read_block};
use crate::units::{Bytes, DeviceOffset, Lba, LbaSize};
use std::io;

/// What stands at both ends of a device.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) lba_size: LbaSize,
    pub(super) block_0: io::Result<BlockZero>,
    pub(super) primary: Result<Table, table::NotATable>,
    pub(super) backup: Result<Table, table::NotATable>,
}

impl Tables {
    /// Reads them with blocks of `lba_size`.
    pub(super) fn read<D: ReadAt + ?Sized>(device: &D, device_size: Bytes, lba_size: LbaSize) -> Self {
        let (block_0, primary) = start(device, device_size, lba_size);
        let backup = backup(device, device_size, lba_size, &primary);
        Self {
            lba_size,
            block_0,
            primary,
            backup,
        }
    }

    /// Reads them with the block size for which there is a valid table, a primary one above all; without any, the one for which
    /// there is the signature of a header; without that, 512 bytes.
    pub(super) fn find<D: ReadAt + ?Sized>(device: &D, device_size: Bytes) -> Self {
        let small = Self::read(device, device_size, LbaSize::B512);
        if small.primary.is_ok() {
            return small;
        }
        let large = Self::read(device, device_size, LbaSize::B4096);
        let criteria: [fn(&Self) -> bool; 4] = [
            |tables| tables.primary.is_ok(),
            |tables| tables.backup.is_ok(),
            |tables| has_signature(&tables.primary),
            |tables| has_signature(&tables.backup),
        ];
        for criterion in criteria {
            match (criterion(&small), criterion(&large)) {
                (true, _) => return small,
                (false, true) => return large,
                (false, false) => {}
            }
        }
        small
    }

    /// Returns the table in use: the primary one if it is valid, otherwise the backup.
    pub(super) fn in_use(&self) -> Option<&Table> {
        self.primary.as_ref().ok().or(self.backup.as_ref().ok())
    }
}

fn has_signature(table: &Result<Table, table::NotATable>) -> bool {
    table.as_ref().is_err_and(table::NotATable::has_signature)
}

/// Reads block 0 and the primary table, whose header follows it: with one read if both can be read.
fn start<D: ReadAt + ?Sized>(
    device: &D,
    device_size: Bytes,
    lba_size: LbaSize,
) -> (io::Result<BlockZero>, Result<Table, table::NotATable>) {
    let size = usize::try_from(lba_size.bytes().0).unwrap_or(0);
    let mut both = vec![0; size.saturating_mul(2)];
    let table = |block: &[u8]| Table::of_block(device, device_size, lba_size, Place::Primary, Lba(1), block);
    if device.read_exact_at(DeviceOffset(0), &mut both).is_ok()
        && let Some((block_0, header)) = both.split_at_checked(size)
    {
        return (Ok(BlockZero::of(block_0, lba_size)), table(header));
    }
    let block_0 = match read_block(device, device_size, lba_size, Lba(0)) {
        Ok(block) => Ok(BlockZero::of(&block, lba_size)),
        Err(table::NotATable::Io(error)) => Err(error),
        // The device is smaller than a block.
        Err(_) => Ok(BlockZero::Lost),
    };
    let primary = read_block(device, device_size, lba_size, Lba(1)).and_then(|header| table(&header));
    (block_0, primary)
}

/// Returns the backup table: where a valid primary header says that it is, otherwise in the last block.
fn backup<D: ReadAt + ?Sized>(
    device: &D,
    device_size: Bytes,
    lba_size: LbaSize,
    primary: &Result<Table, table::NotATable>,
) -> Result<Table, table::NotATable> {
    let says = primary.as_ref().ok().map(Table::other_header);
    let at = says
        .or(last_lba(lba_size, device_size))
        .ok_or(table::NotATable::NoSignature)?;
    Table::read(device, device_size, lba_size, Place::Backup, at)
}
