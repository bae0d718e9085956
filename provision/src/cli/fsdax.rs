//! `fsdax`: makes a partition come up in fsdax mode in the guest that gets it.

use super::init::random_guid;
use super::{failure, inspect, unusable};
use crate::fsdax::{self, Error, HEAD, Head};
use crate::partition::Partition;
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use uuid::Uuid;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::units::Address as _;
use xen_pmem_nvdimm::info_block;

/// How many bytes the info block hides, and what it is for.
const ABOUT: &str = "\
A guest sees its partition as a raw namespace, which Linux cannot use with DAX. With the info block that `ndctl create-namespace \
--mode=fsdax --map=mem` would write in the guest, the namespace comes up in fsdax mode at the guest's first boot, without ndctl. \
The guest's block device begins 2 MiB into the partition: Dom0 reaches its file system with `mount -o loop,offset=2M`. The memory \
map takes 64 bytes of the guest's memory for each 4 KiB.

Only a partition whose first 2 MiB hold zeros is changed.";

#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT)]
pub(crate) struct Arguments {
    /// A partition (/dev/pmem0p1), or a whole device or an image
    target: PathBuf,
    /// Which partition of a whole device or an image
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// The info block's UUID [default: a random one]
    #[arg(long)]
    uuid: Option<Uuid>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// The document. Offsets and sizes are bytes of the partition.
#[derive(Serialize)]
struct Document {
    schema: u32,
    target: String,
    partition: u32,
    uuid: Uuid,
    data_offset: u64,
    data_size: u64,
    written: bool,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let failed = |error: Error| unusable(path, &error);
    let io = |what| move |error: io::Error| Error::Io { what, error };
    let partition = Partition::open(path, arguments.partition, inspect).map_err(|error| unusable(path, &error))?;
    let uuid = match arguments.uuid {
        Some(uuid) => uuid,
        None => random_guid().map_err(|error| failure(path, ExitStatus::Failed, error))?,
    };
    let length = HEAD.min(partition.size()).0;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    let read = partition.read_exact_at(xen_pmem_format::units::Bytes(0), &mut bytes);
    read.map_err(io("reading its start")).map_err(failed)?;
    let head = fsdax::head(&bytes, partition.range());
    let block = fsdax::plan(&head, uuid, partition.range()).map_err(failed)?;
    if let (Some(block), false) = (&block, arguments.dry_run) {
        write(&partition, block).map_err(failed)?;
    }
    let fsdax = match (&head, &block) {
        (Head::Prepared(fsdax), _) => *fsdax,
        (_, Some(block)) => info_block::fsdax(block, partition.range()).map_err(|error| {
            failure(
                path,
                ExitStatus::Failed,
                format!("the info block is not valid: {error}"),
            )
        })?,
        _ => return Err(failure(path, ExitStatus::Failed, "there is no info block")),
    };
    let offset = fsdax.device_range.base().offset_from(partition.range().base());
    let offset = offset.unwrap_or_default().0;
    let document = Document {
        schema: crate::document::SCHEMA,
        target: path.display().to_string(),
        partition: partition.number(),
        uuid: fsdax.uuid,
        data_offset: offset,
        data_size: fsdax.device_range.size().0,
        written: block.is_some() && !arguments.dry_run,
    };
    flags.print(&document, || {
        let what = match (&block, arguments.dry_run) {
            (None, _) => "is fsdax already: nothing is written",
            (Some(_), true) => "would be fsdax: an info block would be written at offset 0x1000",
            (Some(_), false) => "is fsdax now",
        };
        format!(
            "{}: partition {} {what}; a guest finds a device of {} that begins at offset {offset:#x}\n",
            document.target,
            document.partition,
            fsdax.device_range.size()
        )
    })?;
    Ok(ExitStatus::Done)
}

/// Writes the info block; its signature last, so that it is absent or whole at every moment.
fn write(partition: &Partition, block: &[u8; info_block::SIZE]) -> Result<(), Error> {
    let io = |what| move |error: io::Error| Error::Io { what, error };
    let mut body = *block;
    let signature = body.first_chunk_mut::<{ crate::step::SIGNATURE_SIZE }>();
    let signature = signature.map(std::mem::take).unwrap_or_default();
    let flush = || partition.flush().map_err(io("making the info block durable"));
    partition
        .write_all_at(info_block::OFFSET.distance(), &body)
        .map_err(io("writing the info block"))?;
    flush()?;
    partition
        .write_all_at(info_block::OFFSET.distance(), &signature)
        .map_err(io("writing the info block's signature"))?;
    flush()?;
    let mut found = [0; info_block::SIZE];
    partition
        .read_exact_at(info_block::OFFSET.distance(), &mut found)
        .map_err(io("reading the info block back"))?;
    if found != *block {
        let error = io::Error::other("it is not what was written");
        return Err(Error::Io {
            what: "reading the info block back",
            error,
        });
    }
    Ok(())
}
