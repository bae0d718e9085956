//! The command line: the commands, one a module.

pub(crate) mod backup;
mod canvas;
mod change;
mod exit;
mod fsdax;
pub(crate) mod init;
pub(crate) mod remove;
pub(crate) mod repair;
pub(crate) mod resize;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod verify;
mod watched;
mod wipe;

use self::exit::Refused;
use self::watched::Watched;
use crate::document::Document;
use crate::plan::Refusal;
use crate::target::{self, Target};
use clap::{CommandFactory as _, Parser, Subcommand};
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use xen_pmem_cli::exit::{ExitStatus, Exits};
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::inspect::{Inspection, State};

/// The program's name.
const PROGRAM: &str = "xen-pmem-provision";

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
#[command(name = PROGRAM, version, after_help = EXIT_CODES)]
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
    Init(init::Arguments),
    /// Show what is on a device or an image
    #[command(after_help = EXIT_CODES)]
    Show(show::Arguments),
    /// Check a device or an image: reads only, and says what is wrong
    #[command(after_help = EXIT_CODES)]
    Verify(verify::Arguments),
    /// Take the super blocks away and give the reserved area back; partitions and their content stay
    #[command(after_help = EXIT_CODES)]
    Remove(remove::Arguments),
    /// Heal a damaged target from its good half; refuse where that is not beyond doubt
    #[command(after_help = EXIT_CODES)]
    Repair(repair::Arguments),
    /// Make the reserved area larger or smaller, within the gap before the first partition
    #[command(after_help = EXIT_CODES)]
    Resize(resize::Arguments),
    /// Save the partition tables and the super blocks in a file
    #[command(after_help = EXIT_CODES)]
    Backup(backup::Arguments),
    /// Put saved partition tables and super blocks back
    #[command(after_help = EXIT_CODES)]
    Restore(restore::Arguments),
    /// Make a partition come up in fsdax mode in the guest that gets it: write the info block that Linux looks for
    #[command(after_help = EXIT_CODES)]
    Fsdax(fsdax::Arguments),
    /// Zero a partition before it goes to another guest
    #[command(after_help = EXIT_CODES)]
    Wipe(wipe::Arguments),
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
        Command::Init(arguments) => init::run(arguments, flags),
        Command::Show(arguments) => show::run(arguments, flags),
        Command::Verify(arguments) => verify::run(arguments, flags),
        Command::Remove(arguments) => remove::run(arguments, flags),
        Command::Repair(arguments) => repair::run(arguments, flags),
        Command::Resize(arguments) => resize::run(arguments, flags),
        Command::Backup(arguments) => backup::run(arguments, flags),
        Command::Restore(arguments) => restore::run(arguments, flags),
        Command::Fsdax(arguments) => fsdax::run(arguments, flags),
        Command::Wipe(arguments) => wipe::run(arguments, flags),
    };
    xen_pmem_cli::end(PROGRAM, result)
}

/// Looks at a target; people see it if that takes long.
pub(crate) fn inspect(target: &Target) -> Result<Inspection, target::Error> {
    target.inspect_through(&Watched::new(target.file(), "searching for super blocks"))
}

/// Returns what went wrong with a target.
pub(crate) fn failure(target: &Path, status: ExitStatus, error: impl std::fmt::Display) -> Failure {
    Failure::new(status, format!("{}: {error}", target.display()))
}

/// Returns why a target cannot be used.
pub(crate) fn unusable(path: &Path, error: &(impl Exits + Display)) -> Failure {
    failure(path, error.exit_status(), error.told())
}

/// Returns why a plan is not carried out on a target.
pub(crate) fn refused(path: &Path, refusal: &Refusal) -> Failure {
    let target = &path.display().to_string();
    unusable(path, &Refused { refusal, target })
}

/// Returns why a target cannot be looked at; where a document is asked for, it says so too.
pub(crate) fn unusable_document(path: &Path, error: &target::Error, flags: Flags) -> Failure {
    let document = Document::of_unusable(&path.display().to_string(), error.told());
    // The message for people appears once, on standard error.
    match flags.print(&document, String::new) {
        Ok(()) => unusable(path, error),
        Err(failure) => failure,
    }
}

/// Returns the exit code that a state is shown with.
pub(crate) fn status_of(state: State) -> ExitStatus {
    match state {
        State::Prepared | State::Degraded => ExitStatus::Done,
        State::Damaged => ExitStatus::Damaged,
        State::Unprepared => ExitStatus::NothingPrepared,
    }
}
