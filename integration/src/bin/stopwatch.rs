//! Takes times in a guest, by its own clock, and prints them in nanoseconds as JSON.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "run by developers, on a terminal or in CI"
)]

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use xen_pmem_integration::stopwatch::blocks::{self, How, What};
use xen_pmem_integration::stopwatch::{commands, event};

/// Takes times in a guest, by its own clock, and prints them in nanoseconds as JSON.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the command lines that standard input has, in turn
    Commands {
        /// How often each is run
        #[arg(long)]
        rounds: usize,
    },
    /// From the kernel's event that a disk was added to a node of XenStore's that has a value
    Event {
        /// The disk's name
        #[arg(long)]
        disk: String,
        /// The node's path
        #[arg(long)]
        node: String,
        /// Its value
        #[arg(long)]
        value: String,
        /// What makes the disk appear
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Write blocks of 4 KiB to a device; what it held is lost
    Writes {
        /// The device
        device: PathBuf,
        /// How many
        #[arg(long)]
        count: u64,
        /// How they reach the device
        #[arg(long, value_enum)]
        how: How,
    },
    /// Read blocks of 4 KiB of a device, here and there
    Reads {
        /// The device
        device: PathBuf,
        /// How many
        #[arg(long)]
        count: u64,
        /// How they are read
        #[arg(long, value_enum)]
        how: How,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(document) => {
            println!("{document}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("xen-pmem-stopwatch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<String> {
    let document = match command {
        Command::Commands { rounds } => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading commands")?;
            let lines: Vec<&str> = text.lines().collect();
            serde_json::to_string(&commands::time(&lines, rounds)?)
        }
        Command::Event {
            disk,
            node,
            value,
            command,
        } => serde_json::to_string(&event::time(&disk, &node, &value, &command)?),
        Command::Writes { device, count, how } => {
            serde_json::to_string(&blocks::time(&device, count, how, What::Writes)?)
        }
        Command::Reads { device, count, how } => {
            serde_json::to_string(&blocks::time(&device, count, how, What::Reads)?)
        }
    };
    Ok(document?)
}
