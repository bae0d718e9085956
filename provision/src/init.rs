//! The plan that prepares a device.

use crate::clearing;
use crate::commit::{self, Content};
use crate::geometry::Geometry;
use crate::gpt::{Entry, Tables, block_0};
use crate::layout::{self, Layout, NewPartition, Reserve};
use crate::plan::{self, Before};
use crate::promise::Promise;
use crate::signatures::{self, Traces};
use std::io;
use uuid::Uuid;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::{Creator, Features, Planned, SuperBlock, UnixTime};
use xen_pmem_format::units::DeviceOffset;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// How much is reserved.
    pub reserve: Reserve,
    /// What the reservation is sized for.
    pub entries: EntrySizes,
    /// The partitions.
    pub partitions: Vec<NewPartition>,
    /// The reservation's UUID.
    pub uuid: Uuid,
    /// The new table's disk GUID.
    pub disk_guid: Uuid,
    /// The time.
    pub now: UnixTime,
}

/// The plan, and its result.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where everything goes.
    pub layout: Layout,
    /// The super block to be.
    pub superblock: SuperBlock,
    /// The steps.
    pub plan: plan::Plan,
    /// What the plan gives up.
    pub overwritten: Traces,
    /// What is there already where the partitions will be. It stays, and shows again.
    pub exposed: Traces,
}

/// Why a device is not prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request does not fit.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// The device has something on it.
    #[error("it is not blank: there is {0}")]
    NotBlank(Traces),
    /// The device is prepared.
    #[error("it is prepared already, as reservation {0}")]
    Prepared(Uuid),
    /// The GUID asked for is the one there.
    #[error("the disk GUID {0} is the one of the table that is there: a new table must have another one")]
    SameDiskGuid(Uuid),
    /// A GUID that means nothing.
    #[error("the nil UUID does not name anything: give another one")]
    NilUuid,
    /// The creator's name does not fit.
    #[error("the creator's name does not fit into a super block")]
    Creator,
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The steps cannot be made.
    #[error(transparent)]
    Commit(#[from] commit::Error),
}

/// Returns the name that this program writes into a super block.
pub fn creator() -> Option<Creator> {
    Creator::new(concat!("xen-pmem-provision ", env!("CARGO_PKG_VERSION")))
}

/// Plans the preparation of a device. Reads it and writes nothing.
///
/// # Errors
///
/// Why it cannot be prepared, or must not be.
pub fn plan<D: ReadAt + ?Sized>(before: &Before<'_, D>, geometry: &Geometry, request: &Request) -> Result<Plan, Error> {
    let (device, inspection) = (before.device, before.inspection);
    let layout = layout::layout(geometry, request.reserve, request.entries, &request.partitions)?;
    if [request.uuid, request.disk_guid].iter().any(Uuid::is_nil) {
        return Err(Error::NilUuid);
    }
    let overwritten = signatures::find(device, inspection, &layout.taken(geometry))?;
    let exposed = signatures::exposed(device, layout.partitions.iter().map(|(_, range)| *range))?;
    if !before.force {
        if let Some((superblock, _)) = inspection.reservation() {
            return Err(Error::Prepared(superblock.uuid));
        }
        if !overwritten.0.is_empty() {
            return Err(Error::NotBlank(Traces([overwritten.0, exposed.0].concat())));
        }
    }
    if inspection
        .table()
        .is_some_and(|table| table.disk_guid() == request.disk_guid)
    {
        return Err(Error::SameDiskGuid(request.disk_guid));
    }
    let superblock = superblock(geometry, &layout, request)?;
    let entries: Vec<Entry> = layout
        .partitions
        .iter()
        .map(|(partition, range)| Entry {
            range: *range,
            type_guid: partition.type_guid,
            guid: partition.guid,
            name: partition.name.clone(),
        })
        .collect();
    let tables = Tables::new(
        geometry.lba_size,
        geometry.device_size,
        request.disk_guid,
        layout.usable,
        &entries,
        &block_0(device)?,
    )
    .ok_or(layout::Error::Overflow)?;
    let content = Content::new(superblock);
    let plan = plan::Plan {
        steps: commit::whole(device, inspection, &content, &tables)?,
        promise: Promise::Prepared {
            superblock,
            partitions: tables.partitions(),
        },
        shape: tables.shape(),
        writable: clearing::writable(tables.shape()),
        // `overwritten` has it.
        taken: Vec::new(),
        gives_up_partitions: before.force,
    };
    Ok(Plan {
        layout,
        superblock,
        plan,
        overwritten,
        exposed,
    })
}

fn superblock(geometry: &Geometry, layout: &Layout, request: &Request) -> Result<SuperBlock, Error> {
    Ok(SuperBlock {
        sequence: 1,
        uuid: request.uuid,
        disk_guid: request.disk_guid,
        device_size: geometry.device_size,
        reserved: layout.reserved,
        planned: Planned {
            entries: request.entries,
            namespace_size: geometry.namespace().size(),
            device_in_namespace: geometry.device_in_namespace(),
        },
        address_hint: geometry.address(DeviceOffset(0)).filter(|address| address.0 != 0),
        created: request.now,
        updated: request.now,
        creator: creator().ok_or(Error::Creator)?,
        features: Features::default(),
    })
}
