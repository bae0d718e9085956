//! The command line: the commands, one a module, and what they begin with.

pub(crate) mod apply;
pub(crate) mod doctor;
mod exit;
pub(crate) mod guest;
pub(crate) mod hold;
pub(crate) mod status;
pub(crate) mod watch;
pub(crate) mod withdraw;

use crate::host;
use crate::turn::{self, Turn};
use clap::{CommandFactory as _, Parser, Subcommand};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_discover::document::Scan;
use xen_pmem_discover::scan::{self, Options};
use xen_pmem_nvdimm::node::Nodes;
use xen_pmem_nvdimm::physical_memory::DEV_MEM;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

/// The program's name.
const PROGRAM: &str = "xen-pmem-report";

const EXIT_CODES: &str = "\
Exit codes:
  0  done (also where the hypervisor has no pmem support and XenStore is published)
  1  failed: a sink could not be reached, or refused a report; doctor: a step is bad
  2  the command line is wrong
  3  refused: something about a prepared device is in doubt, or its memory is in use already
  4  nothing prepared, or nothing published, was found
  5  a device that was asked for (with --all: any) is damaged: repair is needed
  6  not supported here: not Xen, not Dom0, a PVH Dom0, no such hypercall";

/// Reports persistent memory prepared for Xen to the hypervisor and to XenStore.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report prepared devices; reporting twice changes nothing
    #[command(after_help = EXIT_CODES)]
    Apply(apply::Arguments),
    /// Check step by step whether this host can report, and say what to do where it cannot; changes nothing
    #[command(after_help = EXIT_CODES)]
    Doctor(doctor::Arguments),
    /// Give partitions to guests of a Xen that has no notion of persistent memory
    #[command(after_help = EXIT_CODES)]
    Guest(guest::Arguments),
    /// Keep drivers from binding to NVDIMMs that are plugged in, so that each is reported first; where the hypervisor takes reports
    #[command(after_help = EXIT_CODES)]
    Hold(hold::Arguments),
    /// Show what is published, beside what a scan finds
    #[command(after_help = EXIT_CODES)]
    Status(status::Arguments),
    /// Follow devices: report each prepared one as it appears, and withdraw it from XenStore when it is gone
    #[command(after_help = EXIT_CODES)]
    Watch(watch::Arguments),
    /// Take reports back from XenStore; the hypervisor keeps what it was told until the next boot
    #[command(after_help = EXIT_CODES)]
    Withdraw(withdraw::Arguments),
}

/// Returns the whole command line, for manuals and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    let Cli { command, flags } = Cli::parse();
    flags.start_log();
    let result = match &command {
        Command::Apply(arguments) => apply::run(arguments, flags),
        Command::Doctor(arguments) => doctor::run(arguments, flags),
        Command::Guest(arguments) => guest::run(arguments, flags),
        Command::Hold(arguments) => hold::run(arguments, flags),
        Command::Status(arguments) => status::run(arguments, flags),
        Command::Watch(arguments) => watch::run(arguments, flags),
        Command::Withdraw(arguments) => withdraw::run(arguments, flags),
    };
    xen_pmem_cli::end(PROGRAM, result)
}

/// The schema's number of the documents that the commands print.
pub(crate) const SCHEMA: u32 = 1;

/// Refuses to go on where there is nothing to report to.
pub(crate) fn require_dom0() -> Result<(), Failure> {
    Ok(host::check(&SysfsRoot::default(), Path::new(host::XENFS))?)
}

/// Returns the lock that keeps runs which change something apart.
pub(crate) fn take_turn() -> Result<Turn, Failure> {
    Ok(turn::take(Path::new(turn::LOCK))?)
}

/// When a host's devices are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// With their drivers bound.
    Late,
    /// Maybe before.
    Early,
}

/// Reads these devices of this host, or all of them. Reports and leaves out those that cannot be read; the second value says whether there
/// are any.
pub(crate) fn scan_host(devices: &[PathBuf], when: When) -> Result<(Scan, bool), Failure> {
    let options = Options {
        sysfs: SysfsRoot::default(),
        nodes: Nodes::System,
        devices: devices.to_vec(),
        devices_only: false,
        memory: (when == When::Early).then(|| DEV_MEM.into()),
    };
    let outcome = scan::scan(&options)?;
    for failure in &outcome.failures {
        tracing::error!("{}: {}", failure.device, failure.error);
    }
    Ok((outcome.scan, !outcome.failures.is_empty()))
}

/// Reads a scan document from a file, or from standard input if it is called `-`.
pub(crate) fn read_scan(path: &Path) -> Result<Scan, Failure> {
    let name = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| Failure::new(ExitStatus::Failed, format!("{name}: cannot be read: {error}")))?;
    Scan::from_json(&text).map_err(|error| Failure::new(ExitStatus::Usage, format!("{name}: {error}")))
}
