//! `repair`: heals what is damaged.

use super::change::Change;
use super::failure;
use crate::repair::{self, Error};
use std::path::PathBuf;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::inspect::{Inspection, State};

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
    let steps = repair::plan(change.target.file(), &inspection).map_err(|error| {
        let status = match error {
            Error::Nothing(_) => ExitStatus::NothingPrepared,
            Error::Hopeless(_) => ExitStatus::Damaged,
            Error::Foreign(_) | Error::Features(_) => ExitStatus::Refused,
            _ => ExitStatus::Failed,
        };
        failure(path, status, error)
    })?;
    let before = inspection.reservation().map(|(superblock, _)| *superblock);
    let whole = |after: &Inspection| {
        after.state == State::Prepared && after.reservation().map(|(superblock, _)| *superblock) == before
    };
    let done = if steps.is_empty() {
        "there is nothing to repair"
    } else {
        "repaired: it is prepared"
    };
    change.carry_out(&inspection, &steps, whole, done)
}
