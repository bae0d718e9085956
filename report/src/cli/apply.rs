//! `apply`: reports prepared devices.

pub(crate) mod sinks;

use super::{SCHEMA, When, read_scan, require_dom0, scan_host, take_turn};
use crate::report::{self, Refusal, Report};
use serde::Serialize;
use sinks::{Sinks, Sunk};
use std::fmt::Write as _;
use std::path::PathBuf;
use uuid::Uuid;
use xen_pmem_cli::exit::{ExitStatus, Exits as _};
use xen_pmem_cli::{Failure, Flags, in_journal};
use xen_pmem_discover::document::{self, Scan};
use xen_pmem_nvdimm::bus::NdBus;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

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
    /// Where to report to [default: all; with --early, hypercall]
    #[arg(long, value_enum)]
    sink: Option<sinks::Choice>,
    /// Say what would be reported, and report nothing
    #[arg(long)]
    dry_run: bool,
    /// Before nd_pmem binds: read namespaces without a driver through /dev/mem
    #[arg(long, conflicts_with = "from")]
    early: bool,
    /// Bind the drivers of NVDIMMs and regions before the report and those of namespaces after it, where the kernel does not
    /// (/sys/bus/nd/drivers_autoprobe is 0)
    #[arg(long, requires = "early", conflicts_with = "dry_run")]
    bind: bool,
    /// Take the driver from a raw device that is not in use for as long as the report takes, if the hypervisor does not take the
    /// report otherwise
    #[arg(long, conflicts_with_all = ["from", "early", "dry_run"])]
    rebind: bool,
}

impl Arguments {
    fn choice(&self) -> sinks::Choice {
        self.sink.unwrap_or(if self.early {
            sinks::Choice::Hypercall
        } else {
            sinks::Choice::All
        })
    }
}

/// The outcome for all devices.
#[derive(Serialize)]
struct Document {
    schema: u32,
    dry_run: bool,
    devices: Vec<Device>,
}

/// The outcome for one device.
#[derive(Serialize)]
struct Device {
    device: String,
    uuid: Option<Uuid>,
    sinks: Vec<Sunk>,
    refused: Option<String>,
    #[serde(skip)]
    status: ExitStatus,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let offline = arguments.dry_run && arguments.from.is_some();
    if !offline {
        require_dom0()?;
    }
    let _turn = if arguments.dry_run { None } else { Some(take_turn()?) };
    let bus = NdBus::new(SysfsRoot::default());
    if !arguments.bind {
        return report(arguments, flags, &bus, offline);
    }
    bus.bind_regions().map_err(Failure::failed)?;
    let result = report(arguments, flags, &bus, offline);
    // A device that is not reported is an ordinary disk: it gets its driver, too.
    bus.bind_namespaces().map_err(Failure::failed)?;
    result
}

fn report(arguments: &Arguments, flags: Flags, bus: &NdBus, offline: bool) -> Result<ExitStatus, Failure> {
    let seen = look(arguments)?;
    let mut sinks = if offline {
        Sinks::none()
    } else {
        Sinks::open(arguments.choice(), arguments.dry_run)?
    };
    let mut devices = Vec::new();
    for (device, report) in report::of_all(&seen.scan.devices) {
        if seen.asked.as_ref().is_some_and(|asked| !asked.contains(&device.device)) {
            continue;
        }
        let report = match report {
            Ok(report) if arguments.from.is_some() => sinks.ensure_agreement(&report)?.map(|()| report),
            report => report,
        };
        let rebind = arguments.rebind.then_some(bus);
        let (sunk, refused, status) = match &report {
            Ok(report) => tell(&mut sinks, report, arguments.dry_run, rebind),
            Err(refusal) => {
                journal(device, refusal);
                (Vec::new(), Some(refusal.told()), refusal.exit_status())
            }
        };
        devices.push(Device {
            device: device.device.clone(),
            uuid: device.uuid,
            sinks: sunk,
            refused,
            status,
        });
    }
    let status = overall(&devices, seen.unreadable, arguments);
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

fn tell(
    sinks: &mut Sinks,
    report: &Report,
    dry_run: bool,
    rebind: Option<&NdBus>,
) -> (Vec<Sunk>, Option<String>, ExitStatus) {
    let (sunk, status) = if dry_run {
        sinks.ask(report)
    } else {
        let told = sinks.publish(report, rebind);
        (told.sunk, told.status)
    };
    (sunk, None, status)
}

/// The host's devices, or a document's.
struct Seen {
    scan: Scan,
    /// The names of those that were asked for; `None`: all.
    asked: Option<Vec<String>>,
    unreadable: bool,
}

/// Looks at all devices even if the caller names some: two with the same UUID must be noticed.
fn look(arguments: &Arguments) -> Result<Seen, Failure> {
    let when = if arguments.early { When::Early } else { When::Late };
    if let Some(path) = &arguments.from {
        return Ok(Seen {
            scan: read_scan(path)?,
            asked: None,
            unreadable: false,
        });
    }
    if arguments.all {
        let (scan, unreadable) = scan_host(&[], when)?;
        return Ok(Seen {
            scan,
            asked: None,
            unreadable,
        });
    }
    let (asked, unreadable) = scan_host(&arguments.devices, when)?;
    let (scan, _) = scan_host(&[], when)?;
    Ok(Seen {
        scan,
        asked: Some(asked.devices.into_iter().map(|device| device.device).collect()),
        unreadable,
    })
}

/// Logs to the journal why a device was not reported; on a terminal the normal output says so.
fn journal(device: &document::Device, refusal: &Refusal) {
    let name = &device.device;
    let told = refusal.told();
    if refusal.exit_status() == ExitStatus::NothingPrepared {
        tracing::info!(device = name, "{name}: not reported: {told}");
    } else if in_journal() {
        let reservation = device.uuid.map(|uuid| uuid.to_string());
        tracing::error!(device = name, reservation, "{name}: not reported: {told}");
    }
}

/// Returns the exit code for all devices together: the worst of their failures. An ordinary disk beside a prepared one is not a failure.
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

/// Says that nothing was reported, and what to do.
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
        for sunk in &device.sinks {
            let _ = writeln!(text, "{}: {sunk}", device.device);
        }
    }
    text
}
