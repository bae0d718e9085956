//! `watch`: monitor and apply in one process, for hosts where nothing else runs `apply` when a device appears.

use super::apply::sinks::{Choice, Sinks, Sunk, Told};
use super::{SCHEMA, require_dom0, take_turn};
use crate::report::{self, Report};
use crate::sink::{Outcome, Registration};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;
use xen_pmem_cli::exit::{ExitStatus, Exits as _};
use xen_pmem_cli::{Failure, Flags, Printed};
use xen_pmem_discover::cli::origin::Origin;
use xen_pmem_discover::document::Device;
use xen_pmem_discover::monitor::Monitor;
use xen_pmem_discover::monitor::wait::Stop;
use xen_pmem_discover::scan::Options;

/// How often XenStore is looked at: a xenstored that was started anew knows nothing.
const INTERVAL: Duration = Duration::from_secs(5);
/// How soon a XenStore that cannot be reached is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to report to
    #[arg(long, value_enum, default_value_t = Choice::All)]
    sink: Choice,
    /// Where events come from
    #[arg(long, value_enum, default_value_t = Origin::Auto)]
    source: Origin,
}

/// What happened, as it is printed: one to a line.
#[derive(Serialize)]
struct Line {
    schema: u32,
    event: Event,
    device: Option<String>,
    uuid: Option<String>,
    sinks: Vec<Sunk>,
    reason: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    /// The sinks were told.
    Reported,
    /// A prepared device is not reported.
    Refused,
    /// What was published has been taken back.
    Withdrawn,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    arguments.source.check()?;
    require_dom0()?;
    let mut monitor = Monitor::new(Options::default(), arguments.source.open()?);
    let stop = Stop::catch().map_err(|error| Failure::failed(format_args!("signals cannot be caught: {error}")))?;
    let mut watch = Watch::new(arguments.sink);
    let mut complaint = None;
    loop {
        monitor.look().map_err(Failure::failed)?;
        let devices: Vec<Device> = monitor.devices().cloned().collect();
        let all_read = monitor.failures().is_empty();
        let patience = match watch.reconcile(&devices, all_read) {
            Ok(()) => {
                complaint = None;
                INTERVAL
            }
            Err(failure) => {
                // It is tried again and again, and said once.
                if complaint.as_ref() != Some(&failure.message) {
                    tracing::error!("{}", failure.message);
                }
                complaint = Some(failure.message);
                RETRY
            }
        };
        for line in watch.lines.drain(..) {
            if flags.print_line(&line, || text(&line))? == Printed::NobodyReads {
                return Ok(ExitStatus::Done);
            }
        }
        let patience = monitor.patience().map_or(patience, |sooner| sooner.min(patience));
        let stopped = stop
            .or_readable(&[monitor.fd()], Some(patience))
            .map_err(|error| Failure::failed(format_args!("cannot wait for events: {error}")))?;
        if stopped {
            return Ok(ExitStatus::Done);
        }
    }
}

/// What has been reported.
struct Watch {
    choice: Choice,
    sinks: Option<Sinks>,
    told: BTreeMap<Uuid, (Report, Known)>,
    refused: BTreeMap<String, String>,
    lines: Vec<Line>,
}

/// The facts about a report that was made.
#[derive(Clone, Copy)]
enum Known {
    /// It was taken, and this is what the hypervisor said.
    Taken(Option<Registration>),
    /// It was refused: asking again would change nothing until the device changes.
    Refused,
}

impl Watch {
    fn new(choice: Choice) -> Self {
        Self {
            choice,
            sinks: None,
            told: BTreeMap::new(),
            refused: BTreeMap::new(),
            lines: Vec::new(),
        }
    }

    /// Reports exactly these devices to the sinks and withdraws all others. A device that could not be read stays as it was.
    fn reconcile(&mut self, devices: &[Device], all_read: bool) -> Result<(), Failure> {
        let _turn = take_turn()?;
        let mut sinks = match self.sinks.take() {
            Some(sinks) => sinks,
            None => Sinks::open(self.choice, false)?,
        };
        let decided = report::of_all(devices);
        self.say_refusals(&decided);
        let reports: Vec<&Report> = decided.iter().filter_map(|(_, report)| report.as_ref().ok()).collect();
        self.told
            .retain(|uuid, _| reports.iter().any(|report| report.uuid() == *uuid));
        if all_read {
            for uuid in sinks.withdraw_others(&reports)? {
                self.say(Event::Withdrawn, None, Some(uuid), Vec::new());
            }
        }
        for report in reports {
            self.tell(&mut sinks, report)?;
        }
        // Kept only if all went well: otherwise a new connection may help.
        self.sinks = Some(sinks);
        Ok(())
    }

    fn tell(&mut self, sinks: &mut Sinks, report: &Report) -> Result<(), Failure> {
        let uuid = report.uuid();
        match self.told.get(&uuid).filter(|(before, _)| before == report) {
            Some((_, Known::Refused)) => Ok(()),
            Some((_, Known::Taken(verdict))) => {
                let again = sinks.publish_again(report, *verdict)?;
                if again == Outcome::Published {
                    self.say(Event::Reported, Some(report), Some(uuid.to_string()), Vec::new());
                }
                Ok(())
            }
            None => {
                let Told { sunk, status, verdict } = sinks.publish(report, None);
                let known = match status {
                    ExitStatus::Done | ExitStatus::Unsupported => Known::Taken(verdict),
                    // XenStore's failure passes, the hypervisor's verdict does not.
                    ExitStatus::Failed if verdict.is_some() || self.choice == Choice::Xenstore => {
                        let message = sunk.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                        return Err(Failure::new(status, format!("{}: {message}", report.device())));
                    }
                    _ => Known::Refused,
                };
                self.told.insert(uuid, (report.clone(), known));
                let event = match known {
                    Known::Taken(_) => Event::Reported,
                    Known::Refused => Event::Refused,
                };
                self.say(event, Some(report), Some(uuid.to_string()), sunk);
                Ok(())
            }
        }
    }

    /// Says why a device with a reservation is not reported, once.
    fn say_refusals(&mut self, decided: &[(&Device, Result<Report, report::Refusal>)]) {
        let mut refused = BTreeMap::new();
        for (device, report) in decided {
            if let (Err(refusal), Some(uuid)) = (report, device.uuid) {
                let reason = refusal.told();
                if self.refused.get(&device.device) != Some(&reason) {
                    self.lines.push(Line {
                        schema: SCHEMA,
                        event: Event::Refused,
                        device: Some(device.device.clone()),
                        uuid: Some(uuid.to_string()),
                        sinks: Vec::new(),
                        reason: Some(reason.clone()),
                    });
                }
                refused.insert(device.device.clone(), reason);
            }
        }
        self.refused = refused;
    }

    fn say(&mut self, event: Event, report: Option<&Report>, uuid: Option<String>, sinks: Vec<Sunk>) {
        self.lines.push(Line {
            schema: SCHEMA,
            event,
            device: report.map(|report| report.device().to_owned()),
            uuid,
            sinks,
            reason: None,
        });
    }
}

fn text(line: &Line) -> String {
    let event = match line.event {
        Event::Reported => "reported",
        Event::Refused => "refused",
        Event::Withdrawn => "withdrawn",
    };
    let mut text = event.to_owned();
    for word in [&line.device, &line.uuid].into_iter().flatten() {
        text += &format!(" {word}");
    }
    let details: Vec<String> = line
        .sinks
        .iter()
        .map(ToString::to_string)
        .chain(line.reason.clone())
        .collect();
    if !details.is_empty() {
        text += &format!(": {}", details.join("; "));
    }
    text
}
