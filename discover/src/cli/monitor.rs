//! `monitor`: follows devices.

use super::failed;
use crate::monitor::changes::Event;
use crate::monitor::netlink::Netlink;
use crate::monitor::wait::Stop;
use crate::monitor::{Monitor, Source as Hints};
use crate::scan::Options;
use clap::{Args, ValueEnum};
use xen_pmem_format::cli::{Failure, Flags, Printed};
use xen_pmem_format::exit::ExitStatus;

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  ended by SIGTERM or SIGINT, or by its reader
  1  events could not be received any more
  2  the command line is wrong
  6  the source is not available here";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where events come from
    #[arg(long, value_enum, default_value_t = Source::Auto)]
    source: Source,
}

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The kernel's broadcast, which is there on every kernel
    Auto,
    /// The kernel's broadcast of device events
    Netlink,
    /// The kernel's functions that make these events, through eBPF
    Bpf,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    match arguments.source {
        Source::Bpf => follow_bpf(flags),
        Source::Auto => {
            // eBPF tells of nothing that the broadcast does not, takes root, and is not in every kernel and build.
            tracing::info!("the source is netlink: it tells of all that eBPF does, and needs neither root nor BTF");
            follow_netlink(flags)
        }
        Source::Netlink => follow_netlink(flags),
    }
}

fn follow_netlink(flags: Flags) -> Result<ExitStatus, Failure> {
    let netlink = Netlink::open()
        .map_err(|error| failed(format!("the kernel's device events cannot be listened to: {error}")))?;
    follow(Monitor::new(Options::default(), netlink), flags)
}

#[cfg(feature = "bpf")]
fn follow_bpf(flags: Flags) -> Result<ExitStatus, Failure> {
    let hints = crate::bpf::hints::Hints::open()
        .map_err(|unavailable| Failure::new(ExitStatus::Unsupported, unavailable.to_string()))?;
    follow(Monitor::new(Options::default(), hints), flags)
}

#[cfg(not(feature = "bpf"))]
fn follow_bpf(_: Flags) -> Result<ExitStatus, Failure> {
    Err(Failure::new(ExitStatus::Unsupported, super::NO_BPF))
}

fn follow(mut monitor: Monitor<impl Hints>, flags: Flags) -> Result<ExitStatus, Failure> {
    let stop = Stop::catch().map_err(|error| failed(format!("signals cannot be caught: {error}")))?;
    let mut unread = Vec::new();
    loop {
        for event in monitor.look().map_err(|error| failed(error.to_string()))? {
            if flags.print_line(&event, || text(&event))? == Printed::NobodyReads {
                return Ok(ExitStatus::Done);
            }
        }
        // Each is tried again and again; it is said once.
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
