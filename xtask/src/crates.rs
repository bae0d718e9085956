//! The crates that Cargo knows of.

use crate::command;
use crate::workspace;
use anyhow::Result;
use serde::Deserialize;

/// What Cargo says of a crate.
#[derive(Deserialize)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licence, as an SPDX expression or what was written before there were any.
    pub(crate) license: Option<String>,
    /// The Rust that it wants at least.
    pub(crate) rust_version: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// All that the lock file names, ours among them.
///
/// # Errors
///
/// If Cargo does not list them.
pub(crate) fn all() -> Result<Vec<Package>> {
    listed(&[])
}

/// Those of this workspace.
///
/// # Errors
///
/// If Cargo does not list them.
pub(crate) fn own() -> Result<Vec<Package>> {
    listed(&["--no-deps"])
}

fn listed(more: &[&str]) -> Result<Vec<Package>> {
    let mut cargo = workspace::cargo();
    cargo.args(["metadata", "--locked", "--format-version=1"]).args(more);
    let metadata: Metadata = serde_json::from_slice(&command::output(&mut cargo)?)?;
    Ok(metadata.packages)
}
