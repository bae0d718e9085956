//! `restore`: puts a backup back.

use super::change::Change;
use super::{failure, refused, unusable};
use crate::backup::{Backup, MAX_FILE};
use crate::restore::{self, Error};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// A file that `backup` or `init --force` has made
    file: PathBuf,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Give up what works on the target now, and save what is overwritten; never on a target that is in use
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let backup = read(&arguments.file)?;
    let change = Change::open(path, arguments.dry_run, arguments.force, flags)?;
    let plan = change.plan(|before| restore::plan(before, &backup))?;
    let plan = plan.map_err(|error| match error {
        Error::Refused(refusal) => refused(path, &refusal),
        error => unusable(path, &error),
    })?;
    change.carry_out(&plan, "the backup is restored")
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
