//! `cargo xtask lint`: formatting, clippy, and the floors of the workspace. It installs nothing.

use crate::command;
use crate::fuzz;
use crate::host;
use crate::progress::step;
use crate::structure;
use crate::workspace;
use anyhow::Result;

/// Checks all of them.
///
/// # Errors
///
/// If one finds something.
pub(crate) fn run() -> Result<()> {
    step("formatting");
    command::run(workspace::cargo().args(["fmt", "--all", "--check"]))?;
    step("who uses whom");
    structure::check()?;
    host::require(host::BUILD)?;
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
    step("documents of the libraries");
    command::run(workspace::cargo().args(["doc", "--quiet", "--workspace", "--no-deps", "--locked"]))?;
    step("clippy of the fuzz targets");
    fuzz::lint()
}
