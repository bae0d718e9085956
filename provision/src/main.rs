//! `xen-pmem-provision`: the command line.

#![forbid(unsafe_code)]

mod cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xen_pmem_format::cli::{Flags, end};

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
    #[command(flatten)]
    flags: Flags,
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
    let Cli { command, flags } = Cli::parse();
    flags.start_log();
    let result = match &command {
        Command::Init(arguments) => cli::init::run(arguments, flags),
        Command::Show(arguments) => cli::show::run(arguments, flags),
        Command::Verify(arguments) => cli::verify::run(arguments, flags),
        Command::Remove(arguments) => cli::remove::run(arguments, flags),
        Command::Repair(arguments) => cli::repair::run(arguments, flags),
        Command::Resize(arguments) => cli::resize::run(arguments, flags),
        Command::Backup(arguments) => cli::backup::run(arguments, flags),
        Command::Restore(arguments) => cli::restore::run(arguments, flags),
    };
    end(env!("CARGO_BIN_NAME"), result)
}
