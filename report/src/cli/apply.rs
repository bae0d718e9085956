//! `apply`: reports prepared devices.

use super::{SCHEMA, failed, read_scan, require_dom0, scan_host};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use uuid::Uuid;
use xen_pmem_discover::document::{Scan, State};
use xen_pmem_format::cli::{Failure, Flags};
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_report::hypercall::Hypercall;
use xen_pmem_report::report::{self, Refusal, Report};
use xen_pmem_report::sink::{Outcome, Sink};
use xen_pmem_report::xenstore::XenStore;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Arguments {
    /// Devices by node or name (/dev/pmem0, pmem0, namespace0.0)
    #[arg(value_name = "DEVICE", group = "what")]
    devices: Vec<PathBuf>,
    /// All prepared devices of this host
    #[arg(long, group = "what", conflicts_with = "devices")]
    all: bool,
    /// The devices of a scan document (`xen-pmem-discover scan --json`) instead; `-` is standard input
    #[arg(long, value_name = "FILE", group = "what", conflicts_with_all = ["devices", "all"])]
    from: Option<PathBuf>,
    /// Where to report to
    #[arg(long, value_enum, default_value_t = Sinks::All)]
    sink: Sinks,
    /// Say what would be reported, and report nothing
    #[arg(long)]
    dry_run: bool,
}

/// Where to report to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sinks {
    /// XenStore only
    Xenstore,
    /// The hypervisor only
    Hypercall,
    /// The hypervisor, then XenStore
    All,
}

/// What became of all devices.
#[derive(Serialize)]
struct Document {
    schema: u32,
    dry_run: bool,
    devices: Vec<Device>,
}

/// What became of one device.
#[derive(Serialize)]
struct Device {
    device: String,
    uuid: Option<Uuid>,
    sinks: Vec<Sunk>,
    refused: Option<String>,
    #[serde(skip)]
    status: ExitStatus,
}

/// What one sink made of it.
#[derive(Serialize)]
struct Sunk {
    sink: &'static str,
    outcome: &'static str,
    message: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let offline = arguments.dry_run && arguments.from.is_some();
    if !offline {
        require_dom0()?;
    }
    let (scan, unreadable) = match &arguments.from {
        Some(path) => (read_scan(path)?, false),
        None => scan_host(&arguments.devices)?,
    };
    let mut sinks = if arguments.dry_run {
        Vec::new()
    } else {
        open(arguments.sink)?
    };
    let devices = apply(&scan, &mut sinks);
    let status = overall(&devices, unreadable, arguments);
    let document = Document {
        schema: SCHEMA,
        dry_run: arguments.dry_run,
        devices,
    };
    flags.print(&document, || text(&document))?;
    match status {
        ExitStatus::NothingPrepared => Err(Failure::new(status, nothing(&document.devices))),
        status => Ok(status),
    }
}

/// Opens the sinks, in the order in which they are told: XenStore has what the hypervisor has not refused.
fn open(sinks: Sinks) -> Result<Vec<Box<dyn Sink>>, Failure> {
    let mut open: Vec<Box<dyn Sink>> = Vec::new();
    if sinks != Sinks::Xenstore {
        open.push(Box::new(Hypercall::open().map_err(failed)?));
    }
    if sinks != Sinks::Hypercall {
        open.push(Box::new(XenStore::connect().map_err(failed)?));
    }
    Ok(open)
}

fn apply(scan: &Scan, sinks: &mut [Box<dyn Sink>]) -> Vec<Device> {
    let reports = report::of_all(&scan.devices);
    let mut devices = Vec::new();
    for (device, report) in reports {
        let (sunk, refused, status) = match &report {
            Ok(report) => {
                let (sunk, status) = publish(report, sinks);
                (sunk, None, status)
            }
            Err(refusal) => (Vec::new(), Some(refusal.to_string()), status_of(refusal)),
        };
        devices.push(Device {
            device: device.device.clone(),
            uuid: device.uuid,
            sinks: sunk,
            refused,
            status,
        });
    }
    devices
}

/// Tells the sinks one after the other; one that fails ends it.
fn publish(report: &Report, sinks: &mut [Box<dyn Sink>]) -> (Vec<Sunk>, ExitStatus) {
    let mut sunk = Vec::new();
    let mut known = sinks.is_empty();
    for sink in sinks {
        let name = sink.name();
        match sink.publish(report) {
            Ok(Outcome::Unsupported) => {
                let message = Some("hypervisor has no pmem support".to_owned());
                sunk.push(Sunk {
                    sink: name,
                    outcome: Outcome::Unsupported.as_str(),
                    message,
                });
            }
            Ok(outcome) => {
                known = true;
                sunk.push(Sunk {
                    sink: name,
                    outcome: outcome.as_str(),
                    message: None,
                });
            }
            Err(error) => {
                sunk.push(Sunk {
                    sink: name,
                    outcome: "failed",
                    message: Some(format!("{error:#}")),
                });
                return (sunk, ExitStatus::Failed);
            }
        }
    }
    (
        sunk,
        if known {
            ExitStatus::Done
        } else {
            ExitStatus::Unsupported
        },
    )
}

fn status_of(refusal: &Refusal) -> ExitStatus {
    match refusal {
        Refusal::NotPrepared {
            state: State::Damaged, ..
        } => ExitStatus::Damaged,
        Refusal::NotPrepared { .. } => ExitStatus::NothingPrepared,
        _ => ExitStatus::Refused,
    }
}

/// The exit code for all devices together: the worst of those that are worth one. An ordinary disk beside a prepared one is no
/// failure.
fn overall(devices: &[Device], unreadable: bool, arguments: &Arguments) -> ExitStatus {
    let any = |status: ExitStatus| devices.iter().any(|device| device.status == status);
    let asked = !arguments.devices.is_empty();
    if unreadable || any(ExitStatus::Failed) {
        ExitStatus::Failed
    } else if any(ExitStatus::Damaged) {
        ExitStatus::Damaged
    } else if any(ExitStatus::Refused) {
        ExitStatus::Refused
    } else if any(ExitStatus::Unsupported) {
        ExitStatus::Unsupported
    } else if !any(ExitStatus::Done) || (asked && any(ExitStatus::NothingPrepared)) {
        ExitStatus::NothingPrepared
    } else {
        ExitStatus::Done
    }
}

/// That nothing was reported, and what to do.
fn nothing(devices: &[Device]) -> String {
    match devices {
        [] => "there is no persistent memory here: nothing to report".to_owned(),
        [device] => format!(
            "{}: nothing to report; prepare it with xen-pmem-provision",
            device.device
        ),
        devices => format!(
            "nothing to report on {} devices; prepare them with xen-pmem-provision",
            devices.len()
        ),
    }
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for device in &document.devices {
        if let Some(refused) = &device.refused {
            let _ = writeln!(text, "{}: not reported: {refused}", device.device);
        } else if document.dry_run {
            let _ = writeln!(text, "{}: would be reported", device.device);
        }
        for Sunk { sink, outcome, message } in &device.sinks {
            let message = message
                .as_ref()
                .map(|message| format!(": {message}"))
                .unwrap_or_default();
            let _ = writeln!(text, "{}: {sink}: {outcome}{message}", device.device);
        }
    }
    text
}
