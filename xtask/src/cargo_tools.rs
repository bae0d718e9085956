//! Subcommands of Cargo that are not part of the workspace, each of a fixed version.

use crate::command;
use crate::progress::step;
use crate::workspace;
use anyhow::Result;
use std::path::PathBuf;

/// A program of a package on crates.io that has its name.
pub(crate) struct CargoTool {
    name: &'static str,
    version: &'static str,
}

/// Makes Debian packages.
pub(crate) const DEB: CargoTool = CargoTool {
    name: "cargo-deb",
    version: "3.8.0",
};

/// Makes RPMs.
pub(crate) const RPM: CargoTool = CargoTool {
    name: "cargo-generate-rpm",
    version: "0.21.1",
};

/// Changes code to see whether tests notice.
pub(crate) const MUTANTS: CargoTool = CargoTool {
    name: "cargo-mutants",
    version: "27.1.0",
};

/// Counts the lines that tests run.
pub(crate) const TARPAULIN: CargoTool = CargoTool {
    name: "cargo-tarpaulin",
    version: "0.37.5",
};

/// Builds a tool, if it is not there yet, and returns its path.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn install(tool: &CargoTool) -> Result<PathBuf> {
    let CargoTool { name, version } = tool;
    let folder = workspace::target().join("tools").join(format!("{name}-{version}"));
    let program = folder.join("bin").join(name);
    if !program.is_file() {
        step(&format!("building {name} {version}"));
        command::run(
            workspace::cargo()
                .args([
                    "install",
                    "--quiet",
                    "--debug",
                    "--locked",
                    "--version",
                    version,
                    "--root",
                ])
                .arg(&folder)
                .arg(name),
        )?;
    }
    Ok(program)
}
