//! `verify`: whether all is as it should be.

use super::{status_of, unusable_document};
use crate::document::Document;
use crate::note;
use crate::picture;
use crate::target::{Access, Target};
use std::path::PathBuf;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::inspect::{Inspection, State};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let target = Target::open(path, Access::Read).map_err(|error| unusable_document(path, &error, flags))?;
    let inspection = target
        .inspect()
        .map_err(|error| unusable_document(path, &error, flags))?;
    let name = path.display().to_string();
    let geometry = target
        .geometry(inspection.lba_size, None)
        .map_err(|error| unusable_document(path, &error, flags))?;
    flags.print(&Document::of(&name, &inspection, &geometry), || {
        text(&name, &inspection) + &picture::of_notes(&note::of_device(&inspection, &geometry))
    })?;
    Ok(match inspection.state {
        State::Degraded => ExitStatus::Damaged,
        state => status_of(state),
    })
}

fn text(name: &str, inspection: &Inspection) -> String {
    let mut text = format!("{name}: {}\n", inspection.state.as_str());
    for finding in &inspection.findings {
        text.push_str(&format!("  - {finding}\n"));
    }
    match inspection.state {
        State::Prepared => {}
        State::Degraded => text.push_str(&format!("  to heal it: xen-pmem-provision repair {name}\n")),
        State::Damaged => text.push_str(&format!(
            "  to heal it, put a backup back (xen-pmem-provision restore {name} FILE), or prepare it anew, giving up its partitions (xen-pmem-provision init --force {name})\n"
        )),
        State::Unprepared => text.push_str(&format!("  to prepare it: xen-pmem-provision init {name}\n")),
    }
    text
}
