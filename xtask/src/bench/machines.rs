//! Measurements in machines: set up like those of the scenarios, and measured by a separate program.

use super::Part;
use crate::command;
use crate::e2e;
use crate::progress::step;
use crate::suite::Suite;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::process::{Command, Stdio};

/// Measures these parts; the result has a member for each.
pub(super) fn measure(parts: &[Part]) -> Result<Value> {
    let names: Vec<String> = parts.iter().map(|part| part.name()).collect();
    let runner = e2e::runner("measurements")?;
    let needs = command::text(Command::new(&runner).arg("--needs").args(&names))?;
    let machines = e2e::set_up(Suite::Trixie, false, &needs, None)?;
    step(&format!("measuring in machines: {}", names.join(", ")));
    let output = Command::new(&runner)
        .args(&names)
        .env(e2e::MANIFEST, &machines.manifest)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting the measurements")?;
    anyhow::ensure!(output.status.success(), "a measurement failed");
    serde_json::from_slice(&output.stdout).context("the measurements' document")
}
