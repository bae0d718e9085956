//! `xen-pmem-report`: the command line.

mod cli;

use clap::{ArgAction, Parser, Subcommand};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

const EXIT_CODES: &str = "\
Exit codes:
  0  done (also where the hypervisor has no pmem support and XenStore is published)
  1  failed: a sink could not be reached, or refused a report
  2  the command line is wrong
  3  refused: a prepared device is not reported because something about it is in doubt
  4  nothing prepared, or nothing published, was found
  5  a device that was asked for is damaged: repair is needed
  6  not supported here: not Xen, not Dom0, a PVH Dom0, no such hypercall";

/// Reports persistent memory prepared for Xen to the hypervisor and to XenStore.
#[derive(Debug, Parser)]
#[command(name = "xen-pmem-report", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print a JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but errors (and JSON documents)
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say on standard error what is done; twice: in detail
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report prepared devices; reporting twice changes nothing
    #[command(after_help = EXIT_CODES)]
    Apply(cli::apply::Arguments),
    /// Show what is published, beside what a scan finds
    #[command(after_help = EXIT_CODES)]
    Status(cli::status::Arguments),
    /// Take reports back from XenStore; the hypervisor keeps what it was told until the next boot
    #[command(after_help = EXIT_CODES)]
    Withdraw(cli::withdraw::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
    let printing = cli::Printing {
        json: cli.json,
        quiet: cli.quiet,
    };
    let result = match &cli.command {
        Command::Apply(arguments) => cli::apply::run(arguments, printing),
        Command::Status(arguments) => cli::status::run(arguments, printing),
        Command::Withdraw(arguments) => cli::withdraw::run(arguments, printing),
    };
    match result {
        Ok(status) => status.into(),
        Err(failure) => {
            // That standard error itself fails is nothing that could be told.
            let _ = writeln!(io::stderr(), "xen-pmem-report: {failure}");
            failure.status.into()
        }
    }
}
