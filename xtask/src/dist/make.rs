//! Everything that is shipped, out of a workspace: built once, then packed in each form.

use super::debian::{self, Place};
use super::rpm;
use super::tarball;
use super::xen;
use crate::command;
use crate::host::{self, Need};
use crate::progress::step;
use crate::tools;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What packaging takes.
pub(super) const NEEDS: &[Need] = &[
    Need {
        program: "dpkg-shlibdeps",
        package: "dpkg-dev",
    },
    Need {
        program: "xz",
        package: "xz-utils",
    },
];

/// What makes manual pages and completions.
const MANUALS: &str = "xen-pmem-manuals";

/// Makes the Debian packages in `folder`, with another version if the caller names one.
///
/// # Errors
///
/// If something does not build.
pub(crate) fn packages(folder: &Path, version: Option<&str>) -> Result<Vec<PathBuf>> {
    host::install(NEEDS)?;
    host::install(host::BUILD)?;
    let build = workspace::target().join("packages");
    let epoch = epoch(workspace::root())?;
    build_dynamic(workspace::root(), &build)?;
    workspace::discard(folder)?;
    let place = Place {
        root: workspace::root(),
        build: &build,
        folder,
        epoch: &epoch,
    };
    debian::make(&place, version)
}

/// Makes the Debian packages of the patched Xen in `folder`.
///
/// # Errors
///
/// If something does not build.
pub(crate) fn xen_packages(folder: &Path) -> Result<Vec<PathBuf>> {
    host::install(NEEDS)?;
    workspace::discard(folder)?;
    let place = Place {
        root: workspace::root(),
        build: &workspace::target().join("packages"),
        folder,
        epoch: &epoch(workspace::root())?,
    };
    xen::make(&place)
}

/// Makes everything out of the workspace at `root`, with build artefacts below `target`, in `folder`.
///
/// # Errors
///
/// If something does not build.
pub(super) fn all(root: &Path, target: &Path, folder: &Path, version: Option<&str>) -> Result<Vec<PathBuf>> {
    host::install(NEEDS)?;
    host::install(host::BUILD)?;
    workspace::discard(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let epoch = epoch(root)?;
    let build = target.join("packages");
    step("building the tools for packages");
    let manual = build_dynamic(root, &build)?;
    let place = Place {
        root,
        build: &build,
        folder,
        epoch: &epoch,
    };
    let mut made = debian::make(&place, version)?;
    made.extend(xen::make(&place)?);
    step("building the tools as static binaries");
    let tools = tools::build_in(root, &target.join("static"))?;
    made.extend(rpm::make(root, &tools, &manual, target, folder, &epoch)?);
    made.push(tarball::make(root, &tools, &manual, folder, &epoch)?);
    made.push(checksums(&made, folder)?);
    Ok(made)
}

/// Builds the tools against the system's libraries, and their manual pages. Returns the folder of the latter.
fn build_dynamic(root: &Path, build: &Path) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo
        .current_dir(root)
        .env("CARGO_TARGET_DIR", build)
        .env("CARGO_ENCODED_RUSTFLAGS", tools::flags(root, build, &[]))
        .args(["build", "--quiet", "--release", "--locked", "--bins"])
        .args(tools::FEATURES);
    for package in debian::CRATES {
        cargo.args(["--package", package]);
    }
    command::run(&mut cargo)?;
    // cargo-deb looks for it there, in every folder of build artefacts.
    let manual = build.join("release/manual");
    workspace::discard(&manual)?;
    command::run(Command::new(build.join("release").join(MANUALS)).arg(&manual))?;
    let pages = fs::read_dir(manual.join("man"))?.map(|entry| Ok(entry?.path()));
    let pages = pages.collect::<std::io::Result<Vec<PathBuf>>>()?;
    command::output(Command::new("gzip").args(["-9", "--no-name"]).args(pages))?;
    Ok(manual)
}

/// Returns the time that everything in a package has: that of the last commit.
fn epoch(root: &Path) -> Result<String> {
    let time = command::text(
        Command::new("git")
            .arg("-C")
            .arg(root)
            .args(["log", "-1", "--format=%ct"]),
    )
    .context("the time of the last commit, which packages are dated with")?;
    Ok(time.trim().to_owned())
}

fn checksums(files: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let names: Vec<OsString> = files
        .iter()
        .filter_map(|file| file.file_name().map(OsString::from))
        .collect();
    let sums = command::text(Command::new("sha256sum").current_dir(folder).args(names))?;
    let path = folder.join("SHA256SUMS");
    fs::write(&path, sums)?;
    Ok(path)
}
