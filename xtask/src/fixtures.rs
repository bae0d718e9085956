//! `cargo xtask fixtures`: records anew the sysfs trees that the discoverer's tests run on.

use crate::e2e;
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;

/// The scenarios that record.
const SCENARIOS: [&str; 3] = ["shapes-labels", "shapes-many", "shapes-legacy"];

/// Runs the scenarios and takes what they have recorded.
///
/// # Errors
///
/// If one fails, or has recorded nothing.
pub(crate) fn run() -> Result<()> {
    e2e::run(&e2e::Options::keeping(&SCENARIOS))?;
    let fixtures = workspace::root().join("discover/tests/recorded");
    fs::create_dir_all(&fixtures)?;
    for scenario in SCENARIOS {
        let run = workspace::e2e("run")?.join(format!("trixie-{scenario}"));
        let recorded = run.join("recorded");
        let files = fs::read_dir(&recorded).with_context(|| format!("nothing in {}", recorded.display()))?;
        for file in files {
            let file = file?;
            let to = fixtures.join(file.file_name());
            fs::copy(file.path(), &to)?;
            step(&format!("recorded {}", to.display()));
        }
        fs::remove_dir_all(&run)?;
    }
    Ok(())
}
