//! `cargo xtask msrv`: whether the stated Rust version is enough.

use crate::command;
use crate::crates;
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::process::Command;

/// Checks that no dependency wants a newer Rust than the workspace says, and, where that toolchain is installed, that everything
/// builds with it. That our own code uses nothing newer clippy checks (`incompatible_msrv`), as part of `cargo xtask lint`.
///
/// # Errors
///
/// If a dependency does, or something does not build.
pub(crate) fn run() -> Result<()> {
    let packages = crates::all()?;
    let stated = packages
        .iter()
        .find(|package| package.name == "xen-pmem-format")
        .and_then(|package| package.rust_version.as_deref())
        .context("the workspace states no Rust version")?;
    let newer: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let wants = package.rust_version.as_deref()?;
            (version(wants) > version(stated)).then(|| format!("  {} {}: {wants}", package.name, package.version))
        })
        .collect();
    if !newer.is_empty() {
        bail!("these want a newer Rust than {stated}:\n{}", newer.join("\n"));
    }
    println!("{} packages, none wants a newer Rust than {stated}", packages.len());
    let toolchain = format!("+{stated}");
    let there = Command::new("cargo").args([&toolchain, "--version"]).output();
    if there.is_ok_and(|output| output.status.success()) {
        step(&format!("checking with Rust {stated}"));
        command::run(
            Command::new("cargo")
                .current_dir(workspace::root())
                .env("CARGO_TARGET_DIR", workspace::target().join("msrv"))
                .args([&toolchain, "check", "--quiet", "--workspace", "--locked"]),
        )?;
    } else {
        println!("Rust {stated} itself is not installed here: nothing was built with it");
    }
    Ok(())
}

/// Returns a version's three numbers; those that are not said are zero.
fn version(text: &str) -> [u32; 3] {
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    [0; 3].map(|zero| numbers.next().unwrap_or(zero))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(version("1.100") > version("1.89"));
        assert!(version("1.89.1") > version("1.89"));
        assert!(version("1.9") < version("1.89.0"));
        assert_eq!(version("1.89"), version("1.89.0"));
    }
}
