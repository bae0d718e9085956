//! `init`: prepares a target.

use super::canvas::canvas;
use super::change::{self, Write, writes};
use super::{failure, refused, unusable};
use crate::document::{Area, Document, Partition};
use crate::geometry::Geometry;
use crate::init::{self, Plan, Request};
use crate::layout::{PartitionRequest, Reserve};
use crate::note;
use crate::picture;
use crate::placement::Found;
use crate::plan::{Before, Checked};
use crate::target::{self, Access, Target};
use rustix::rand::GetRandomFlags;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use uuid::{Builder, Uuid};
use xen_pmem_cli::clock;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::inspect::{Inspection, inspect};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::UnixTime;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, PhysAddr};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// Make a new image of this size (bytes, or with K, M, G or T)
    #[arg(long)]
    size: Option<Bytes>,
    /// How much to reserve for Xen: `auto`, what it needs for the whole namespace, or a size
    #[arg(long, value_name = "auto|SIZE", default_value = "auto")]
    reserve: Reserve,
    /// A partition; repeatable [default: one over the rest]. A SIZE is rounded up to a multiple of 2 MiB; `rest` is rounded down to a
    /// multiple of 16 MiB (of 2 MiB where less is left), which is what fsdax in a guest needs
    #[arg(long = "partition", value_name = "SIZE|rest[:NAME[:TYPE-GUID]]")]
    partitions: Vec<PartitionRequest>,
    /// The physical address of an image, hexadecimal (0x...), decimal, or as a size (4G); devices say themselves where they lie
    #[arg(long, value_name = "ADDRESS")]
    base: Option<PhysAddr>,
    /// Plan for a Xen that also runs 32-bit PV guests
    #[arg(long)]
    pv32: bool,
    /// The reservation's UUID [default: a random one]
    #[arg(long)]
    uuid: Option<Uuid>,
    /// The partition table's disk GUID; partitions get GUIDs derived from it [default: a random one]
    #[arg(long)]
    disk_guid: Option<Uuid>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Prepare a target that is not blank, and give up what is on it; never one that is in use
    #[arg(long)]
    force: bool,
}

/// The document of a dry run: what would be there, and the writes that would make it.
#[derive(Serialize)]
struct DryRun {
    schema: u32,
    target: String,
    device_size: u64,
    disk_guid: Uuid,
    uuid: Uuid,
    reserved: Area,
    needed: u64,
    partitions: Vec<Partition>,
    writes: Vec<Write>,
}

impl DryRun {
    fn of(target: &str, geometry: &Geometry, plan: &Plan, checked: &Checked) -> Self {
        let partitions = (1..)
            .zip(&plan.layout.partitions)
            .map(|(number, (partition, range))| Partition::new(number, *range, &partition.name, partition.type_guid));
        Self {
            schema: crate::document::SCHEMA,
            target: target.to_owned(),
            device_size: geometry.device_size.0,
            disk_guid: plan.superblock.disk_guid,
            uuid: plan.superblock.uuid,
            reserved: Area::of(plan.layout.reserved),
            needed: plan.layout.need.total.0,
            partitions: partitions.collect(),
            writes: writes(checked.steps()),
        }
    }
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let request = request(arguments)?;
    if let Some(size) = arguments.size {
        return create(arguments, size, &request, flags);
    }
    let mut target =
        Target::open(path, Access::to_change(arguments.dry_run)).map_err(|error| unusable(path, &error))?;
    prepare(arguments, &mut target, None, &request, flags)
}

/// A new image, before there is one.
struct Blank(Bytes);

