//! A plan, and the one check that stands between it and a device.
//!
//! Every command that writes makes a [`Plan`]. Only a [`Checked`] one can be carried out, and [`Plan::check`] is the only way to one:
//! no step touches a byte that belongs to somebody else, and the device that the steps would leave is the one that the command
//! promises.

use crate::device::Device;
use crate::overlay::Overlay;
use crate::places::{self, Owned, Part, Shape, Tables, Writable};
use crate::promise::Promise;
use crate::signatures::{self, Trace, Traces};
use crate::step::{self, Failed, Step};
use std::io;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::{CopyReport, Finding, Inspection, inspect};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::{NotACopy, SuperBlock, Which};
use xen_pmem_format::table::Place;
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, LbaSize};

/// A device as it is, before anything is written.
#[derive(Debug)]
pub struct Before<'d, D: ?Sized> {
    /// Its bytes.
    pub device: &'d D,
    /// The block size that it has by itself; an image has none.
    pub own_lba_size: Option<LbaSize>,
    /// What its bytes say.
    pub inspection: &'d Inspection,
    /// Whether the user gives up what is there (`--force`).
    pub force: bool,
}

/// The steps, and the result that they must have.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What it is to lead to.
    pub promise: Promise,
    /// The shape of the tables that are written.
    pub shape: Shape,
    /// What may be written besides the tables' places and the copies' fixed places.
    pub writable: Vec<(Part, DeviceRange)>,
    /// What Xen newly gets, and what is cleared for the plan: zeros or ours, unless the user gives it up.
    pub taken: Vec<DeviceRange>,
    /// Whether the promise is a new layout, which gives up the partitions of the existing tables.
    pub gives_up_partitions: bool,
}

/// A plan that was checked: it writes only to bytes that it may write to, and keeps its promise.
#[derive(Clone, Debug)]
pub struct Checked {
    steps: Vec<Step>,
    promise: Promise,
    given_up: Traces,
}

/// Why a plan is not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A newer version of this program has been here.
    #[error(
        "the {which} super block at offset {offset} was written by a newer version of this program ({why}): this version must not change anything here"
    )]
    Newer {
        /// Which copy.
        which: Which,
        /// Where it stands.
        offset: DeviceOffset,
        /// What is not known.
        why: String,
    },
    /// Another tool has been here.
    #[error("there is {0}")]
    Foreign(Traces),
    /// Something unknown lies where it would be overwritten, by the plan or by Xen.
    #[error("there is {0}, where only zeros are free")]
    Occupied(Trace),
    /// A write would fall into a partition.
    #[error(
        "{what} would be written over partition {number} of the {table} partition table, which has the bytes {partition}"
    )]
    Partition {
        /// What would be written.
        what: String,
        /// The partition's number.
        number: u32,
        /// The partition's bytes.
        partition: DeviceRange,
        /// The table that has it.
        table: Place,
    },
    /// A write would fall onto a partition table.
    #[error("{what} would be written over the {table} partition table, which has the bytes {range}")]
    Table {
        /// What would be written.
        what: String,
        /// Which table.
        table: Place,
        /// The table's bytes.
        range: DeviceRange,
    },
    /// A step would write outside of the places of this format.
    #[error("{what} would be written to {range}, where neither a partition table nor a super block belongs")]
    Outside {
        /// What would be written.
        what: String,
        /// Where.
        range: DeviceRange,
    },
    /// The device would not be as promised.
    #[error("the change would have the wrong result: {0}")]
    Outcome(String),
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Plan {
    /// Returns a plan without steps, for a device that is in the right state already.
    pub fn nothing(promise: Promise, shape: Shape) -> Self {
        Self {
            steps: Vec::new(),
            promise,
            shape,
            writable: Vec::new(),
            taken: Vec::new(),
            gives_up_partitions: false,
        }
    }

    /// Checks the plan against the device as it is. Reads the device and writes nothing.
    ///
    /// # Errors
    ///
    /// Why it must not be carried out.
    pub fn check<D: ReadAt + ?Sized>(&self, before: &Before<'_, D>) -> Result<Checked, Refusal> {
        refuse_newer(before.inspection)?;
        let mut given_up = Traces::default();
        if !self.steps.is_empty() {
            given_up = refuse_foreign(before)?;
            given_up.0.extend(self.refuse_occupied(before)?);
            self.refuse_owned(before)?;
        }
        let after = Overlay::with_steps(before.device, &self.steps);
        let inspection = inspect(&after, before.own_lba_size)?;
        match self.promise.broken(&after, &inspection) {
            Some(reason) => Err(Refusal::Outcome(reason)),
            None => Ok(Checked {
                steps: self.steps.clone(),
                promise: self.promise.clone(),
                given_up,
            }),
        }
    }

    /// Returns what the ranges to be taken contain, though they belong to nobody; refuses unless it is given up.
    fn refuse_occupied<D: ReadAt + ?Sized>(&self, before: &Before<'_, D>) -> Result<Option<Trace>, Refusal> {
        let taken = self.taken.iter().copied().chain(self.new_tail(before.inspection));
        let taken: Vec<DeviceRange> = taken.collect();
        match signatures::unknown_in(before.device, before.inspection, &taken)? {
            Some(trace) if !before.force => Err(Refusal::Occupied(trace)),
            trace => Ok(trace),
        }
    }

    /// Returns the backup table's place, if it is written and the primary table does not name it: the device was cut or has grown.
    fn new_tail(&self, inspection: &Inspection) -> Option<DeviceRange> {
        let elsewhere = |finding: &Finding| matches!(finding, Finding::BackupTableNotAtEnd { .. });
        let tail = places::tail(inspection.device_size, self.shape);
        let written = self.steps.iter().any(|step| match step {
            Step::Write { offset, .. } => *offset >= tail.base(),
            Step::Flush => false,
        });
        (written && inspection.findings.iter().any(elsewhere)).then_some(tail)
    }

    /// Refuses writes outside of the writable ranges, and writes over bytes that belong to somebody else.
    fn refuse_owned<D: ReadAt + ?Sized>(&self, before: &Before<'_, D>) -> Result<(), Refusal> {
        let device_size = before.inspection.device_size;
        let writable = Writable::new(device_size, self.shape, &self.writable);
        let tables = if self.gives_up_partitions {
            Tables::default()
        } else {
            Tables::read(before.device, device_size)
        };
        let device = DeviceRange::clamped(DeviceOffset(0), device_size);
        for step in &self.steps {
            let Step::Write { offset, bytes, what } = step else {
                continue;
            };
            let what = what.clone();
            let range = DeviceRange::clamped(*offset, Bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX)));
            let Some(part) = writable.part_of(range).filter(|_| device.contains(range)) else {
                return Err(Refusal::Outside { what, range });
            };
            match tables.owner(range, part) {
                Some(Owned::Partition { number, range, table }) => {
                    return Err(Refusal::Partition {
                        what,
                        number,
                        partition: range,
                        table,
                    });
                }
                Some(Owned::Table { table, range }) => return Err(Refusal::Table { what, table, range }),
                None => {}
            }
        }
        Ok(())
    }
}

