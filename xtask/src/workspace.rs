//! Where things are.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// Returns the workspace's root folder.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Returns the folder of build artefacts.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Returns the folder for what the scenarios need, `target/e2e/...`; makes it if it does not exist.
///
/// # Errors
///
/// If it cannot be made.
pub(crate) fn e2e(below: &str) -> Result<PathBuf> {
    let folder = target().join("e2e").join(below);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Returns the `cargo` that runs this.
pub(crate) fn cargo() -> std::process::Command {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Returns the folder where `cargo` keeps its downloads.
pub(crate) fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    )
}

/// Removes a folder with all that is in it, if it is there.
///
/// # Errors
///
/// If it cannot be removed.
pub(crate) fn discard(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("cannot remove {}", folder.display())),
    }
}
