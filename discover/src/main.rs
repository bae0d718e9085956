//! `xen-pmem-discover`: the command line.

use anyhow::Context;
use clap::{ArgAction, Args, Parser, Subcommand};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::filter::LevelFilter;
use xen_pmem_discover::node::Nodes;
use xen_pmem_discover::scan::{self, Options, Outcome};
use xen_pmem_discover::sysfs::SysfsRoot;
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_format::units::PhysAddr;

mod text;

const EXIT_CODES: &str = "\
Exit codes:
  0  at least one of the devices asked for is prepared, none is damaged
  1  a device could not be read
  2  the command line is wrong
  4  none of the devices asked for is prepared
  5  a device asked for is damaged: repair is needed";

/// Finds persistent memory prepared for Xen and its physical addresses. Reads only.
#[derive(Debug, Parser)]
#[command(name = "xen-pmem-discover", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print a JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Print no text: the exit code tells (errors and JSON documents are printed)
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say on standard error what is looked at; twice: in detail
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look once: list persistent memory, what of it is prepared, and where it lies in physical address space
    #[command(after_help = EXIT_CODES)]
    Scan(ScanArgs),
}

#[derive(Debug, Args)]
struct ScanArgs {
    /// Devices by node or name (/dev/pmem0, pmem0, namespace0.0) [default: all]
    #[arg(value_name = "DEVICE")]
    devices: Vec<PathBuf>,
    /// Look at an image file as if it lay at the physical address of --base
    #[arg(long, value_name = "FILE", requires = "base", conflicts_with_all = ["devices", "sysfs", "dev"])]
    image: Option<PathBuf>,
    /// The physical address of the image, hexadecimal (0x...) or decimal
    #[arg(long, value_name = "ADDRESS", requires = "image")]
    base: Option<PhysAddr>,
    /// Where sysfs is: /sys, or a recorded tree
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    sysfs: PathBuf,
    /// Where to find images named like the devices of a recorded tree [default: the devices' nodes in /dev]
    #[arg(long, value_name = "DIR")]
    dev: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.verbose);
    match run(&cli) {
        Ok(status) => status.into(),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitStatus::Failed.into()
        }
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .without_time()
        .init();
}

/// Tells people what went wrong. That standard error itself fails is nothing that could be told.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "xen-pmem-discover: {what}");
}

fn run(cli: &Cli) -> anyhow::Result<ExitStatus> {
    let Command::Scan(args) = &cli.command;
    let result = match (&args.image, args.base) {
        (Some(image), Some(base)) => scan::scan_image(image, base),
        _ => scan::scan(&Options {
            sysfs: SysfsRoot::new(&args.sysfs),
            nodes: args.dev.clone().map_or(Nodes::System, Nodes::Recorded),
            devices: args.devices.clone(),
        }),
    };
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            match &args.image {
                Some(image) => complain(&format!("{}: {error}", image.display())),
                None => complain(&error.to_string()),
            }
            return Ok(error.exit_status());
        }
    };
    for failure in &outcome.failures {
        complain(&format!("{}: {}", failure.device, failure.error));
    }
    print(cli, &outcome).context("cannot write to standard output")?;
    Ok(outcome.exit_status())
}

fn print(cli: &Cli, outcome: &Outcome) -> io::Result<()> {
    let text = if cli.json {
        serde_json::to_string_pretty(&outcome.scan)? + "\n"
    } else if cli.quiet {
        return Ok(());
    } else {
        text::of(outcome)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
