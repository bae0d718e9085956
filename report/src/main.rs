//! `xen-pmem-report`: the command line.

mod cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xen_pmem_format::cli::{Flags, end};

const EXIT_CODES: &str = "\
Exit codes:
  0  done (also where the hypervisor has no pmem support and XenStore is published)
  1  failed: a sink could not be reached, or refused a report
  2  the command line is wrong
  3  refused: something about a prepared device is in doubt, or its memory is in use already
  4  nothing prepared, or nothing published, was found
  5  a device that was asked for (with --all: any) is damaged: repair is needed
  6  not supported here: not Xen, not Dom0, a PVH Dom0, no such hypercall";

/// Reports persistent memory prepared for Xen to the hypervisor and to XenStore.
#[derive(Debug, Parser)]
#[command(name = "xen-pmem-report", version, after_help = EXIT_CODES)]
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
    Apply(cli::apply::Arguments),
    /// Show what is published, beside what a scan finds
    #[command(after_help = EXIT_CODES)]
    Status(cli::status::Arguments),
    /// Follow devices: report each prepared one as it appears, and withdraw it from XenStore when it is gone
    #[command(after_help = EXIT_CODES)]
    Watch(cli::watch::Arguments),
    /// Take reports back from XenStore; the hypervisor keeps what it was told until the next boot
    #[command(after_help = EXIT_CODES)]
    Withdraw(cli::withdraw::Arguments),
}

fn main() -> ExitCode {
    let Cli { command, flags } = Cli::parse();
    flags.start_log();
    let result = match &command {
        Command::Apply(arguments) => cli::apply::run(arguments, flags),
        Command::Status(arguments) => cli::status::run(arguments, flags),
        Command::Watch(arguments) => cli::watch::run(arguments, flags),
        Command::Withdraw(arguments) => cli::withdraw::run(arguments, flags),
    };
    end(env!("CARGO_BIN_NAME"), result)
}
