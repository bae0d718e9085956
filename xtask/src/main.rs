//! Build and test driver of the workspace: `cargo xtask --help`.

mod bench;
mod command;
mod counts;
mod coverage;
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
    /// Run the end-to-end scenarios on real Xen, Dom0, libnvdimm and xenstored, in QEMU
    E2e(e2e::Options),
    /// Make Debian packages and a tarball of static binaries, with manual pages and completions, in target/dist
    Dist(dist::Options),
    /// Build Debian's Xen with the project's patches and print the path of the hypervisor
    Xen(xen::Options),
    /// Run all unit, property and CLI tests of the workspace; no VM
    Test(test::Options),
    /// Run the fuzz targets, each for a bounded time
    Fuzz(fuzz::Options),
    /// Run the format's tests in Miri, where that is installed
    Miri,
    /// Check that the stated Rust version is enough
    Msrv,
    /// Record anew the sysfs trees that tests of the discoverer run on
    Fixtures,
    /// Run the format's tests on every mutant of it
    Mutants,
    /// Count the lines of the format and of the provisioner that tests run
    Coverage,
    /// Run our commands beside those that people use today, and write docs/performance.md
    Bench(bench::Options),
    /// Count system calls and instructions of the commands, and the sizes of the static binaries; compare with those committed
    Counts(counts::Options),
    /// Check formatting and run clippy with warnings as errors
    Lint,
    /// Check the licences of all dependencies against licences.json
    Licences,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::E2e(options) => e2e::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::Xen(options) => xen::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Fixtures => fixtures::run(),
        Command::Msrv => msrv::run(),
        Command::Miri => miri::run(),
        Command::Mutants => mutants::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Counts(options) => counts::run(&options),
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

    /// Command lines of this program in documents are ones that it takes.
    #[test]
    fn documents_have_command_lines_that_exist() {
        let root = workspace::root();
        let mut files = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
        files.extend(
            fs::read_dir(root.join("docs"))
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
        let mut seen = 0;
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        {
            let text = fs::read_to_string(file).unwrap();
            let blocks = text.lines().filter_map(|line| line.strip_prefix("    cargo xtask "));
            let inline = text.split('`').filter_map(|words| words.strip_prefix("cargo xtask "));
            for line in blocks.chain(inline) {
                let words = line.split('#').next().unwrap_or_default().split_whitespace();
                if let Err(error) = Cli::try_parse_from(["cargo xtask"].into_iter().chain(words)) {
                    panic!("{}: cargo xtask {line}\n{error}", file.display());
                }
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen} command lines only");
    }
}
