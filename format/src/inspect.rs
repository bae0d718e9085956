//! From a device's bytes to its state: the one place where the partition table and the super blocks are judged together.
//!
//! Reading never writes, and failing closed is always right: what is not beyond doubt is not prepared.

mod claim;
mod finding;
mod search;
mod tables;

pub use claim::Claim;
pub use finding::Finding;
pub use search::{Found, copies_in_gap};

use crate::copies::{self, Belief, Reading, Status};
use crate::mbr::{BlockZero, Foreign};
use crate::read::ReadAt;
use crate::superblock::{COPY, COPY_SIZE, NotACopy, SuperBlock, Which};
use crate::table::{self, Table};
use crate::units::{Bytes, DeviceOffset, DeviceRange, LbaSize};
use std::io;
use tables::Tables;

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
    /// Returns the word that documents use.
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
    /// Its state.
    pub status: Status,
    /// What was read.
    pub reading: Reading,
    /// The device's words, if it could not be read.
    pub error: Option<io::Error>,
    page: Option<Box<[u8; COPY_SIZE]>>,
}

impl CopyReport {
    /// Returns the bytes as they stand there, if they have a copy's signature.
    pub fn page(&self) -> Option<&[u8; COPY_SIZE]> {
        self.page.as_deref()
    }

    /// Takes the page at `offset` for this copy.
    fn found(&mut self, page: &[u8; COPY_SIZE], offset: DeviceOffset, reading: Reading) {
        self.offset = offset;
        self.reading = reading;
        self.error = None;
        self.page = (reading != Reading::Missing).then(|| Box::new(*page));
    }
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
    /// What stands in block 0.
    pub block_0: io::Result<BlockZero>,
    /// The table at the start of the device.
    pub primary_table: Result<Table, table::NotATable>,
    /// The table at its end.
    pub backup_table: Result<Table, table::NotATable>,
    /// The copies of the super block, primary first.
    pub copies: [CopyReport; 2],
    /// What the two copies say together.
    pub verdict: Belief,
    superblock: Option<SuperBlock>,
}

impl Inspection {
    /// Returns the table in use: the primary one if it is valid, otherwise the backup.
    pub fn table(&self) -> Option<&Table> {
        self.primary_table.as_ref().ok().or(self.backup_table.as_ref().ok())
    }

    /// Returns the super block in use and the table it belongs to, of a device that is prepared or degraded.
    pub fn reservation(&self) -> Option<(&SuperBlock, &Table)> {
        self.superblock.as_ref().zip(self.table())
    }

    /// Returns the report on one copy.
    pub fn copy(&self, which: Which) -> &CopyReport {
        let [primary, backup] = &self.copies;
        match which {
            Which::Primary => primary,
            Which::Backup => backup,
        }
    }

    /// Returns the features of valid copies that forbid this program to write; zero if it may.
    pub fn unknown_read_only_features(&self) -> u64 {
        let masks = self.copies.iter().map(|copy| match copy.reading {
            Reading::Valid(superblock) | Reading::Ambiguous(superblock) => superblock.unknown_read_only_features(),
            Reading::IoError | Reading::Missing | Reading::Corrupt(_) | Reading::Foreign(_) => 0,
        });
        masks.fold(0, |all, mask| all | mask)
    }

    /// Returns the findings as one sentence after another.
    pub fn reasons(&self) -> String {
        self.findings
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }
}

/// Reads a device's tables and super blocks and judges them.
///
/// `lba_size` is the block size of the device itself. For an image it is `None`: then the block size that a table was found with counts,
/// or 512 bytes if there is no table.
///
/// # Errors
///
/// Only if the size of the device cannot be found out. A part that cannot be read is a [`Finding`].
pub fn inspect<D: ReadAt + ?Sized>(device: &D, lba_size: Option<LbaSize>) -> io::Result<Inspection> {
    let device_size = device.size()?;
    let tables = match lba_size {
        Some(lba_size) => Tables::read(device, device_size, lba_size),
        None => Tables::find(device, device_size),
    };
    let table = tables.in_use();
    let mut copies = Which::BOTH.map(|which| read_copy(device, device_size, table, which));
    if let Some(table) = table
        && !copies.iter().any(|copy| matches!(copy.reading, Reading::Valid(_)))
    {
        search::fill_in(device, table, &mut copies);
    }
    let [primary, backup] = &mut copies;
    let same_content = primary
        .page()
        .zip(backup.page())
        .is_some_and(|(one, other)| same_content(one, other));
    let verdict = copies::judge(primary.reading, backup.reading, same_content);
    for copy in [primary, backup] {
        copy.status = copies::status(copy.which, copy.reading, verdict);
    }

    let mut findings = Vec::new();
    if table.is_some() {
        finding::of_block_0(&mut findings, &tables.block_0);
    }
    let last = table::last_lba(tables.lba_size, device_size);
    finding::of_tables(&mut findings, &tables.primary, &tables.backup, last);
    finding::of_copies(&mut findings, &copies, verdict, table.is_some());
    let (state, superblock) = judge(&mut findings, device, &tables, &copies, verdict, device_size);
    Ok(Inspection {
        device_size,
        lba_size: tables.lba_size,
        state,
        findings,
        block_0: tables.block_0,
        primary_table: tables.primary,
        backup_table: tables.backup,
        copies,
        verdict,
        superblock,
    })
}

