//! From a device's bytes to its state: the one place where the partition table and the super blocks are judged together.
//!
//! Reading never writes, and failing closed is always right: what is not beyond doubt is not prepared.

mod finding;
mod search;

pub use finding::Finding;
pub use search::{Found, copies_in_gap};

use crate::copies::{self, Reading, Status, Verdict};
use crate::read::ReadAt;
use crate::superblock::{COPY, COPY_SIZE, Invalid, SuperBlock, Which};
use crate::table::{self, Place, Table};
use crate::units::{Bytes, DeviceOffset, DeviceRange, Lba, LbaSize};
use std::io;

/// What a device is, as far as Xen is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Both tables and both super blocks are there and agree.
    Prepared,
    /// The reservation is beyond doubt, but something that protects it is not as it should be: repair it.
    Degraded,
    /// There is a reservation, and it cannot be trusted.
    Damaged,
    /// There is none.
    Unprepared,
}

impl State {
    /// The word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Degraded => "degraded",
            Self::Damaged => "damaged",
            Self::Unprepared => "unprepared",
        }
    }
}

/// What is known of one copy of the super block.
#[derive(Debug)]
pub struct CopyReport {
    /// Which copy.
    pub which: Which,
    /// Where it was looked for, or found.
    pub offset: DeviceOffset,
    /// What became of it.
    pub status: Status,
    /// What was read.
    pub reading: Reading,
    /// The device's words, if it could not be read.
    pub error: Option<io::Error>,
}

/// All that a device's bytes say.
#[derive(Debug)]
pub struct Inspection {
    /// The bytes of the device.
    pub device_size: Bytes,
    /// The block size of its partition table, or that a new one would have.
    pub lba_size: LbaSize,
    /// What it is.
    pub state: State,
    /// Why, and what else is noteworthy; empty if all is as it should be.
    pub findings: Vec<Finding>,
    /// The table at the start of the device.
    pub primary_table: Result<Table, table::Invalid>,
    /// The table at its end.
    pub backup_table: Result<Table, table::Invalid>,
    /// The copies of the super block, primary first.
    pub copies: [CopyReport; 2],
    superblock: Option<SuperBlock>,
}

impl Inspection {
    /// The table in use: the primary one if it is valid, otherwise the backup.
    pub fn table(&self) -> Option<&Table> {
        in_use(&self.primary_table, &self.backup_table)
    }

    /// The super block in use and the table it belongs to, of a device that is prepared or degraded.
    pub fn reservation(&self) -> Option<(&SuperBlock, &Table)> {
        self.superblock.as_ref().zip(self.table())
    }

    /// The report on one copy.
    pub fn copy(&self, which: Which) -> &CopyReport {
        let [primary, backup] = &self.copies;
        match which {
            Which::Primary => primary,
            Which::Backup => backup,
        }
    }

    /// The findings as one sentence after another.
    pub fn reasons(&self) -> String {
        self.findings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

fn in_use<'t>(
    primary: &'t Result<Table, table::Invalid>,
    backup: &'t Result<Table, table::Invalid>,
) -> Option<&'t Table> {
    primary.as_ref().ok().or(backup.as_ref().ok())
}

/// Reads a device's tables and super blocks and judges them.
///
/// `lba_size` is the block size that the device itself has; without it (an image) it is found by looking for the table, and taken
/// as 512 bytes if there is none.
///
/// # Errors
///
/// Only if the size of the device cannot be told. A part that cannot be read is a [`Finding`].
pub fn inspect<D: ReadAt + ?Sized>(device: &D, lba_size: Option<LbaSize>) -> io::Result<Inspection> {
    let device_size = device.size()?;
    let lba_size = lba_size
        .or_else(|| table::detect_lba_size(device, device_size))
        .unwrap_or(LbaSize::B512);
    let primary_table = Table::read(device, device_size, lba_size, Place::Primary, Lba(1));
    let last = table::last_lba(lba_size, device_size);
    let backup_at = primary_table.as_ref().ok().map(Table::other_header).or(last);
    let backup_table = backup_at.map_or(Err(table::Invalid::NoSignature), |at| {
        Table::read(device, device_size, lba_size, Place::Backup, at)
    });

    let table = in_use(&primary_table, &backup_table);
    let mut copies = Which::BOTH.map(|which| read_copy(device, device_size, table, which));
    if let Some(table) = table
        && !copies.iter().any(|copy| matches!(copy.reading, Reading::Valid(_)))
    {
        search::fill_in(device, table, &mut copies);
    }
    let [primary, backup] = &mut copies;
    let verdict = copies::judge(primary.reading, backup.reading);
    for copy in [primary, backup] {
        copy.status = copies::status(copy.which, copy.reading, verdict);
    }

    let mut findings = Vec::new();
    finding::of_tables(&mut findings, &primary_table, &backup_table, last);
    finding::of_copies(&mut findings, &copies, verdict, table.is_some());
    let (state, superblock) = judge(
        &mut findings,
        &primary_table,
        &backup_table,
        &copies,
        verdict,
        device_size,
    );
    Ok(Inspection {
        device_size,
        lba_size,
        state,
        findings,
        primary_table,
        backup_table,
        copies,
        superblock,
    })
}

