//! `repair`: heals what is damaged.

use super::change::Change;
use super::{refused, unusable};
use crate::repair::{self, Error};
use std::path::PathBuf;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Give up what another tool has left on the whole device, and save what is overwritten; never on a target that is in use
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let change = Change::open(path, arguments.dry_run, arguments.force, flags)?;
    let plan = change.plan(repair::plan)?;
    let plan = plan.map_err(|error| match error {
        Error::Refused(refusal) => refused(path, &refusal),
        error => unusable(path, &error),
    })?;
    let done = if plan.steps.is_empty() {
        "there is nothing to repair"
    } else {
        "repaired: it is prepared"
    };
    change.carry_out(&plan, done)
}
