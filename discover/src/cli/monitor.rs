//! `monitor`: follows devices.

use super::failed;
use super::origin::Origin;
use crate::monitor::Monitor;
use crate::monitor::changes::Event;
use crate::monitor::wait::Stop;
use crate::scan::Options;
use clap::Args;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags, Printed};

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  ended by SIGTERM or SIGINT, or by its reader
  1  events could not be received any more
  2  the command line is wrong
  6  the source is not available here";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where events come from
    #[arg(long, value_enum, default_value_t = Origin::Auto)]
    source: Origin,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let mut monitor = Monitor::new(Options::default(), arguments.source.open()?);
    let stop = Stop::catch().map_err(|error| failed(format!("signals cannot be caught: {error}")))?;
    let mut unread = Vec::new();
    loop {
        for event in monitor.look().map_err(|error| failed(error.to_string()))? {
            if flags.print_line(&event, || text(&event))? == Printed::NobodyReads {
                return Ok(ExitStatus::Done);
            }
        }
        // Each is tried again and again, but reported once.
        let failures: Vec<String> = monitor
            .failures()
            .iter()
            .map(|failure| format!("{}: {}", failure.device, failure.error))
            .collect();
        for failure in failures.iter().filter(|failure| !unread.contains(*failure)) {
            tracing::error!("{failure}");
        }
        unread = failures;
        let stopped = stop
            .or_readable(&[monitor.fd()], monitor.patience())
            .map_err(|error| failed(format!("cannot wait for events: {error}")))?;
        if stopped {
            return Ok(ExitStatus::Done);
        }
    }
}

fn text(event: &Event) -> String {
    let device = &event.device;
    let mut text = format!("{} {}", event.what.as_str(), device.device);
    if let Some(uuid) = device.uuid {
        text += &format!(" reservation {uuid}");
    }
    if let Some(reserved) = device.reserved {
        text += &format!(" reserved {}", reserved.0);
    }
    if let Some(reason) = &device.reason {
        text += &format!(": {reason}");
    }
    text
}
