//! The Debian packages, and what lintian says of them.

use crate::cargo_tools;
use crate::command;
use crate::host::{self, Need};
use crate::progress::step;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What checking the packages takes.
pub(super) const LINT_NEEDS: &[Need] = &[Need {
    program: "lintian",
    package: "lintian",
}];

/// The crates that packages are made of; the last is the one that pulls in the others.
pub(super) const CRATES: [&str; 4] = [
    "xen-pmem-provision",
    "xen-pmem-discover",
    "xen-pmem-report",
    "xen-pmem-packaging",
];

/// Makes the packages out of what is built in `build`, of another version if one is given.
///
/// # Errors
///
/// If cargo-deb fails.
pub(super) fn make(
    root: &Path,
    build: &Path,
    folder: &Path,
    epoch: &str,
    version: Option<&str>,
) -> Result<Vec<PathBuf>> {
    let cargo_deb = cargo_tools::install(&cargo_tools::DEB)?;
    step("making Debian packages");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    CRATES
        .iter()
        .map(|package| {
            let mut command = Command::new(&cargo_deb);
            command
                .current_dir(root)
                .env("CARGO_TARGET_DIR", build)
                .env("SOURCE_DATE_EPOCH", epoch)
                .args([
                    "deb",
                    "--quiet",
                    "--no-build",
                    "--locked",
                    "--package",
                    package,
                    "--output",
                ])
                .arg(folder);
            if let Some(version) = version {
                command.args(["--deb-version", version]);
            }
            let path = command::text(&mut command)?;
            Ok(PathBuf::from(path.trim()))
        })
        .collect()
}

/// Runs lintian.
///
/// # Errors
///
/// If it finds an error.
pub(super) fn lint(made: &[PathBuf]) -> Result<()> {
    host::install(LINT_NEEDS)?;
    step("running lintian");
    let debs = made
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "deb"));
    command::run(
        Command::new("lintian")
            .args(["--fail-on", "error", "--allow-root"])
            .args(debs),
    )
}
