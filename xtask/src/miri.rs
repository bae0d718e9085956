//! `cargo xtask miri`: the format's tests in Miri, where it can be had.

use crate::command;
use crate::progress::step;
use crate::workspace;
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// Runs them.
///
/// # Errors
///
/// If Miri is missing, or it finds something.
pub(crate) fn run() -> Result<()> {
    let has_miri = Command::new("cargo")
        .args(["+nightly", "miri", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_miri {
        bail!(
            "there is no Miri here: rustup toolchain install nightly --component miri,rust-src (it is in no package registry)"
        );
    }
    step("the format's tests in Miri");
    command::run(
        Command::new("cargo")
            .current_dir(workspace::root())
            // Property tests keep their failures in files, which Miri keeps programs away from.
            .env("MIRIFLAGS", "-Zmiri-disable-isolation")
            .env("PROPTEST_CASES", "4")
            .args([
                "+nightly",
                "miri",
                "test",
                "--locked",
                "--package",
                "xen-pmem-format",
                "--lib",
            ]),
    )
}
