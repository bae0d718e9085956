//! `remove`: takes a reservation away.

use super::{Failure, Printing};
use serde::Serialize;
use std::path::PathBuf;
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_provision::document::Document;
use xen_pmem_provision::picture;
use xen_pmem_provision::remove::{self, Error};
use xen_pmem_provision::step::{self, Step};
use xen_pmem_provision::target::{Access, Target};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// The document of a dry run: what is there, and the writes that would take it away.
#[derive(Serialize)]
struct DryRun {
    #[serde(flatten)]
    document: Document,
    writes: Vec<super::init::Write>,
}

pub(crate) fn run(arguments: &Arguments, printing: Printing) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let name = path.display().to_string();
    let access = if arguments.dry_run { Access::Read } else { Access::Write };
    let mut target = Target::open(path, access).map_err(|error| Failure::target(path, &error))?;
    let inspection = target.inspect().map_err(|error| Failure::target(path, &error))?;
    let steps: Vec<Step> = remove::plan(target.file(), &inspection).map_err(|error| {
        let status = match error {
            Error::Nothing(_) => ExitStatus::NothingPrepared,
            Error::NoTable(_) => ExitStatus::Damaged,
            Error::Features(_) => ExitStatus::Refused,
            _ => ExitStatus::Failed,
        };
        Failure::of(path, status, error)
    })?;
    if arguments.dry_run {
        let document = DryRun {
            document: Document::of(&name, &inspection),
            writes: super::init::writes(&steps),
        };
        printing.print(&document, || {
            format!("{name}: would be written:\n{}", picture::of_steps(&steps))
        })?;
        return Ok(ExitStatus::Done);
    }
    step::apply(target.file(), &steps).map_err(|error| Failure::of(path, ExitStatus::Failed, error))?;
    target
        .reread_partitions()
        .map_err(|error| Failure::target(path, &error))?;
    let after = target.inspect().map_err(|error| Failure::target(path, &error))?;
    printing.print(&Document::of(&name, &after), || {
        format!("{name}: the reservation is removed; the partitions stay\n")
    })?;
    Ok(ExitStatus::Done)
}
