//! What an inspection can find, in words for people.

use super::claim::Claim;
use super::{CopyReport, copy_ranges};
use crate::copies::{Belief, Reading, Status};
use crate::mbr::BlockZero;
use crate::superblock::{SuperBlock, Which};
use crate::table::{self, Place, Table};
use crate::units::{Bytes, DeviceOffset, DeviceRange, Lba};
use std::io;
use uuid::Uuid;

/// A fault of the device, or the reason why there is no reservation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Finding {
    /// Neither place holds a valid table.
    #[error("there is no GUID partition table (primary: {primary}; backup: {backup})")]
    NoTable {
        /// What is wrong with the primary one.
        primary: String,
        /// What is wrong with the backup.
        backup: String,
    },
    /// There is no protective MBR.
    #[error("the protective MBR is {reason}: Linux does not look for a GPT and finds no partitions")]
    ProtectiveMbr {
        /// Its state as a word, and the reason.
        reason: String,
    },
    /// One of the tables is not valid.
    #[error("the {place} GPT is not valid ({reason}): {other}", other = others_part(*.place))]
    Table {
        /// Which one.
        place: Place,
        /// What is wrong with it.
        reason: String,
    },
    /// The tables differ.
    #[error("the primary and the backup GPT differ: the primary one is in use")]
    TablesDiffer,
    /// The backup table is not at the end.
    #[error("the backup GPT is at {at}, not in the device's last block, {last}")]
    BackupTableNotAtEnd {
        /// Where it is.
        at: Lba,
        /// Where it belongs.
        last: Lba,
    },
    /// One copy of the super block is not what it should be.
    #[error("the {which} super block at offset {offset} is {}{detail}", .status.as_str())]
    Copy {
        /// Which one.
        which: Which,
        /// Where it was looked for.
        offset: DeviceOffset,
        /// What it is.
        status: Status,
        /// Why, with a leading separator; may be empty.
        detail: String,
    },
    /// A copy stands away from its fixed place.
    #[error("the {which} super block was found at offset {offset}, not at its fixed place")]
    CopyElsewhere {
        /// Which one.
        which: Which,
        /// Where it was found.
        offset: DeviceOffset,
    },
    /// Two valid copies contradict each other.
    #[error("both super blocks are valid and have the same sequence number, but differ: neither can be trusted")]
    Conflict,
    /// Several valid copies of one kind contradict each other.
    #[error(
        "several {which} super blocks away from their fixed place have the same sequence number, but differ: none is believed"
    )]
    Ambiguous {
        /// Which kind.
        which: Which,
    },
    /// Copies that belong to another partition table.
    #[error(
        "the super block of reservation {uuid} belongs to the partition table {disk_guid}, which is not on this device any more"
    )]
    Foreign {
        /// The reservation.
        uuid: Uuid,
        /// The table that it names.
        disk_guid: Uuid,
    },
    /// There is a table and no super block.
    #[error("there is no super block between the partition table and the first partition")]
    NoSuperBlock,
    /// Written for a device of another size.
    #[error("the super block was written for a device of {says}, this one has {is}")]
    DeviceSize {
        /// What the super block says.
        says: Bytes,
        /// What the device has.
        is: Bytes,
    },
    /// Something other than a partition table claims the device.
    #[error("something else claims the device: {0}")]
    Claimed(Claim),
    /// A record of a hybrid MBR claims bytes of the reservation.
    #[error("a partition of the hybrid MBR, {claims}, overlaps the reservation: other systems may write to it")]
    HybridMbr {
        /// The bytes that the MBR gives to a partition.
        claims: DeviceRange,
    },
    /// The primary table's entries lie behind a copy's place.
    #[error(
        "the entries of the primary GPT, {entries}, do not lie before the super blocks: whoever changes a partition writes there"
    )]
    EntriesMoved {
        /// Where they are.
        entries: DeviceRange,
    },
    /// The reserved area is not in the gap between the table and the first partition.
    #[error("the reserved area {reserved} does not lie between the partition table and the first partition, in {gap}")]
    ReservedOutsideGap {
        /// The reserved area.
        reserved: DeviceRange,
        /// The gap.
        gap: DeviceRange,
    },
    /// The reserved area covers a copy of the super block.
    #[error("the reserved area {reserved} covers a copy of the super block")]
    ReservedCoversCopy {
        /// The reserved area.
        reserved: DeviceRange,
    },
    /// Nothing keeps other tools from placing a partition on the reserved area.
    #[error(
        "the partition table's first usable block at {first_usable} does not lie past the reserved area's end at {reserved_end}: another tool could place a partition there"
    )]
    Unprotected {
        /// The first usable block's offset.
        first_usable: DeviceOffset,
        /// Where the reserved area ends.
        reserved_end: DeviceOffset,
    },
}

