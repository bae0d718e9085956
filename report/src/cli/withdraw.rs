//! `withdraw`: takes reports back from XenStore.

use super::{SCHEMA, require_dom0, take_turn};
use crate::xenstore::{Published, XenStore};
use serde::Serialize;
use xen_pmem_cli::exit::{ExitStatus, Exits as _};
use xen_pmem_cli::{Failure, Flags};

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
    failed: Vec<Failed>,
}

/// A report that could not be taken back.
#[derive(Serialize)]
struct Failed {
    uuid: String,
    message: String,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    require_dom0()?;
    let _turn = take_turn()?;
    let mut store = XenStore::connect()?;
    let published = store.published()?;
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
    let mut document = Document {
        schema: SCHEMA,
        withdrawn: Vec::new(),
        failed: Vec::new(),
    };
    for published in chosen {
        match store.remove(&published.name) {
            Ok(true) => document.withdrawn.push(published.name.clone()),
            // Somebody else has removed it meanwhile.
            Ok(false) => {}
            Err(error) => document.failed.push(Failed {
                uuid: published.name.clone(),
                message: error.told(),
            }),
        }
    }
    flags.print(&document, || text(&document))?;
    match document.failed.first() {
        Some(first) => Err(Failure::new(
            ExitStatus::Failed,
            format!(
                "{} of {} could not be withdrawn: {}",
                document.failed.len(),
                published.len(),
                first.message
            ),
        )),
        None => Ok(ExitStatus::Done),
    }
}

fn text(document: &Document) -> String {
    document
        .withdrawn
        .iter()
        .map(|uuid| format!("{uuid}: withdrawn\n"))
        .collect()
}

fn is_meant(arguments: &Arguments, published: &Published) -> bool {
    let Some(what) = &arguments.what else {
        return arguments.all;
    };
    let device = published.nodes.get("device");
    published.name.eq_ignore_ascii_case(what)
        || device.is_some_and(|device| device == what || device.strip_prefix("/dev/") == Some(what))
}
