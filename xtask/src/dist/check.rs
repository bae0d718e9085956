//! What must hold of all that is shipped: two builds have the same bytes, and the tarball has everything that the packages have.

use super::make;
use crate::command;
use crate::progress::step;
use crate::tools;
use crate::workspace;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes everything again, out of a clone in another folder, and compares.
pub(super) fn reproducible(made: &[PathBuf]) -> Result<()> {
    step("making everything again in another folder");
    let again = workspace::target().join("dist-again");
    workspace::discard(&again)?;
    let root = again.join("another/place");
    command::output(
        Command::new("git")
            .args(["clone", "--quiet", "--no-hardlinks"])
            .arg(workspace::root())
            .arg(&root),
    )?;
    let other = make::all(&root, &again.join("target"), &again.join("dist"), None)?;
    let different: Vec<String> = made
        .iter()
        .zip(&other)
        .filter_map(|(one, other)| match (fs::read(one), fs::read(other)) {
            (Ok(a), Ok(b)) if a == b => None,
            _ => Some(format!("{} and {}", one.display(), other.display())),
        })
        .collect();
    if made.len() != other.len() || !different.is_empty() {
        bail!(
            "two builds differ (of committed changes only?):\n{}",
            different.join("\n")
        );
    }
    fs::remove_dir_all(&again)?;
    println!("{} files, the same bytes twice", made.len());
    Ok(())
}

/// Checks that the tarball has all files of the Debian packages except those that only Debian wants: a packager of another system finds
/// everything there. Xen is not in the tarball: each system builds its own, with the series.
pub(super) fn complete(made: &[PathBuf]) -> Result<()> {
    step("comparing the tarball with the Debian packages");
    let folder = workspace::target().join("dist-unpacked");
    workspace::discard(&folder)?;
    let (debian, tarball) = (folder.join("debian"), folder.join("tarball"));
    fs::create_dir_all(&tarball)?;
    for file in made.iter().filter(|file| !super::xen::is_package(file)) {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("deb") => command::output(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&debian))?,
            Some("xz") => command::output(Command::new("tar").arg("-C").arg(&tarball).arg("-xf").arg(file))?,
            _ => continue,
        };
    }
    let programs: BTreeSet<OsString> = tools::PROGRAMS.into_iter().map(OsString::from).collect();
    let mut shipped = BTreeSet::new();
    for path in files(&tarball)? {
        shipped.insert(fs::read(path)?);
    }
    let mut missing = Vec::new();
    for path in files(&debian)? {
        let name = path.file_name().unwrap_or_default();
        let only_debian = name == "copyright"
            || name.to_string_lossy().starts_with("changelog")
            || path
                .parent()
                .is_some_and(|folder| folder.ends_with("lintian/overrides"));
        // The binaries differ: those of the tarball are static.
        let is_program = programs.contains(name) && path.parent().is_some_and(|folder| folder.ends_with("usr/sbin"));
        if !only_debian && !is_program && !shipped.contains(&fs::read(&path)?) {
            missing.push(path.strip_prefix(&debian)?.display().to_string());
        }
    }
    if !missing.is_empty() {
        bail!("the packages have, and the tarball lacks\n{}", missing.join("\n"));
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Returns all files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