fn judge(
    findings: &mut Vec<Finding>,
    primary_table: &Result<Table, table::Invalid>,
    backup_table: &Result<Table, table::Invalid>,
    copies: &[CopyReport; 2],
    verdict: Verdict,
    device_size: Bytes,
) -> (State, Option<SuperBlock>) {
    let Some(table) = in_use(primary_table, backup_table) else {
        // Without any table a super block is either what is left of an interrupted first write, before which there was no
        // reservation, or all that is left of one. A trace of a table tells the second from the first.
        let table_lost = [primary_table, backup_table]
            .iter()
            .any(|table| table.as_ref().is_err_and(table::Invalid::is_damage));
        let copy_there = copies
            .iter()
            .any(|copy| matches!(copy.reading, Reading::Foreign(_) | Reading::Corrupt(_)));
        let state = if table_lost && copy_there {
            State::Damaged
        } else {
            State::Unprepared
        };
        return (state, None);
    };
    let superblock = match verdict {
        Verdict::Agree(superblock) | Verdict::One(_, superblock) => superblock,
        Verdict::Conflict | Verdict::Lost => return (State::Damaged, None),
        Verdict::Foreign(_) | Verdict::None => return (State::Unprepared, None),
    };
    let flaws = finding::of_reservation(&superblock, table, copies, device_size);
    if !flaws.is_empty() {
        findings.extend(flaws);
        return (State::Damaged, None);
    }
    finding::of_protection(findings, &superblock, table);
    let state = if findings.is_empty() {
        State::Prepared
    } else {
        State::Degraded
    };
    (state, Some(superblock))
}

/// Reads the copy at its fixed place. Bytes inside a partition, or a table, are never taken for one: whoever owns them could
/// forge it.
fn read_copy<D: ReadAt + ?Sized>(device: &D, device_size: Bytes, table: Option<&Table>, which: Which) -> CopyReport {
    let room = table.map_or(DeviceRange::clamped(DeviceOffset(0), device_size), Table::gap);
    let mut report = CopyReport {
        which,
        offset: which.offset(),
        status: Status::Missing,
        reading: Reading::Missing,
        error: None,
    };
    if !room.contains(which.range()) {
        return report;
    }
    let mut bytes = [0; COPY_SIZE];
    match device.read_exact_at(which.offset(), &mut bytes) {
        Ok(()) => report.reading = reading(&bytes, which, which.offset(), table),
        Err(error) => {
            report.reading = Reading::IoError;
            report.error = Some(error);
        }
    }
    report
}

/// What the bytes at `offset` are, as copy `which` of the super block that belongs to `table`.
fn reading(bytes: &[u8; COPY_SIZE], which: Which, offset: DeviceOffset, table: Option<&Table>) -> Reading {
    match SuperBlock::decode(bytes, offset) {
        Err(Invalid::NoSignature) => Reading::Missing,
        Err(invalid) => Reading::Corrupt(invalid),
        // The other copy's signature at this place: its own offset, checked before, says that it was written for here.
        Ok((found, _)) if found != which => Reading::Corrupt(Invalid::NoSignature),
        Ok((_, superblock)) if table.is_some_and(|table| table.disk_guid() == superblock.disk_guid) => {
            Reading::Valid(superblock)
        }
        Ok((_, superblock)) => Reading::Foreign(superblock),
    }
}

/// The ranges that nothing reserved may touch: the copies as they were found.
fn copy_ranges(copies: &[CopyReport; 2]) -> impl Iterator<Item = DeviceRange> + '_ {
    copies.iter().map(|copy| DeviceRange::clamped(copy.offset, COPY))
}

#[cfg(test)]
mod tests;
