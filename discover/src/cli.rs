//! The command line: the commands, one a module.

mod exit;
pub(crate) mod guard;
pub(crate) mod monitor;
pub mod origin;
pub(crate) mod scan;
mod text;

use clap::{CommandFactory as _, Parser, Subcommand};
use std::process::ExitCode;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};

const EXIT_CODES: &str = "\
Exit codes:
  0  done: of a scan, at least one of the devices asked for is prepared, none is damaged
  1  failed: a device could not be read, and the like
  2  the command line is wrong
  4  none of the devices asked for is prepared
  5  a device asked for is damaged: repair is needed
  6  not supported here: no eBPF, or no such source of events";

/// Finds persistent memory prepared for Xen and its physical addresses. Reads only.
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
    /// Look once: list persistent memory, what of it is prepared, and where it lies in physical address space
    #[command(after_help = scan::EXIT_CODES)]
    Scan(scan::Arguments),
    /// Watch the areas reserved for Xen: a line for each write to one, with who wrote
    #[command(after_help = guard::EXIT_CODES)]
    Guard(guard::Arguments),
    /// Follow devices as they come, change and go: first all that are there, then a line for each event
    #[command(after_help = monitor::EXIT_CODES)]
    Monitor(monitor::Arguments),
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
        Command::Scan(arguments) => scan::run(arguments, flags),
        Command::Guard(arguments) => guard::run(arguments, flags),
        Command::Monitor(arguments) => monitor::run(arguments, flags),
    };
    xen_pmem_cli::end(PROGRAM, result)
}

/// The program's name, for messages.
pub(crate) const PROGRAM: &str = "xen-pmem-discover";

/// Why a build without eBPF does not do what takes it.
#[cfg(not(feature = "bpf"))]
pub(crate) const NO_BPF: &str = "this program was built without eBPF support (the feature `bpf`)";

/// Returns an error of the operating system.
pub(crate) fn failed(message: String) -> Failure {
    Failure::new(ExitStatus::Failed, message)
}
