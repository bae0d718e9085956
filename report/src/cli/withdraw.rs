//! `withdraw`: takes reports back from XenStore.

use super::{SCHEMA, failed, require_dom0};
use serde::Serialize;
use xen_pmem_format::cli::{Failure, Flags};
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_report::xenstore::{Published, XenStore};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The reservation's UUID, or the device's node that it was published with
    #[arg(value_name = "UUID|DEVICE", required_unless_present = "all", conflicts_with = "all")]
    what: Option<String>,
    /// All that is published
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    withdrawn: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    require_dom0()?;
    let mut store = XenStore::connect().map_err(failed)?;
    let published = store.published().map_err(failed)?;
    let chosen: Vec<&Published> = published
        .iter()
        .filter(|published| is_meant(arguments, published))
        .collect();
    if chosen.is_empty() {
        let message = match &arguments.what {
            Some(what) => format!("{what}: nothing is published of it; `xen-pmem-report status` lists what is"),
            None => "nothing is published".to_owned(),
        };
        return Err(Failure::new(ExitStatus::NothingPrepared, message));
    }
    let mut withdrawn = Vec::new();
    for published in chosen {
        if store.remove(&published.name).map_err(failed)? {
            withdrawn.push(published.name.clone());
        }
    }
    let document = Document {
        schema: SCHEMA,
        withdrawn,
    };
    flags.print(&document, || {
        document
            .withdrawn
            .iter()
            .map(|uuid| format!("{uuid}: withdrawn\n"))
            .collect()
    })?;
    Ok(ExitStatus::Done)
}

fn is_meant(arguments: &Arguments, published: &Published) -> bool {
    let Some(what) = &arguments.what else {
        return arguments.all;
    };
    let device = published.nodes.get("device");
    published.name.eq_ignore_ascii_case(what)
        || device.is_some_and(|device| device == what || device.strip_prefix("/dev/") == Some(what))
}
