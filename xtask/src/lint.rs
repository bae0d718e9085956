//! `cargo xtask lint`: formatting and clippy.

use crate::command;
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
    command::run(workspace::cargo().args(clippy))
}
