//! `guest`: gives partitions to guests of a Xen that has no notion of persistent memory.

mod claim;
mod list;
mod release;

use crate::guest::dm::{DeviceMapper, Error};
use crate::guest::domains;
use clap::Subcommand;
use std::collections::BTreeSet;
use std::path::Path;
use xen_pmem_cli::exit::{ExitStatus, Exits as _};
use xen_pmem_cli::{Failure, Flags};

/// How this works, and what it lacks.
const ABOUT: &str = "\
Debian's own Xen can map a partition into a PVH guest (`iomem=`), and Linux in the guest takes the ACPI tables that describe it from \
an archive in front of its initramfs. `claim` has Dom0's kernel hold the partition, so that nothing else can use it, writes the \
archive, and prints the lines for the guest's configuration. Claims last until they are released, or until Dom0 reboots: machine \
addresses may be others then, so claim anew before the guest starts.";

#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Claim partitions for a domain that is to be created, and write what its configuration needs
    #[command(after_help = super::EXIT_CODES)]
    Claim(claim::Arguments),
    /// Release claims: the partitions are Dom0's again
    #[command(after_help = super::EXIT_CODES)]
    Release(release::Arguments),
    /// List claims, and whether their domains are there
    #[command(after_help = super::EXIT_CODES)]
    List(list::Arguments),
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    super::require_dom0()?;
    match &arguments.command {
        Command::Claim(arguments) => claim::run(arguments, flags),
        Command::Release(arguments) => release::run(arguments, flags),
        Command::List(arguments) => list::run(arguments, flags),
    }
}

fn device_mapper() -> Result<DeviceMapper, Failure> {
    DeviceMapper::open().map_err(Failure::failed)
}

/// Returns why the device-mapper does not do something with what is called `name`.
fn refused(name: &str, error: &Error) -> Failure {
    Failure::new(error.exit_status(), format!("{name}: {}", error.told()))
}

/// Returns the names of the domains that there are.
fn domain_names() -> Result<BTreeSet<String>, Failure> {
    Ok(domains::of_host()?)
}

fn name_of(path: &Path) -> String {
    path.display().to_string()
}
