//! `show`: what is on a target.

use super::canvas::canvas;
use super::{inspect, status_of, unusable_document};
use crate::document::Document;
use crate::note;
use crate::picture::{self, drawing, parts};
use crate::target::{Access, Target};
use std::fs;
use std::path::{Path, PathBuf};
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::units::PhysAddr;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// The physical address of an image, to show addresses with; hexadecimal (0x...), decimal, or as a size (4G)
    #[arg(long, value_name = "ADDRESS")]
    base: Option<PhysAddr>,
    /// Write the picture to this file, as an SVG drawing, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let target = Target::open(path, Access::Read).map_err(|error| unusable_document(path, &error, flags))?;
    let guests = target
        .guests()
        .map_err(|error| unusable_document(path, &error, flags))?;
    let inspection = inspect(&target).map_err(|error| unusable_document(path, &error, flags))?;
    let geometry = target
        .geometry(inspection.lba_size, arguments.base)
        .map_err(|error| unusable_document(path, &error, flags))?;
    let name = path.display().to_string();
    if let Some(file) = &arguments.svg {
        save(file, &drawing::draw(&name, &parts::of(&inspection), &geometry))?;
    }
    flags.print(&Document::of(&name, &inspection, &geometry, &guests), || {
        let picture = picture::of_device(&name, &inspection, &geometry, canvas());
        picture + &picture::of_notes(&note::of_device(&inspection, &geometry, &guests))
    })?;
    Ok(status_of(inspection.state))
}

/// Writes the drawing to a new file, or over a regular one.
fn save(file: &Path, drawing: &str) -> Result<(), Failure> {
    let failed = |status, error: &dyn std::fmt::Display| Failure::new(status, format!("{}: {error}", file.display()));
    match fs::metadata(file) {
        Ok(metadata) if !metadata.is_file() => Err(failed(
            ExitStatus::Usage,
            &"is not a regular file: the drawing is not written to it",
        )),
        _ => fs::write(file, drawing).map_err(|error| failed(ExitStatus::Failed, &error)),
    }
}
