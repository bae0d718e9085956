//! `cargo xtask test`: everything that needs no VM.

use crate::command;
use crate::consumer;
use crate::host;
use crate::progress::step;
use crate::workspace;
use anyhow::Result;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Passed on to `cargo test`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the tests.
///
/// # Errors
///
/// If one fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    host::install(host::BUILD)?;
    host::install(host::TEST)?;
    step("unit, property and CLI tests of the workspace");
    command::run(
        workspace::cargo()
            .args(["test", "--workspace", "--locked"])
            .args(&options.arguments),
    )?;
    // Without the feature `std` the format is a library for boot loaders and kernels.
    step("the format without the standard library");
    command::run(workspace::cargo().args([
        "check",
        "--quiet",
        "--locked",
        "--package",
        "xen-pmem-format",
        "--no-default-features",
    ]))?;
    for package in ["xen-pmem-discover", "xen-pmem-report"] {
        step(&format!("{package} without eBPF"));
        command::run(workspace::cargo().args([
            "test",
            "--quiet",
            "--locked",
            "--package",
            package,
            "--no-default-features",
            "--test",
            "without_bpf",
        ]))?;
    }
    consumer::check()?;
    println!(
        "\nLeft out: the end-to-end scenarios, which boot Xen and Linux in QEMU. Run them with `cargo xtask e2e`."
    );
    Ok(())
}