/// Gives each kind of finding its words: [`Finding::kind`] and the list of them all. A kind without words does not compile.
macro_rules! kinds {
    ($($pattern:pat => $words:literal,)*) => {
        impl Finding {
            /// The words of all kinds.
            pub const KINDS: &[&str] = &[$($words),*];

            /// Returns what kind of finding it is, in words from [`Self::KINDS`].
            pub const fn kind(&self) -> &'static str {
                match self {
                    $($pattern => $words,)*
                }
            }
        }
    };
}

kinds! {
    Self::NoTable { .. } => "no table",
    Self::ProtectiveMbr { .. } => "protective MBR",
    Self::Table { .. } => "table",
    Self::TablesDiffer => "tables differ",
    Self::BackupTableNotAtEnd { .. } => "backup table not at the end",
    Self::Copy { .. } => "copy",
    Self::CopyElsewhere { .. } => "copy elsewhere",
    Self::Conflict => "conflict",
    Self::Ambiguous { .. } => "ambiguous copies",
    Self::Foreign { .. } => "foreign copies",
    Self::NoSuperBlock => "no super block",
    Self::DeviceSize { .. } => "device size",
    Self::Claimed(_) => "claimed",
    Self::HybridMbr { .. } => "hybrid MBR",
    Self::EntriesMoved { .. } => "entries moved",
    Self::ReservedOutsideGap { .. } => "reserved area outside the gap",
    Self::ReservedCoversCopy { .. } => "reserved area over a copy",
    Self::Unprotected { .. } => "unprotected",
}

/// Returns what an invalid table means for those who look for partitions. Linux uses the backup only with `gpt` on its command line.
fn others_part(invalid: Place) -> &'static str {
    match invalid {
        Place::Primary => "only the backup says where the partitions are, and Linux does not look there by itself",
        Place::Backup => "the primary one is in use",
    }
}

/// Adds what is wrong with the protective MBR in front of a valid table. If something else stands in its place, that is more than a
/// finding: see [`of_reservation`].
pub(super) fn of_block_0(findings: &mut Vec<Finding>, block_0: &io::Result<BlockZero>) {
    let reason = match block_0 {
        Ok(BlockZero::Lost) => "missing".to_owned(),
        Err(error) => format!("not readable ({error})"),
        Ok(BlockZero::Protective { .. } | BlockZero::Foreign(_)) => return,
    };
    findings.push(Finding::ProtectiveMbr { reason });
}

pub(super) fn of_tables(
    findings: &mut Vec<Finding>,
    primary: &Result<Table, table::NotATable>,
    backup: &Result<Table, table::NotATable>,
    last: Option<Lba>,
) {
    match (primary, backup) {
        (Ok(primary), Ok(backup)) => {
            if !primary.agrees_with(backup) {
                findings.push(Finding::TablesDiffer);
            }
        }
        (Ok(_), Err(reason)) => findings.push(Finding::Table {
            place: Place::Backup,
            reason: reason.to_string(),
        }),
        (Err(reason), Ok(_)) => findings.push(Finding::Table {
            place: Place::Primary,
            reason: reason.to_string(),
        }),
        (Err(primary), Err(backup)) => {
            findings.push(Finding::NoTable {
                primary: primary.to_string(),
                backup: backup.to_string(),
            });
        }
    }
    if let (Ok(primary), Some(last)) = (primary, last)
        && primary.other_header() != last
    {
        findings.push(Finding::BackupTableNotAtEnd {
            at: primary.other_header(),
            last,
        });
    }
}

