//! `cargo xtask lint`: formatting and clippy.

use crate::command;
use crate::fuzz;
use crate::host;
use crate::progress::step;
use crate::workspace;
use anyhow::Result;

/// Checks both.
///
/// # Errors
///
/// If either finds something.
pub(crate) fn run() -> Result<()> {
    step("formatting");
    command::run(workspace::cargo().args(["fmt", "--all", "--check"]))?;
    host::install(host::BUILD)?;
    step("clippy");
    let clippy = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    command::run(workspace::cargo().args(clippy))?;
    step("clippy without the eBPF part");
    let clippy = [
        "clippy",
        "--quiet",
        "--package",
        "xen-pmem-discover",
        "--package",
        "xen-pmem-report",
        "--no-default-features",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    command::run(workspace::cargo().args(clippy))?;
    step("clippy of the fuzz targets");
    fuzz::lint()
}
