//! The Debian packages of the patched Xen: the hypervisor, and the `xl` that goes with it.

use super::debian::Place;
use crate::command;
use crate::progress::step;
use crate::xen::{self, source};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crate whose manifest describes the packages.
const CRATE: &str = "xen-pmem-packaging";
/// Its variants, one for each package.
const VARIANTS: [&str; 2] = ["hypervisor", "utils"];
/// What the names of the packages begin with, and those of no others do.
const NAMES: [&str; 2] = ["xen-hypervisor-", "xen-utils-"];

/// Builds hypervisor and `xl`, unless they are there, and makes the packages.
///
/// # Errors
///
/// If something does not build.
pub(super) fn make(place: &Place<'_>) -> Result<Vec<PathBuf>> {
    let hypervisor = xen::build(false)?;
    let xl = xen::toolstack::build()?;
    step("making Debian packages of Xen");
    let folder = place.build.join("release/xen");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let packed = command::output(
        Command::new("gzip")
            .args(["-9", "--no-name", "--stdout"])
            .arg(&hypervisor),
    )?;
    fs::write(folder.join("xen.gz"), packed)?;
    fs::copy(xen::configuration(&hypervisor), folder.join("config"))?;
    fs::copy(xl, folder.join("xl"))?;
    // The source's version, then ours: newer than Debian's package of the same source, and older than that of the next.
    let source = source::source(source::RELEASE)?.version()?;
    let version = format!("{source}+pmem{}", env!("CARGO_PKG_VERSION"));
    let make = |variant: &&str| place.package(CRATE, Some(variant), Some(&version));
    VARIANTS.iter().map(make).collect()
}

/// Returns whether a file is one of these packages.
pub(super) fn is_package(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    NAMES.iter().any(|start| name.starts_with(start))
}
