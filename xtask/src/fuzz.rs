//! `cargo xtask fuzz`: runs the fuzz targets, each for a bounded time.
//!
//! The instrumentation is the compiler's own and needs no nightly toolchain; without a sanitizer, which safe code does not need.

use crate::command;
use crate::host::{self, Need};
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What libFuzzer, which is C++, is built with.
pub(crate) const NEEDS: &[Need] = &[Need {
    program: "g++",
    package: "g++",
}];

/// The compiler's flags of cargo-fuzz without the sanitizer.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The targets, and the longest input that makes sense for each.
const TARGETS: &[(&str, u32)] = &[
    ("superblock", 4096),
    ("device", 2048),
    ("sysfs", 512),
    ("scan-document", 4096),
    ("nfit", 1024),
    ("info-block", 4096),
];

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// The seed of the random numbers; 0 takes another one each time
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Run these targets only
    targets: Vec<String>,
}

/// Runs the targets; what one finds stays in `target/fuzz/found`.
///
/// # Errors
///
/// If one does not build, or finds something.
pub(crate) fn run(options: &Options) -> Result<()> {
    step("building the fuzz targets");
    let target = workspace::target().join("fuzz");
    let found = target.join("found");
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    cargo("build", &["--release", "--target", TARGET])?;
    let folder = folder();
    for (name, longest) in TARGETS {
        if !options.targets.is_empty() && !options.targets.iter().any(|wanted| wanted == name) {
            continue;
        }
        step(&format!("fuzzing {name} for {} s", options.seconds));
        // New inputs go to the first folder, the committed ones are only read.
        let corpus = target.join("corpus").join(name);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let log = command::output_of_both(
            Command::new(target.join(TARGET).join("release").join(name))
                .arg(format!("-max_total_time={}", options.seconds))
                .arg(format!("-max_len={longest}"))
                .arg(format!("-seed={}", options.seed))
                .arg(format!("-artifact_prefix={}/{name}-", found.display()))
                .arg("-timeout=10")
                .arg(&corpus)
                .arg(folder.join("corpus").join(name)),
        )?;
        let last = log
            .lines()
            .rev()
            .find(|line| line.starts_with("Done "))
            .unwrap_or("it said nothing");
        println!("{name}: {last}, nothing found");
    }
    Ok(())
}

/// Runs clippy on the targets, which are apart from the workspace.
///
/// # Errors
///
/// If it finds something, or their lock file is not up to date.
pub(crate) fn lint() -> Result<()> {
    cargo("clippy", &[])
}

/// Runs one of Cargo's commands on the targets.
fn cargo(subcommand: &str, more: &[&str]) -> Result<()> {
    if subcommand == "clippy" {
        host::require(NEEDS)?;
    } else {
        host::install(NEEDS)?;
    }
    let mut command = workspace::cargo();
    command
        .current_dir(folder())
        .env("CARGO_TARGET_DIR", workspace::target().join("fuzz"))
        .args([subcommand, "--quiet", "--locked", "--bins"])
        .args(more);
    if subcommand == "build" {
        command.env("RUSTFLAGS", RUSTFLAGS);
    } else {
        command.args(["--", "-D", "warnings"]);
    }
    command::run(&mut command)
}

/// Returns where the targets are.
fn folder() -> PathBuf {
    workspace::root().join("fuzz")
}
