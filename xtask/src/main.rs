//! Build and test driver of the workspace: `cargo xtask --help`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "run by developers, on a terminal or in CI"
)]

mod bench;
mod cargo_tools;
mod command;
mod consumer;
mod counts;
mod coverage;
mod crates;
mod dist;
mod e2e;
mod fixtures;
mod fuzz;
mod host;
mod image;
mod kernel;
mod libraries;
mod licences;
mod lint;
mod miri;
mod modules;
mod msrv;
mod mutants;
mod packages;
mod progress;
mod qemu;
mod semver;
mod series;
mod setup;
mod structure;
mod suite;
mod system;
mod test;
mod tools;
mod workspace;
mod xen;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Sets up, builds and tests xen-pmem.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what this machine lacks, as root: the packages that all commands need
    Setup,
    /// Run the end-to-end scenarios on real Xen, Dom0, libnvdimm and xenstored, in QEMU
    E2e(e2e::Options),
    /// Make Debian packages and a tarball of static binaries, with manual pages and completions, in target/dist
    Dist(dist::Options),
    /// Build Debian's Xen with the project's patches and print the path of the hypervisor
    Xen(series::Options),
    /// Run all unit, property and CLI tests of the workspace; no VM
    Test(test::Options),
    /// Run the fuzz targets, each for a bounded time
    Fuzz(fuzz::Options),
    /// Run the format's tests in Miri, where that is installed
    Miri,
    /// Check that the stated Rust version is enough
    Msrv,
    /// Record anew the sysfs trees that tests of the discoverer run on
    Fixtures(fixtures::Options),
    /// Run the format's tests on every mutant of it
    Mutants,
    /// Count the lines of the format and of the provisioner that tests run
    Coverage,
    /// Run our commands beside those that people use today, and write docs/performance.md
    Bench(bench::Options),
    /// Count system calls and instructions of the commands, and the sizes of the static binaries; compare with those committed
    Counts(counts::Options),
    /// Compare the public API of the libraries with what is committed
    Semver(semver::Options),
    /// Check formatting and run clippy with warnings as errors
    Lint,
    /// Check the licences of all dependencies against licences.json
    Licences,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup => setup::run(),
        Command::E2e(options) => e2e::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::Xen(options) => series::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Fixtures(options) => fixtures::run(&options),
        Command::Msrv => msrv::run(),
        Command::Miri => miri::run(),
        Command::Mutants => mutants::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Counts(options) => counts::run(&options),
        Command::Semver(options) => semver::run(&options),
        Command::Coverage => coverage::run(),
        Command::Lint => lint::run(),
        Command::Licences => licences::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Command lines of documents that `.ci/run` does not run as they stand, and why not. One that ends with a star stands for all that
    /// begin like it.
    const NOT_IN_CI: &[(&str, &str)] = &[
        (
            "cargo bench*",
            "numbers of the machine; `cargo clippy --all-targets`, part of lint, compiles the benches",
        ),
        ("cargo xtask bench*", "numbers of the machine, written into a document"),
        ("cargo xtask coverage", "a few minutes; reads, and fails for nothing"),
        ("cargo xtask dist", "`--check` does more"),
        ("cargo xtask e2e --jobs 1", "the same scenarios, one after the other"),
        ("cargo xtask e2e --stock", "a part of the same scenarios"),
        ("cargo xtask e2e --keep *", "the same scenario; leaves its folder"),
        ("cargo xtask e2e --shell*", "needs a terminal"),
        (
            "cargo xtask e2e --iommu *",
            "the same scenarios with an IOMMU; `.ci/run` has one of them",
        ),
        ("cargo xtask e2e --suite all", "hours; `.ci/run` has a scenario of each"),
        (
            "cargo xtask fixtures",
            "writes what is committed; the scenarios that it takes run anyhow",
        ),
        ("cargo xtask fuzz", "for 15 seconds, there"),
        ("cargo xtask miri", "no toolchain that has it is to be had everywhere"),
        ("cargo xtask mutants", "twenty minutes"),
    ];

    /// Returns all command lines of documents that begin with `cargo` or `.ci`, with the documents' names: of blocks, and of sentences if
    /// they are more than a name.
    fn documented() -> Vec<(String, String)> {
        let root = workspace::root();
        let mut files = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
        files.extend(
            fs::read_dir(root.join("docs"))
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
        let mut lines = Vec::new();
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        {
            let text = fs::read_to_string(file).unwrap();
            let blocks = text.lines().filter_map(|line| line.strip_prefix("    "));
            let inline = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
            for line in blocks.chain(inline) {
                let line = line.split('#').next().unwrap_or_default().trim();
                if line.starts_with("cargo ") || line.starts_with(".ci/") {
                    lines.push((file.display().to_string(), line.to_owned()));
                }
            }
        }
        lines
    }

    #[test]
    fn documents_have_command_lines_that_exist() {
        let mut seen = 0;
        for (file, line) in documented() {
            let Some(words) = line.strip_prefix("cargo xtask ") else {
                continue;
            };
            if let Err(error) = Cli::try_parse_from(["cargo xtask"].into_iter().chain(words.split_whitespace())) {
                panic!("{file}: {line}\n{error}");
            }
            seen += 1;
        }
        assert!(seen > 20, "{seen} command lines only");
    }

    #[test]
    fn the_readme_says_what_ci_runs_on_each_suite() {
        use clap::ValueEnum as _;
        let read = |name: &str| fs::read_to_string(workspace::root().join(name)).unwrap();
        let (readme, ci) = (read("README.md"), read(".ci/run"));
        let default = Cli::try_parse_from(["cargo xtask", "e2e"]).unwrap();
        let Command::E2e(default) = default.command else {
            panic!("`cargo xtask e2e` is another command");
        };
        for suite in suite::Suite::value_variants() {
            let row = readme
                .lines()
                .find(|line| line.starts_with('|') && line.contains(&format!("({})", suite.name())))
                .unwrap_or_else(|| panic!("the README has no row for {}", suite.name()));
            let xen = row.split('|').nth(2).unwrap();
            assert!(xen.trim().starts_with(suite.xen_version()), "{row}");
            let runs = row.split('|').nth(5).unwrap().trim().trim_matches('`');
            let command = if default.is_for(*suite) {
                assert_eq!(runs, "all scenarios");
                "cargo xtask e2e".to_owned()
            } else {
                format!("cargo xtask e2e --suite {} {runs}", suite.name())
            };
            assert!(ci.lines().any(|line| line == command), ".ci/run lacks `{command}`");
        }
    }

    #[test]
    fn command_lines_of_documents_are_run_by_ci() {
        let ci = fs::read_to_string(workspace::root().join(".ci/run")).unwrap();
        let excuses = |line: &str| {
            NOT_IN_CI
                .iter()
                .position(|(excused, _)| match excused.strip_suffix('*') {
                    Some(beginning) => line.starts_with(beginning),
                    None => line == *excused,
                })
        };
        let scenarios = fs::read_to_string(workspace::root().join("integration/src/scenarios.rs")).unwrap();
        // All scenarios are run there: those that are named, too.
        let are_scenarios = |names: &str| {
            names.split_whitespace().all(|name| {
                let name = name.split('@').next().unwrap_or_default();
                scenarios.contains(&format!("name: \"{name}\""))
            })
        };
        let mut used = vec![false; NOT_IN_CI.len()];
        for (file, line) in documented() {
            if line == "cargo xtask" || line == ".ci/run" || ci.lines().any(|run| run == line) {
                continue;
            }
            if line.strip_prefix("cargo xtask e2e ").is_some_and(are_scenarios) {
                continue;
            }
            match excuses(&line) {
                Some(index) => used[index] = true,
                None => panic!("{file}: .ci/run does not run `{line}`"),
            }
        }
        for (used, (line, _)) in used.iter().zip(NOT_IN_CI) {
            assert!(used, "{line} is excused and in no document");
        }
        for line in ci.lines().filter(|line| line.starts_with("cargo")) {
            assert!(
                !NOT_IN_CI.iter().any(|(excused, _)| *excused == line),
                "{line} is excused and run"
            );
        }
    }
}
