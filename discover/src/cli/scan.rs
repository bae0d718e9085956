//! `scan`: looks once.

use super::{PROGRAM, text};
use crate::scan::{self, Options};
use clap::Args;
use std::path::PathBuf;
use xen_pmem_cli::exit::{ExitStatus, Exits as _};
use xen_pmem_cli::{Failure, Flags, complain};
use xen_pmem_format::units::PhysAddr;
use xen_pmem_nvdimm::node::Nodes;
use xen_pmem_nvdimm::physical_memory::DEV_MEM;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  at least one of the devices asked for is prepared, none is damaged
  1  a device could not be read
  2  the command line is wrong
  4  none of the devices asked for is prepared
  5  a device asked for is damaged: repair is needed";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Devices by node or name (/dev/pmem0, pmem0, namespace0.0) [default: all]
    #[arg(value_name = "DEVICE")]
    devices: Vec<PathBuf>,
    /// Look at an image file as if it lay at the physical address of --base
    #[arg(long, value_name = "FILE", requires = "base", conflicts_with_all = ["devices", "early", "sysfs", "dev"])]
    image: Option<PathBuf>,
    /// The physical address of the image, hexadecimal (0x...), decimal, or as a size (4G)
    #[arg(long, value_name = "ADDRESS", requires = "image")]
    base: Option<PhysAddr>,
    /// Look at namespaces that no driver is bound to, too: through /dev/mem, as they can be before nd_pmem is loaded
    #[arg(long)]
    early: bool,
    /// Where physical memory is: /dev/mem, or a file whose offsets are physical addresses
    #[arg(long, value_name = "FILE", default_value = DEV_MEM, requires = "early")]
    mem: PathBuf,
    /// Where sysfs is: /sys, or a recorded tree
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    sysfs: PathBuf,
    /// Where to find images named like the devices of a recorded tree [default: the devices' nodes in /dev]
    #[arg(long, value_name = "DIR")]
    dev: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let result = match (&arguments.image, arguments.base) {
        (Some(image), Some(base)) => scan::scan_image(image, base)
            .map_err(|error| Failure::new(error.exit_status(), format!("{}: {}", image.display(), error.told()))),
        _ => scan::scan(&Options {
            sysfs: SysfsRoot::new(&arguments.sysfs),
            nodes: arguments.dev.clone().map_or(Nodes::System, Nodes::Recorded),
            devices: arguments.devices.clone(),
            devices_only: false,
            memory: arguments.early.then(|| arguments.mem.clone()),
        })
        .map_err(Failure::from),
    };
    let outcome = result?;
    for failure in &outcome.failures {
        complain(PROGRAM, &format_args!("{}: {}", failure.device, failure.error.told()));
    }
    flags.print(&outcome.scan, || text::of(&outcome))?;
    Ok(outcome.exit_status())
}
