//! The project's own programs, as static binaries that run in any guest.

use crate::command;
use crate::host;
use crate::workspace;
use anyhow::Result;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Named explicitly, so that build scripts and procedural macros, which cannot be static, are not built with the same flags.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the static binaries are.
pub(crate) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Returns the path of one.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The tools under test.
pub(crate) const PROGRAMS: [&str; 3] = ["xen-pmem-provision", "xen-pmem-discover", "xen-pmem-report"];
/// The features that the programs are shipped with: the libraries do without, as building the eBPF part takes clang and libelf.
pub(crate) const FEATURES: [&str; 2] = ["--features", "xen-pmem-discover/bpf,xen-pmem-report/bpf"];
/// What answers the scenarios' requests in a guest.
pub(crate) const AGENT: &str = "xen-pmem-agent";
/// What takes times in a guest.
pub(crate) const STOPWATCH: &str = "xen-pmem-stopwatch";

/// What drives the hypercalls by hand in Dom0, and the guests that have no kernel but their own.
pub(crate) const XEN_TESTS: [&str; 4] = ["pmemctl", "pmemguest", "pmemguest-pvh", "pmemguest-pv"];

/// How a guest's kernel is built: it has no library, and is loaded to 2 MiB.
const KERNEL: [&str; 8] = [
    "-ffreestanding",
    "-nostdlib",
    "-no-pie",
    "-fno-pic",
    "-fno-stack-protector",
    "-fcf-protection=none",
    "-mgeneral-regs-only",
    "-Wl,-Ttext-segment=0x200000,-e,start,--build-id=none,-z,noexecstack",
];

/// Builds the tools, the agent, the stopwatch, and the hypervisor's test programs.
///
/// # Errors
///
/// If one does not build.
pub(crate) fn build() -> Result<Tools> {
    host::install(host::BUILD)?;
    let tools = build_in(workspace::root(), &workspace::target().join("static"))?;
    let [pmemctl, pmemguest, pvh, pv] = XEN_TESTS;
    compile(&tools, pmemctl, "pmemctl.c", &[])?;
    compile(&tools, pmemguest, "pmemguest.c", &[])?;
    compile(&tools, pvh, "guests/pvh.c", &[&["-m32"], &KERNEL[..]].concat())?;
    compile(&tools, pv, "guests/pv.c", &[&["-mno-red-zone"], &KERNEL[..]].concat())?;
    Ok(tools)
}

/// Compiles one of the hypervisor's test programs.
fn compile(tools: &Tools, name: &str, source: &str, flags: &[&str]) -> Result<()> {
    let xen = workspace::root().join("xen");
    command::run(
        Command::new("gcc")
            .args(["-static", "-O2", "-Wall", "-Wextra", "-Werror"])
            .args(flags)
            .arg("-I")
            .arg(xen.join("include"))
            .arg("-o")
            .arg(tools.path(name))
            .arg(xen.join("tests").join(source)),
    )
}

/// Builds the tools, the agent and the stopwatch of the workspace at `root`, with build artefacts in `target`.
///
/// # Errors
///
/// If one does not build.
pub(crate) fn build_in(root: &Path, target: &Path) -> Result<Tools> {
    let mut cargo = workspace::cargo();
    cargo
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            flags(root, target, &["-Ctarget-feature=+crt-static"]),
        )
        .args(["build", "--quiet", "--release", "--locked", "--target", TARGET]);
    for program in PROGRAMS {
        cargo.args(["--package", program, "--bin", program]);
    }
    cargo.args(FEATURES);
    cargo.args(["--package", "xen-pmem-integration", "--bin", AGENT, "--bin", STOPWATCH]);
    command::run(&mut cargo)?;
    Ok(Tools {
        folder: target.join(TARGET).join("release"),
    })
}

/// What `CARGO_ENCODED_RUSTFLAGS` separates flags by.
const SEPARATOR: &str = "\x1f";

/// Returns the compiler's flags for shipped programs, as Cargo takes them: they keep paths of the build machine out of binaries.
pub(crate) fn flags(root: &Path, target: &Path, more: &[&str]) -> OsString {
    let home = workspace::cargo_home();
    // Of several that fit the last counts.
    let remapped = [(root, "xen-pmem"), (&home, "cargo"), (target, "target")].map(|(from, to)| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push(format!("={to}"));
        flag
    });
    let flags: Vec<OsString> = remapped.into_iter().chain(more.iter().map(OsString::from)).collect();
    flags.join(OsStr::new(SEPARATOR))
}
