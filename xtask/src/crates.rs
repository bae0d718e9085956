//! The crates that Cargo knows.

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
    /// The library outside of Cargo that it links, by the name that Cargo's `links` has.
    pub(crate) links: Option<String>,
    /// The Rust that it wants at least.
    pub(crate) rust_version: Option<String>,
    /// What it depends on.
    pub(crate) dependencies: Vec<Dependency>,
}

/// What a crate depends on.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    /// The crate's name.
    pub(crate) name: String,
    /// `dev` for tests, `build` for build scripts; none for the crate itself.
    pub(crate) kind: Option<String>,
}

impl Dependency {
    /// Returns whether only tests, benches and examples use it.
    pub(crate) fn is_for_tests(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Returns all that the lock file names, ours among them.
///
/// # Errors
///
/// If Cargo does not list them.
pub(crate) fn all() -> Result<Vec<Package>> {
    listed(&[])
}

/// Returns the packages of this workspace.
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
