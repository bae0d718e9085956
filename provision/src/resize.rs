//! The plan that makes the reserved area larger or smaller, within the gap before the first partition.

use crate::commit;
use crate::geometry::Geometry;
use crate::gpt::Tables;
use crate::init::creator;
use crate::step::Step;
use xen_pmem_format::inspect::{Inspection, State};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::sizing;
use xen_pmem_format::superblock::{SuperBlock, UnixTime};
use xen_pmem_format::units::{Bytes, DeviceRange, SUPERPAGE};

/// What is to be done, and what it leads to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The super block to be.
    pub superblock: SuperBlock,
    /// What is to be done, in order; nothing if the area has that size already.
    pub steps: Vec<Step>,
}

/// Why the area keeps its size.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no reservation.
    #[error("there is no reservation to resize: {0}")]
    Nothing(String),
    /// Something else must be put right first.
    #[error("it is {state}: {reasons}; repair it first", state = .state.as_str())]
    NotWhole {
        /// What it is.
        state: State,
        /// Why.
        reasons: String,
    },
    /// The super block uses something that this program does not know.
    #[error("the super block uses features {0:#x} that this program must know to change it: use a newer version")]
    Features(u64),
    /// Less was asked for than Xen needs.
    #[error("{asked} are too little for Xen, which needs {need} here: did you intend --reserve {}M?", .need.0 >> 20)]
    TooSmall {
        /// What was asked for.
        asked: Bytes,
        /// What is needed.
        need: Bytes,
    },
    /// More was asked for than there is.
    #[error("{asked} do not fit between the partition table and the first partition: at most {most} do")]
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
    device: &D,
    geometry: &Geometry,
    inspection: &Inspection,
    asked: Bytes,
    now: UnixTime,
) -> Result<Plan, Error> {
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
    if old.unknown_read_only_features() != 0 {
        return Err(Error::Features(old.unknown_read_only_features()));
    }
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
    if reserved == old.reserved {
        return Ok(Plan {
            superblock: *old,
            steps: Vec::new(),
        });
    }
    let superblock = SuperBlock {
        sequence: old.sequence.checked_add(1).ok_or(Error::Overflow)?,
        reserved,
        updated: now,
        creator: creator().unwrap_or(old.creator),
        ..*old
    };
    let tables = Tables::with_first_usable(table, inspection.device_size, reserved.end()).ok_or(Error::Overflow)?;
    let tables = commit::both_tables(device, inspection, &tables)?;
    let copies = commit::both_copies(device, inspection, &superblock);
    let steps = if reserved.end() > old.reserved.end() {
        [tables, copies]
    } else {
        [copies, tables]
    };
    Ok(Plan {
        superblock,
        steps: steps.concat(),
    })
}
