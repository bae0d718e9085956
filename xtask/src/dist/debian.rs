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

/// A place where packages are made.
pub(super) struct Place<'a> {
    /// The workspace.
    pub(super) root: &'a Path,
    /// The folder of build artefacts.
    pub(super) build: &'a Path,
    /// Where the packages go.
    pub(super) folder: &'a Path,
    /// The time that everything in them has.
    pub(super) epoch: &'a str,
}

/// Makes the packages of the crates, with another version if the caller names one.
///
/// # Errors
///
/// If cargo-deb fails.
pub(super) fn make(place: &Place<'_>, version: Option<&str>) -> Result<Vec<PathBuf>> {
    step("making Debian packages");
    let make = |package: &&str| place.package(package, None, version);
    CRATES.iter().map(make).collect()
}

impl Place<'_> {
    /// Makes one package: of a crate, or of a variant that its manifest has.
    ///
    /// # Errors
    ///
    /// If cargo-deb fails.
    pub(super) fn package(&self, name: &str, variant: Option<&str>, version: Option<&str>) -> Result<PathBuf> {
        let cargo_deb = cargo_tools::install(&cargo_tools::DEB)?;
        fs::create_dir_all(self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let mut command = Command::new(&cargo_deb);
        command
            .current_dir(self.root)
            .env("CARGO_TARGET_DIR", self.build)
            .env("SOURCE_DATE_EPOCH", self.epoch)
            .args(["deb", "--quiet", "--no-build", "--locked", "--package", name])
            .arg("--output")
            .arg(self.folder);
        if let Some(variant) = variant {
            command.args(["--variant", variant]);
        }
        if let Some(version) = version {
            command.args(["--deb-version", version]);
        }
        let path = command::text(&mut command)?;
        Ok(PathBuf::from(path.trim()))
    }
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
