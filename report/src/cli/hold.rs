//! `hold`: keeps libnvdimm's drivers from binding before a report.

use super::{SCHEMA, require_dom0, take_turn};
use crate::hypercall::Hypercall;
use serde::Serialize;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_nvdimm::bus::NdBus;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Have drivers bind by themselves again, as the kernel does unless told otherwise, and bind them to what waits
    #[arg(long)]
    release: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    /// Whether drivers wait until they are bound.
    held: bool,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    require_dom0()?;
    let _turn = take_turn()?;
    let bus = NdBus::new(SysfsRoot::default());
    if arguments.release {
        bus.set_autoprobe(true).map_err(Failure::failed)?;
        // What appeared meanwhile would wait for ever.
        bus.bind_regions().map_err(Failure::failed)?;
        bus.bind_namespaces().map_err(Failure::failed)?;
    } else if Hypercall::open().and_then(|mut xen| xen.registered())?.is_some() {
        // A device that is bound already was reported before, or comes too late.
        bus.settle();
        bus.set_autoprobe(false).map_err(Failure::failed)?;
    } else {
        let message = "the hypervisor has no pmem support: any time will do for a report, and drivers bind as ever";
        return Err(Failure::new(ExitStatus::Unsupported, message));
    }
    let document = Document {
        schema: SCHEMA,
        held: !arguments.release,
    };
    flags.print(&document, || {
        if document.held {
            "drivers of libnvdimm wait for `apply --early --bind`\n".to_owned()
        } else {
            "drivers of libnvdimm bind by themselves\n".to_owned()
        }
    })?;
    Ok(ExitStatus::Done)
}