impl ReadAt for Blank {
    fn size(&self) -> io::Result<Bytes> {
        Ok(self.0)
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        let end = u64::try_from(buf.len())
            .ok()
            .and_then(|length| offset.checked_add(Bytes(length)));
        if end.is_none_or(|end| end > DeviceOffset::after(self.0)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.fill(0);
        Ok(())
    }

    fn next_data(&self, _: DeviceOffset) -> Option<DeviceOffset> {
        None
    }
}

/// Prepares a new image; on failure it does not exist.
fn create(arguments: &Arguments, size: Bytes, request: &Request, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    if arguments.dry_run {
        return would_create(arguments, size, request, flags);
    }
    let mut target = Target::create(path, size).map_err(|error| unusable(path, &error))?;
    let result = prepare(arguments, &mut target, Some(&Blank(size)), request, flags);
    if result.is_err() {
        target.discard();
    }
    result
}

/// Plans a new image, and makes nothing.
fn would_create(arguments: &Arguments, size: Bytes, request: &Request, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    if path.symlink_metadata().is_ok() {
        return Err(unusable(path, &target::exists(path)));
    }
    let image = Blank(size);
    let failed = |error: io::Error| failure(path, ExitStatus::Failed, error);
    let inspection = inspect(&image, None).map_err(failed)?;
    let geometry =
        target::image_geometry(size, inspection.lba_size, arguments.base).map_err(|error| unusable(path, &error))?;
    let (plan, checked) = plan(path, &as_image(&image, &inspection, arguments), &geometry, request)?;
    say_plan(path, &geometry, &plan, &checked, flags)
}

/// Returns a new image as it is, for a plan.
fn as_image<'i>(image: &'i Blank, inspection: &'i Inspection, arguments: &Arguments) -> Before<'i, Blank> {
    Before {
        device: image,
        own_lba_size: None,
        inspection,
        force: arguments.force,
    }
}

/// Makes the plan, and checks it.
fn plan<D: ReadAt + ?Sized>(
    path: &Path,
    before: &Before<'_, D>,
    geometry: &Geometry,
    request: &Request,
) -> Result<(Plan, Checked), Failure> {
    let plan = init::plan(before, geometry, request).map_err(|error| unusable(path, &error))?;
    let checked = plan.plan.check(before).map_err(|refusal| refused(path, &refusal))?;
    Ok((plan, checked))
}

/// Says what would be written.
fn say_plan(
    path: &Path,
    geometry: &Geometry,
    plan: &Plan,
    checked: &Checked,
    flags: Flags,
) -> Result<ExitStatus, Failure> {
    let name = path.display().to_string();
    flags.print(&DryRun::of(&name, geometry, plan, checked), || {
        let picture = picture::of_plan(&name, &plan.layout, geometry);
        let notes = picture::of_notes(&note::of_plan(&plan.layout, geometry));
        format!(
            "{picture}{notes}  would be written:\n{}",
            picture::of_steps(checked.steps())
        )
    })?;
    Ok(ExitStatus::Done)
}

/// Prepares a target. One that was just made is `blank`: its content is known without reading it.
fn prepare(
    arguments: &Arguments,
    target: &mut Target,
    blank: Option<&Blank>,
    request: &Request,
    flags: Flags,
) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let name = path.display().to_string();
    let inspection = match blank {
        Some(blank) => inspect(blank, None).map_err(|error| failure(path, ExitStatus::Failed, error))?,
        None => super::inspect(target).map_err(|error| unusable(path, &error))?,
    };
    let geometry = target
        .geometry(inspection.lba_size, arguments.base)
        .map_err(|error| unusable(path, &error))?;
    let (plan, checked) = match blank {
        Some(blank) => plan(path, &as_image(blank, &inspection, arguments), &geometry, request),
        None => change::planned(path, target, &inspection, arguments.force, |before| {
            plan(path, before, &geometry, request)
        })?,
    }?;
    if matches!(target.found(), Found::Raw(_)) {
        tracing::warn!(
            "{name} is a raw namespace: reconfiguring it later would destroy the start of its partition table, and it has no DAX; prefer fsdax (ndctl create-namespace --mode=fsdax --map=mem) before preparing it"
        );
    }
    for trace in &plan.exposed.0 {
        tracing::warn!("{name}: there is {trace}; it stays, and the new partition shows it again");
    }
    if arguments.dry_run {
        return say_plan(path, &geometry, &plan, &checked, flags);
    }
    let after = change::write(path, target, &checked, &plan.overwritten, arguments.force, flags)?;
    flags.print(&Document::of(&name, &after, &geometry, &[]), || {
        let picture = picture::of_device(&name, &after, &geometry, canvas());
        picture + &picture::of_notes(&note::of_plan(&plan.layout, &geometry))
    })?;
    Ok(ExitStatus::Done)
}

fn request(arguments: &Arguments) -> Result<Request, Failure> {
    let path = &arguments.target;
    let partitions = match arguments.partitions.as_slice() {
        [] => vec![PartitionRequest::default()],
        partitions => partitions.to_vec(),
    };
    let random = || random_guid().map_err(|error| failure(path, ExitStatus::Failed, error));
    let given_or_random = |given: Option<Uuid>| given.map_or_else(random, Ok);
    let with_guid = |(number, partition): (u128, PartitionRequest)| {
        let guid = match arguments.disk_guid {
            Some(guid) => counted_on(guid, number),
            None => random()?,
        };
        Ok(partition.with_guid(guid))
    };
    let partitions = (1..).zip(partitions).map(with_guid).collect::<Result<_, Failure>>()?;
    Ok(Request {
        reserve: arguments.reserve,
        entries: if arguments.pv32 {
            EntrySizes::XEN_X86_64_PV32
        } else {
            EntrySizes::XEN_X86_64
        },
        partitions,
        uuid: given_or_random(arguments.uuid)?,
        disk_guid: given_or_random(arguments.disk_guid)?,
        now: UnixTime(clock::now().map_err(|error| failure(path, ExitStatus::Usage, error))?),
    })
}

/// Returns a random GUID (version 4).
pub(crate) fn random_guid() -> Result<Uuid, String> {
    let mut bytes = [0; 16];
    match rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(length) if length == bytes.len() => Ok(Builder::from_random_bytes(bytes).into_uuid()),
        Ok(_) => Err("the system gives no random numbers".to_owned()),
        Err(errno) => Err(format!("the system gives no random numbers: {errno}")),
    }
}

/// Returns a partition's GUID in output that can be reproduced: counted on from the disk GUID that was given.
fn counted_on(disk_guid: Uuid, number: u128) -> Uuid {
    Uuid::from_u128(disk_guid.as_u128().wrapping_add(number))
}
