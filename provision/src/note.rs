//! What is allowed, and what people want to know all the same.

use crate::geometry::Geometry;
use crate::layout::{Layout, PartitionSize};
use std::fmt;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::table::Table;
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, PhysAddr, SUPERPAGE};
use xen_pmem_nvdimm::fsdax::{self, Objection};
use xen_pmem_nvdimm::guest_claim::Claim;

/// A note on a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The partition is larger than asked for.
    Rounded {
        /// Its number.
        number: u32,
        /// What was asked for.
        asked: Bytes,
        /// What it has.
        size: Bytes,
    },
    /// The partition over the rest does not take all of it.
    LeftOver {
        /// Its number.
        number: u32,
        /// What stays unused.
        left: DeviceRange,
    },
    /// `ndctl` in a guest that has the partition cannot make it fsdax.
    NoFsdax {
        /// Its number.
        number: u32,
        /// Why.
        objection: Objection,
    },
    /// A guest has the partition.
    Claimed {
        /// Its number.
        number: u32,
        /// The guest's name.
        domain: String,
    },
}

/// Returns the notes on a future layout.
pub fn of_plan(layout: &Layout, geometry: &Geometry) -> Vec<Note> {
    let mut notes = Vec::new();
    for (number, (request, range)) in (1..).zip(&layout.partitions) {
        match request.size {
            PartitionSize::Exactly(asked) if asked != range.size() => notes.push(Note::Rounded {
                number,
                asked,
                size: range.size(),
            }),
            PartitionSize::Exactly(_) => {}
            PartitionSize::Rest => {
                let left = DeviceRange::between(range.end(), layout.usable.end());
                if let Some(left) = left.filter(|left| !left.is_empty()) {
                    notes.push(Note::LeftOver { number, left });
                }
            }
        }
        notes.extend(no_fsdax(number, *range, geometry));
    }
    notes
}

/// Returns the notes on a device: on partitions that guests have, and if it has a reservation on those that suit no guest.
pub fn of_device(inspection: &Inspection, geometry: &Geometry, guests: &[Claim]) -> Vec<Note> {
    let table = inspection.reservation().map(|(_, table)| table);
    let partitions = table.into_iter().flat_map(Table::partitions);
    let unsuited = partitions.filter_map(|partition| no_fsdax(partition.number, partition.range, geometry));
    let claimed = guests.iter().map(|claim| Note::Claimed {
        number: claim.partition(),
        domain: claim.domain().to_owned(),
    });
    unsuited.chain(claimed).collect()
}

/// Returns the note that a partition is not aligned for fsdax. On a device at an unknown address it takes offsets for addresses.
fn no_fsdax(number: u32, range: DeviceRange, geometry: &Geometry) -> Option<Note> {
    let start = geometry
        .placement
        .map_or(PhysAddr(0), |placement| placement.device_start);
    let objection = fsdax::objection(range.placed_at(start)?)?;
    Some(Note::NoFsdax { number, objection })
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rounded { number, asked, size } => write!(
                f,
                "partition {number} has {size}: the {} bytes asked for are not a multiple of {SUPERPAGE}",
                asked.0
            ),
            Self::LeftOver { number, left } => {
                let (size, DeviceOffset(at)) = (left.size(), left.base());
                write!(
                    f,
                    "{size} at {at:#x} stay unused: the size of partition {number} is rounded down, as huge pages and fsdax in guests need it"
                )
            }
            Self::NoFsdax { number, objection } => write!(
                f,
                "partition {number} suits no guest that wants fsdax (DAX): {objection}"
            ),
            Self::Claimed { number, domain } => write!(f, "partition {number} is claimed for domain {domain}"),
        }
    }
}
