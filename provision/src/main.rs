//! `xen-pmem-provision`: the command line.

#![forbid(unsafe_code)]

mod cli;

use clap::{ArgAction, Parser, Subcommand};
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed (I/O and the like)
  2  the command line is wrong
  3  refused, to protect data or because the device is in use
  4  there is nothing prepared on the target
  5  the target is damaged (verify: or degraded): repair is needed";

/// Prepares persistent memory for Xen, offline: partition table, super block, reserved area.
#[derive(Debug, Parser)]
#[command(name = "xen-pmem-provision", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print a JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but errors (and JSON documents)
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say on standard error what is done; twice: each write
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare a device or an image: partition table, super block, reserved area, partitions
    #[command(after_help = EXIT_CODES)]
    Init(cli::init::Arguments),
    /// Show what is on a device or an image
    #[command(after_help = EXIT_CODES)]
    Show(cli::show::Arguments),
    /// Check a device or an image: reads only, and says what is wrong
    #[command(after_help = EXIT_CODES)]
    Verify(cli::verify::Arguments),
    /// Take the super blocks away and give the reserved area back; partitions and their content stay
    #[command(after_help = EXIT_CODES)]
    Remove(cli::remove::Arguments),
    /// Heal a damaged target from its good half; refuse where that is not beyond doubt
    #[command(after_help = EXIT_CODES)]
    Repair(cli::repair::Arguments),
    /// Make the reserved area larger or smaller, within the gap before the first partition
    #[command(after_help = EXIT_CODES)]
    Resize(cli::resize::Arguments),
    /// Save the partition tables and the super blocks in a file
    #[command(after_help = EXIT_CODES)]
    Backup(cli::backup::Arguments),
    /// Put saved partition tables and super blocks back
    #[command(after_help = EXIT_CODES)]
    Restore(cli::restore::Arguments),
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
        Command::Init(arguments) => cli::init::run(arguments, printing),
        Command::Show(arguments) => cli::show::run(arguments, printing),
        Command::Verify(arguments) => cli::verify::run(arguments, printing),
        Command::Remove(arguments) => cli::remove::run(arguments, printing),
        Command::Repair(arguments) => cli::repair::run(arguments, printing),
        Command::Resize(arguments) => cli::resize::run(arguments, printing),
        Command::Backup(arguments) => cli::backup::run(arguments, printing),
        Command::Restore(arguments) => cli::restore::run(arguments, printing),
    };
    match result {
        Ok(status) => status.into(),
        Err(failure) => {
            // That standard error itself fails is nothing that could be told.
            let _ = writeln!(io::stderr(), "xen-pmem-provision: {failure}");
            failure.status.into()
        }
    }
}
