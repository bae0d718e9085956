//! `xen-pmem-discover`: the command line.

mod cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xen_pmem_format::cli::{Flags, end};

/// Finds persistent memory prepared for Xen and its physical addresses. Reads only.
#[derive(Debug, Parser)]
#[command(name = "xen-pmem-discover", version, after_help = cli::scan::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look once: list persistent memory, what of it is prepared, and where it lies in physical address space
    #[command(after_help = cli::scan::EXIT_CODES)]
    Scan(cli::scan::Arguments),
    /// Watch the areas reserved for Xen: a line for each write to one, with who wrote
    #[command(after_help = cli::guard::EXIT_CODES)]
    Guard(cli::guard::Arguments),
    /// Follow devices as they come, change and go: first all that are there, then a line for each event
    #[command(after_help = cli::monitor::EXIT_CODES)]
    Monitor(cli::monitor::Arguments),
}

fn main() -> ExitCode {
    let Cli { command, flags } = Cli::parse();
    flags.start_log();
    let result = match &command {
        Command::Scan(arguments) => cli::scan::run(arguments, flags),
        Command::Guard(arguments) => cli::guard::run(arguments, flags),
        Command::Monitor(arguments) => cli::monitor::run(arguments, flags),
    };
    end(cli::PROGRAM, result)
}