fn judge<D: ReadAt + ?Sized>(
    findings: &mut Vec<Finding>,
    device: &D,
    tables: &Tables,
    copies: &[CopyReport; 2],
    verdict: Belief,
    device_size: Bytes,
) -> (State, Option<SuperBlock>) {
    let Some(table) = tables.in_use() else {
        // Without any table a super block is either what is left of an interrupted first write, before which there was no
        // reservation, or all that is left of one. A trace of a table tells the second from the first.
        let table_lost = [&tables.primary, &tables.backup]
            .iter()
            .any(|table| table.as_ref().is_err_and(table::NotATable::is_damage));
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
        Belief::Agree(superblock) | Belief::One(_, superblock) => superblock,
        Belief::Conflict | Belief::Lost => return (State::Damaged, None),
        Belief::Foreign(_) | Belief::None => return (State::Unprepared, None),
    };
    let mut flaws = finding::of_reservation(&superblock, table, copies, device_size, &tables.block_0);
    flaws.extend(claim_of(device, tables).map(Finding::Claimed));
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

/// Returns what claims the device beside its tables: something in the place of the protective MBR, or, where the backup table is all that
/// is left, something at the start.
fn claim_of<D: ReadAt + ?Sized>(device: &D, tables: &Tables) -> Option<Claim> {
    let at_0 = match tables.block_0 {
        Ok(BlockZero::Foreign(Foreign::Partitions)) => Some(Claim {
            what: "a partition table in the MBR",
            at: DeviceOffset(0),
        }),
        Ok(BlockZero::Foreign(Foreign::Bytes(at))) => Some(claim::in_block_0(device, tables.lba_size, at)),
        Ok(BlockZero::Protective { .. } | BlockZero::Lost) | Err(_) => None,
    };
    match (&tables.primary, &tables.backup) {
        (Err(_), Ok(backup)) => at_0.or_else(|| claim::of_start(device, backup)),
        _ => at_0,
    }
}

/// Returns whether two copies say the same: all their bytes are equal except for those that name the copy itself: signature, checksum,
/// copy number and own offset.
fn same_content(one: &[u8; COPY_SIZE], other: &[u8; COPY_SIZE]) -> bool {
    [8..16, 24..56, 64..COPY_SIZE]
        .into_iter()
        .all(|range| one.get(range.clone()) == other.get(range))
}

/// Reads the copy at its fixed place. Bytes inside a partition or a table never count as a copy: their owner could forge it.
fn read_copy<D: ReadAt + ?Sized>(device: &D, device_size: Bytes, table: Option<&Table>, which: Which) -> CopyReport {
    let room = table.map_or(
        DeviceRange::clamped(DeviceOffset(0), device_size),
        Table::before_partitions,
    );
    let mut report = CopyReport {
        which,
        offset: which.offset(),
        status: Status::Missing,
        reading: Reading::Missing,
        error: None,
        page: None,
    };
    if !room.contains(which.range()) {
        return report;
    }
    let mut bytes = [0; COPY_SIZE];
    match device.read_exact_at(which.offset(), &mut bytes) {
        Ok(()) => report.found(&bytes, which.offset(), reading(&bytes, which, which.offset(), table)),
        Err(error) => {
            report.reading = Reading::IoError;
            report.error = Some(error);
        }
    }
    report
}

/// Returns what the bytes at `offset` are, as copy `which` of the super block that belongs to `table`.
fn reading(bytes: &[u8; COPY_SIZE], which: Which, offset: DeviceOffset, table: Option<&Table>) -> Reading {
    match SuperBlock::decode(bytes, offset) {
        Err(NotACopy::NoSignature) => Reading::Missing,
        Err(invalid) => Reading::Corrupt(invalid),
        // The other copy's signature at this place: its own offset, checked before, says that it was written for here.
        Ok((found, _)) if found != which => Reading::Corrupt(NotACopy::NoSignature),
        Ok((_, superblock)) if table.is_some_and(|table| table.disk_guid() == superblock.disk_guid) => {
            Reading::Valid(superblock)
        }
        Ok((_, superblock)) => Reading::Foreign(superblock),
    }
}

/// Returns the ranges that nothing reserved may touch: the copies as they were found.
fn copy_ranges(copies: &[CopyReport; 2]) -> impl Iterator<Item = DeviceRange> + '_ {
    copies.iter().map(|copy| DeviceRange::clamped(copy.offset, COPY))
}

#[cfg(test)]
mod tests;
