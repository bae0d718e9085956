//! `cargo xtask coverage`: which lines of the format, the provisioner and the two libraries between them the tests run.

use crate::cargo_tools;
use crate::command;
use crate::host;
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The crates that are measured, by their folders.
const CRATES: [&str; 4] = ["format", "nvdimm", "cli", "provision"];

/// Runs their tests and counts lines.
///
/// # Errors
///
/// If the tests fail or cannot be measured.
pub(crate) fn run() -> Result<()> {
    host::install(host::BUILD)?;
    host::install(host::TEST)?;
    let tarpaulin = cargo_tools::install(&cargo_tools::TARPAULIN)?;
    let target = workspace::target().join("coverage");
    fs::create_dir_all(&target)?;
    step("measuring coverage: some ten minutes");
    let mut command = std::process::Command::new(tarpaulin);
    command
        .current_dir(workspace::root())
        // The tools are run as programs by their tests: those count, too.
        .args([
            "tarpaulin",
            "--engine",
            "llvm",
            "--follow-exec",
            "--skip-clean",
            "--timeout",
            "600",
        ])
        .args(["--out", "Json", "--output-dir"])
        .arg(&target)
        .arg("--target-dir")
        .arg(&target);
    for folder in CRATES {
        command.args(["--packages", &format!("xen-pmem-{folder}")]);
    }
    // It runs the tool as a user who cannot write the measurement, and fails on the message about that.
    command.args(["--", "--skip", "what_may_not_be_read_is_said"]);
    command::run(&mut command)?;
    let report = target.join("tarpaulin-report.json");
    let text = fs::read_to_string(&report).with_context(|| format!("cannot read {}", report.display()))?;
    print(&serde_json::from_str(&text)?);
    println!("\nthe lines that are not covered are in {}", report.display());
    Ok(())
}

fn print(report: &Value) {
    let mut crates: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for file in report["files"].as_array().into_iter().flatten() {
        let path: Vec<&str> = file["path"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let path = path.join("/").replacen("//", "/", 1);
        let Ok(path) = Path::new(&path).strip_prefix(workspace::root()) else {
            continue;
        };
        let mut parts = path.components();
        let folders = (parts.next(), parts.next());
        let (Some(package), Some(folder)) = folders else {
            continue;
        };
        if folder.as_os_str() != "src" || !CRATES.iter().any(|it| package.as_os_str() == *it) {
            continue;
        }
        let (covered, coverable) = (
            file["covered"].as_u64().unwrap_or(0),
            file["coverable"].as_u64().unwrap_or(0),
        );
        println!("{:>5} of {:>5}  {}", covered, coverable, path.display());
        let sum = crates
            .entry(package.as_os_str().to_string_lossy().into_owned())
            .or_default();
        *sum = (sum.0 + covered, sum.1 + coverable);
    }
    for (package, (covered, coverable)) in crates {
        let percent = (covered * 100).checked_div(coverable).unwrap_or(0);
        println!("{package}: {covered} of {coverable} lines, {percent} %");
    }
}
