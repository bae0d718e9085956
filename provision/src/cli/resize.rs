//! `resize`: makes the reserved area larger or smaller.

use super::change::Change;
use super::{failure, refused, unusable};
use crate::resize::{self, Error};
use std::path::PathBuf;
use xen_pmem_cli::clock;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::superblock::UnixTime;
use xen_pmem_format::units::{Bytes, PhysAddr};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// The reserved area's new size (bytes, or with K, M, G or T), within the gap before the first partition
    #[arg(long, value_name = "SIZE")]
    reserve: Bytes,
    /// The physical address of an image, hexadecimal (0x...), decimal, or as a size (4G); devices say themselves where they lie
    #[arg(long, value_name = "ADDRESS")]
    base: Option<PhysAddr>,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Give up what another tool has left on the whole device, and save what is overwritten; never on a target that is in use
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let now = clock::now().map_err(|error| failure(path, ExitStatus::Usage, error))?;
    let now = UnixTime(now);
    let change = Change::open(path, arguments.dry_run, arguments.force, flags)?;
    let geometry = change
        .target
        .geometry(change.inspection.lba_size, arguments.base)
        .map_err(|error| unusable(path, &error))?;
    let plan = change.plan(|before| resize::plan(before, &geometry, arguments.reserve, now))?;
    let plan = plan.map_err(|error| match error {
        Error::Refused(refusal) => refused(path, &refusal),
        error => unusable(path, &error),
    })?;
    let done = format!("{} are reserved for Xen", plan.superblock.reserved.size());
    change.carry_out(&plan.plan, &done)
}
