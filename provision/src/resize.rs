//! The plan that makes the reserved area larger or smaller, within the gap before the first partition.

use crate::commit::{self, Content};
use crate::geometry::Geometry;
use crate::gpt::{Tables, Unfit, block_0};
use crate::init::creator;
use crate::plan::{self, Before, Refusal};
use crate::promise::Promise;
use std::io;
use xen_pmem_format::inspect::State;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::sizing;
use xen_pmem_format::superblock::{SuperBlock, UnixTime};
use xen_pmem_format::units::{Bytes, DeviceRange, SUPERPAGE};

/// The plan, and its result.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The super block to be.
    pub superblock: SuperBlock,
    /// The plan; without steps if the area has that size already.
    pub plan: plan::Plan,
}

/// Why the area keeps its size.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no reservation.
    #[error("there is no reservation to resize: {0}")]
    Nothing(String),
    /// Something else must be put right first.
    #[error("it is {state}: {reasons}; `xen-pmem-provision verify` says what can be done first", state = .state.as_str())]
    NotWhole {
        /// What it is.
        state: State,
        /// Why.
        reasons: String,
    },
    /// No sequence number is left.
    #[error(
        "the super block's sequence number is {max}, the last that there is: no change can follow it",
        max = u64::MAX
    )]
    SequenceEnd,
    /// The table does not fit the device.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// What is there must not be changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Less was asked for than Xen needs.
    #[error("{asked} is too small: Xen needs {need} here")]
    TooSmall {
        /// What was asked for.
        asked: Bytes,
        /// What is needed.
        need: Bytes,
    },
    /// More was asked for than there is.
    #[error("{asked} does not fit between the partition table and the first partition: at most {most} fits")]
    TooLarge {
        /// What was asked for.
        asked: Bytes,
        /// What fits.
        most: Bytes,
    },
    /// A sum does not fit in 64 bits.
    #[error("a size is beyond what 64 bits can hold")]
    Overflow,
    /// The steps cannot be made.
    #[error(transparent)]
    Commit(#[from] commit::Error),
}

/// Plans the change. Reads the device and writes nothing.
///
/// The super block's sequence number makes the change atomic. The partition table's first usable block moves before the area grows and
/// after it shrinks, so that it never lies within the area.
///
/// # Errors
///
/// Why the area cannot have that size.
pub fn plan<D: ReadAt + ?Sized>(
    before: &Before<'_, D>,
    geometry: &Geometry,
    asked: Bytes,
    now: UnixTime,
) -> Result<Plan, Error> {
    let (device, inspection) = (before.device, before.inspection);
    plan::refuse_newer(inspection)?;
    let state = inspection.state;
    let (old, table) = match inspection.reservation() {
        Some(reservation) if state == State::Prepared => reservation,
        None if state == State::Unprepared => return Err(Error::Nothing(inspection.reasons())),
        _ => {
            return Err(Error::NotWhole {
                state,
                reasons: inspection.reasons(),
            });
        }
    };
    let size = asked.align_up(SUPERPAGE).ok_or(Error::Overflow)?;
    let need = sizing::need(geometry.namespace(), old.planned.entries)
        .ok_or(Error::Overflow)?
        .total;
    if size < need {
        return Err(Error::TooSmall { asked, need });
    }
    let room = DeviceRange::between(old.reserved.base(), table.gap().end())
        .ok_or(Error::Overflow)?
        .size();
    let reserved = DeviceRange::new(old.reserved.base(), size).ok_or(Error::Overflow)?;
    if size > room {
        return Err(Error::TooLarge {
            asked,
            most: room.align_down(SUPERPAGE),
        });
    }
    let block_0 = block_0(device)?;
    let first_usable = if reserved == old.reserved {
        table.usable().base()
    } else {
        reserved.end()
    };
    let tables = Tables::changed(table, inspection.device_size, first_usable, &block_0)?;
    let promise = |superblock| Promise::Prepared {
        superblock,
        partitions: tables.partitions(),
    };
    if reserved == old.reserved {
        return Ok(Plan {
            superblock: *old,
            plan: plan::Plan::nothing(promise(*old), tables.shape()),
        });
    }
    let superblock = SuperBlock {
        sequence: old.sequence.checked_add(1).ok_or(Error::SequenceEnd)?,
        reserved,
        updated: now,
        creator: creator().unwrap_or(old.creator),
        ..*old
    };
    let content = Content::over(device, inspection, superblock)?;
    let tables_steps = commit::both_tables(device, inspection, &tables)?;
    let copies_steps = commit::both_copies(device, inspection, &content);
    let steps = if reserved.end() > old.reserved.end() {
        [tables_steps, copies_steps]
    } else {
        [copies_steps, tables_steps]
    };
    Ok(Plan {
        superblock,
        plan: plan::Plan {
            steps: steps.concat(),
            promise: promise(superblock),
            shape: tables.shape(),
            writable: Vec::new(),
            taken: DeviceRange::between(old.reserved.end(), reserved.end())
                .into_iter()
                .collect(),
            gives_up_partitions: false,
        },
    })
}
