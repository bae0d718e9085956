//! `verify`: whether all is as it should be.

use super::change;
use super::exit::Refused;
use super::watched::Watched;
use super::{inspect, status_of, unusable, unusable_document};
use crate::advice::{self, Advice};
use crate::document::Document;
use crate::note;
use crate::picture;
use crate::plan::Before;
use crate::target::{Access, Target};
use std::path::PathBuf;
use xen_pmem_cli::exit::{ExitStatus, Exits as _};
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
    let guests = target
        .guests()
        .map_err(|error| unusable_document(path, &error, flags))?;
    let inspection = inspect(&target).map_err(|error| unusable_document(path, &error, flags))?;
    let name = path.display().to_string();
    let geometry = target
        .geometry(inspection.lba_size, None)
        .map_err(|error| unusable_document(path, &error, flags))?;
    let own_lba_size = target.own_lba_size().map_err(|error| unusable(path, &error))?;
    let advice = || {
        let before = Before {
            device: &Watched::new(target.file(), change::READING),
            own_lba_size,
            inspection: &inspection,
            force: false,
        };
        advice::of(&before, &geometry)
    };
    flags.print(&Document::of(&name, &inspection, &geometry, &guests), || {
        let notes = picture::of_notes(&note::of_device(&inspection, &geometry, &guests));
        text(&name, &inspection) + &of_advice(&name, advice()) + &notes
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
    text
}

/// Returns what to do, a line each, or why there is nothing to do. A device in use must be freed before.
fn of_advice(name: &str, advice: Result<Vec<Advice>, advice::Error>) -> String {
    match advice {
        Ok(advice) => advice
            .iter()
            .map(|advice| format!("  {}: {}\n", advice.purpose(), advice.command(name)))
            .collect(),
        Err(error) => {
            let reason = match &error {
                advice::Error::Newer(refusal) => Refused { refusal, target: name }.told(),
                error => error.to_string(),
            };
            format!("  no command changes this: {reason}\n")
        }
    }
}
