//! The project's own programs, as static binaries that run in any guest.

use crate::command;
use crate::host;
use crate::workspace;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Named explicitly, so that build scripts and procedural macros, which cannot be static, are not built with the same flags.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the static binaries are.
pub(crate) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The path of one.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The tools under test.
pub(crate) const PROGRAMS: [&str; 3] = ["xen-pmem-provision", "xen-pmem-discover", "xen-pmem-report"];
/// What answers the scenarios' requests in a guest.
pub(crate) const AGENT: &str = "xen-pmem-agent";

/// What drives the hypercall by hand in a guest.
pub(crate) const PMEMCTL: &str = "pmemctl";

/// Builds the tools, the agent, and the hypervisor's test program.
///
/// # Errors
///
/// If one does not build.
pub(crate) fn build() -> Result<Tools> {
    host::install(host::BPF)?;
    let target = workspace::target().join("static");
    let mut cargo = workspace::cargo();
    cargo
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET]);
    for program in PROGRAMS {
        cargo.args(["--package", program, "--bin", program]);
    }
    cargo.args(["--package", "xen-pmem-integration", "--bin", AGENT]);
    command::run(&mut cargo)?;
    let folder = target.join(TARGET).join("release");
    let xen = workspace::root().join("xen");
    command::run(
        Command::new("gcc")
            .args(["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(xen.join("include"))
            .arg("-o")
            .arg(folder.join(PMEMCTL))
            .arg(xen.join("tests/pmemctl.c")),
    )?;
    Ok(Tools { folder })
}