impl Checked {
    /// Returns the steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Returns its promise.
    pub fn promise(&self) -> &Promise {
        &self.promise
    }

    /// Returns the signatures of other tools that it gives up.
    pub fn given_up(&self) -> &Traces {
        &self.given_up
    }

    /// Does the steps, in order; stops at the first that fails.
    ///
    /// # Errors
    ///
    /// The step that failed: those before it are done, those after it are not.
    pub fn apply<D: Device + ?Sized>(&self, device: &D) -> Result<(), Failed> {
        step::apply(device, &self.steps)
    }
}

/// Refuses to write to a device on which a copy of the super block uses what this version does not know.
///
/// # Errors
///
/// [`Refusal::Newer`].
pub fn refuse_newer(inspection: &Inspection) -> Result<(), Refusal> {
    inspection.copies.iter().try_for_each(refuse_newer_copy)
}

fn refuse_newer_copy(copy: &CopyReport) -> Result<(), Refusal> {
    match copy.reading {
        Reading::Valid(superblock) | Reading::Ambiguous(superblock) | Reading::Foreign(superblock) => {
            refuse_unknown_features(copy.which, copy.offset, &superblock)
        }
        Reading::Corrupt(invalid @ (NotACopy::Version { .. } | NotACopy::Features(_))) => Err(Refusal::Newer {
            which: copy.which,
            offset: copy.offset,
            why: invalid.to_string(),
        }),
        Reading::Corrupt(_) | Reading::Missing | Reading::IoError => Ok(()),
    }
}

/// Refuses to change a copy that only a newer version of this program may change.
///
/// # Errors
///
/// [`Refusal::Newer`].
pub fn refuse_unknown_features(which: Which, offset: DeviceOffset, superblock: &SuperBlock) -> Result<(), Refusal> {
    match superblock.unknown_read_only_features() {
        0 => Ok(()),
        bits => Err(Refusal::Newer {
            which,
            offset,
            why: format!("it has the features {bits:#x}"),
        }),
    }
}

/// Returns the signatures of other tools on the whole device; refuses unless they are given up.
///
/// # Errors
///
/// [`Refusal::Foreign`], or if the device cannot be read.
pub fn refuse_foreign<D: ReadAt + ?Sized>(before: &Before<'_, D>) -> Result<Traces, Refusal> {
    let foreign = signatures::foreign_in(before.device, before.inspection)?;
    if foreign.0.is_empty() || before.force {
        Ok(foreign)
    } else {
        Err(Refusal::Foreign(foreign))
    }
}