pub(super) fn of_copies(findings: &mut Vec<Finding>, copies: &[CopyReport; 2], verdict: Belief, table_there: bool) {
    match verdict {
        Belief::None => {
            if table_there {
                findings.push(Finding::NoSuperBlock);
            }
            return;
        }
        Belief::Foreign(superblock) => {
            findings.push(Finding::Foreign {
                uuid: superblock.uuid,
                disk_guid: superblock.disk_guid,
            });
            return;
        }
        Belief::Conflict => {
            let ambiguous = copies.iter().find(|copy| matches!(copy.reading, Reading::Ambiguous(_)));
            findings.push(match ambiguous {
                Some(copy) => Finding::Ambiguous { which: copy.which },
                None => Finding::Conflict,
            });
            return;
        }
        Belief::Agree(_) | Belief::One(..) | Belief::Lost => {}
    }
    for copy in copies {
        let CopyReport {
            which, offset, status, ..
        } = *copy;
        if status != Status::Valid {
            findings.push(Finding::Copy {
                which,
                offset,
                status,
                detail: detail(copy),
            });
        } else if offset != which.offset() {
            findings.push(Finding::CopyElsewhere { which, offset });
        }
    }
}

fn detail(copy: &CopyReport) -> String {
    match (&copy.reading, &copy.error) {
        (_, Some(error)) => format!(": {error}"),
        (Reading::Corrupt(invalid), None) => format!(": {invalid}"),
        (Reading::Foreign(superblock), None) => format!(": it belongs to partition table {}", superblock.disk_guid),
        (Reading::Valid(superblock) | Reading::Ambiguous(superblock), None) => {
            format!(": its sequence number is only {}", superblock.sequence)
        }
        (Reading::Missing | Reading::IoError, None) => String::new(),
    }
}

/// Adds why a valid super block must not be believed on this device.
pub(super) fn of_reservation(
    superblock: &SuperBlock,
    table: &Table,
    copies: &[CopyReport; 2],
    device_size: Bytes,
    block_0: &io::Result<BlockZero>,
) -> Vec<Finding> {
    let mut flaws = Vec::new();
    let reserved = superblock.reserved;
    if let Ok(BlockZero::Protective { others }) = block_0 {
        let ours =
            |claims: DeviceRange| claims.overlaps(reserved) || copy_ranges(copies).any(|copy| claims.overlaps(copy));
        flaws.extend(
            others
                .iter()
                .filter(|claims| ours(**claims))
                .map(|claims| Finding::HybridMbr { claims: *claims }),
        );
    }
    if superblock.device_size != device_size {
        flaws.push(Finding::DeviceSize {
            says: superblock.device_size,
            is: device_size,
        });
    }
    let gap = table.gap();
    if gap.base() > Which::Primary.offset() {
        flaws.push(Finding::EntriesMoved {
            entries: table.entries_at(),
        });
    } else if !gap.contains(reserved) {
        flaws.push(Finding::ReservedOutsideGap { reserved, gap });
    }
    if copy_ranges(copies).any(|copy| copy.overlaps(reserved)) {
        flaws.push(Finding::ReservedCoversCopy { reserved });
    }
    flaws
}

/// Adds what protection a valid reservation lacks.
pub(super) fn of_protection(findings: &mut Vec<Finding>, superblock: &SuperBlock, table: &Table) {
    let first_usable = table.usable().base();
    let reserved_end = superblock.reserved.end();
    if first_usable < reserved_end {
        findings.push(Finding::Unprotected {
            first_usable,
            reserved_end,
        });
    }
}
