//! `remove`: takes a reservation away.

use super::change::Change;
use super::failure;
use crate::remove::{self, Error};
use std::path::PathBuf;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::inspect::State;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let (change, inspection) = Change::open(path, arguments.dry_run, flags)?;
    let steps = remove::plan(change.target.file(), &inspection).map_err(|error| {
        let status = match error {
            Error::Nothing(_) => ExitStatus::NothingPrepared,
            Error::NoTable(_) => ExitStatus::Damaged,
            Error::Features(_) => ExitStatus::Refused,
            _ => ExitStatus::Failed,
        };
        failure(path, status, error)
    })?;
    let gone = |after: &xen_pmem_format::inspect::Inspection| after.state == State::Unprepared;
    change.carry_out(
        &inspection,
        &steps,
        gone,
        "the reservation is removed; the partitions stay",
    )
}
