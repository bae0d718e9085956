//! A device as data: what `show --json` prints. Schema 1; offsets and sizes in bytes from the start of the device.

use crate::geometry::Geometry;
use crate::note;
use serde::Serialize;
use uuid::Uuid;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::superblock::SuperBlock;
use xen_pmem_format::table::{Partition as TablePartition, Table};
use xen_pmem_format::units::DeviceRange;
use xen_pmem_nvdimm::guest_claim::Claim;

/// The schema's number.
pub const SCHEMA: u32 = 1;

/// The document. Parts that are absent are null.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    schema: u32,
    target: String,
    device_size: Option<u64>,
    state: Option<&'static str>,
    reason: Option<String>,
    disk_guid: Option<Uuid>,
    superblock: Option<Reservation>,
    reserved: Option<Area>,
    partitions: Vec<Partition>,
    notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Reservation {
    uuid: Option<Uuid>,
    sequence: Option<u64>,
    copies: Vec<Copy>,
}

#[derive(Clone, Debug, Serialize)]
struct Copy {
    which: String,
    offset: u64,
    status: &'static str,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Area {
    base: u64,
    size: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Partition {
    number: u32,
    start: u64,
    size: u64,
    name: String,
    type_guid: Uuid,
    /// The name of the guest that has it.
    guest: Option<String>,
}

impl Document {
    /// Returns the document on a target that cannot be looked at, because of `reason`.
    pub fn of_unusable(target: &str, reason: String) -> Self {
        Self {
            schema: SCHEMA,
            target: target.to_owned(),
            device_size: None,
            state: None,
            reason: Some(reason),
            disk_guid: None,
            superblock: None,
            reserved: None,
            partitions: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Returns the document on a device with these claims on its partitions.
    pub fn of(target: &str, inspection: &Inspection, geometry: &Geometry, guests: &[Claim]) -> Self {
        let reservation = inspection.reservation().map(|(superblock, _)| superblock);
        Self {
            schema: SCHEMA,
            target: target.to_owned(),
            device_size: Some(inspection.device_size.0),
            state: Some(inspection.state.as_str()),
            reason: Some(inspection.reasons()).filter(|reasons| !reasons.is_empty()),
            disk_guid: inspection.table().map(Table::disk_guid),
            superblock: copies(inspection, reservation),
            reserved: reservation.map(|superblock| Area::of(superblock.reserved)),
            partitions: inspection
                .table()
                .map(|table| partitions(table, guests))
                .unwrap_or_default(),
            notes: note::of_device(inspection, geometry, guests)
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

impl Area {
    pub(crate) fn of(range: DeviceRange) -> Self {
        Self {
            base: range.base().0,
            size: range.size().0,
        }
    }
}

impl Partition {
    pub(crate) fn new(number: u32, range: DeviceRange, name: &str, type_guid: Uuid) -> Self {
        Self {
            number,
            start: range.base().0,
            size: range.size().0,
            name: name.to_owned(),
            type_guid,
            guest: None,
        }
    }
}

/// Returns the facts about the super block; nothing if there is no trace of one.
fn copies(inspection: &Inspection, reservation: Option<&SuperBlock>) -> Option<Reservation> {
    if inspection.copies.iter().all(|copy| copy.reading == Reading::Missing) {
        return None;
    }
    Some(Reservation {
        uuid: reservation.map(|superblock| superblock.uuid),
        sequence: reservation.map(|superblock| superblock.sequence),
        copies: inspection
            .copies
            .iter()
            .map(|copy| Copy {
                which: copy.which.to_string(),
                offset: copy.offset.0,
                status: copy.status.as_str(),
            })
            .collect(),
    })
}

fn partitions(table: &Table, guests: &[Claim]) -> Vec<Partition> {
    let of = |partition: &TablePartition| {
        let claim = guests.iter().find(|claim| claim.partition() == partition.number);
        Partition {
            guest: claim.map(|claim| claim.domain().to_owned()),
            ..Partition::new(partition.number, partition.range, &partition.name, partition.type_guid)
        }
    };
    table.partitions().iter().map(of).collect()
}
