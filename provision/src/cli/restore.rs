//! `restore`: puts a backup back.

use super::change::Change;
use super::failure;
use crate::backup::{Backup, MAX_FILE};
use crate::restore::{self, Error};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::inspect::{Inspection, State};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// A file that `backup` or `init --force` has made
    file: PathBuf,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Give up what works on the target now; never one that is in use
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let backup = read(&arguments.file)?;
    let (change, inspection) = Change::open(path, arguments.dry_run, flags)?;
    let steps = restore::plan(change.target.file(), &inspection, &backup, arguments.force).map_err(|error| {
        let status = match error {
            Error::Size { .. } | Error::Replaces(_) | Error::NotBlank(_) | Error::NoReservation(_) => {
                ExitStatus::Refused
            }
            _ => ExitStatus::Failed,
        };
        failure(path, status, error)
    })?;
    if arguments.force && !arguments.dry_run {
        super::init::save_what_is_lost(path, &change.target, inspection.device_size, &steps, flags)?;
    }
    // What was saved before another tool's layout was overwritten is that layout.
    let whole = |after: &Inspection| arguments.force || after.state == State::Prepared;
    change.carry_out(&inspection, &steps, whole, "the backup is restored")
}

fn read(file: &Path) -> Result<Backup, Failure> {
    let failed = |error: std::io::Error| failure(file, ExitStatus::Failed, format!("cannot be read: {error}"));
    let mut text = String::new();
    std::fs::File::open(file)
        .map_err(failed)?
        .take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Backup::from_json(&text).map_err(|error| failure(file, ExitStatus::Usage, error))
}
