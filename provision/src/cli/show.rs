//! `show`: what is on a target.

use super::{status_of, unusable_document};
use crate::document::Document;
use crate::picture;
use crate::target::{Access, Target};
use std::path::PathBuf;
use xen_pmem_format::cli::{Failure, Flags};
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_format::units::PhysAddr;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// The physical address of an image, to show addresses with; hexadecimal (0x...) or decimal
    #[arg(long, value_name = "ADDRESS")]
    base: Option<PhysAddr>,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let target = Target::open(path, Access::Read).map_err(|error| unusable_document(path, &error, flags))?;
    let inspection = target
        .inspect()
        .map_err(|error| unusable_document(path, &error, flags))?;
    let geometry = target
        .geometry(inspection.lba_size, arguments.base)
        .map_err(|error| unusable_document(path, &error, flags))?;
    let name = path.display().to_string();
    flags.print(&Document::of(&name, &inspection), || {
        picture::of_device(&name, &inspection, &geometry)
    })?;
    Ok(status_of(inspection.state))
}
