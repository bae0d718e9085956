//! How long each scenario took when all of them were last run.

use crate::suite::Suite;
use crate::workspace;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

/// What a whole run leaves.
#[derive(Deserialize)]
struct Times {
    threads: Option<usize>,
    seconds: f64,
    scenarios: BTreeMap<String, f64>,
}

pub(super) fn section() -> Result<String> {
    let suite = Suite::Trixie.name();
    let path = workspace::e2e("run")?.join(format!("{suite}.times.json"));
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "{}: no whole run of the scenarios has left its times; run `cargo xtask e2e` first",
            path.display()
        )
    })?;
    let times: Times = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    let mut text = format!(
        "### Scenarios\n\n`cargo xtask e2e`: {} scenarios in {:.0} s, {} at once.\n\n| scenario | time |\n|---|---:|\n",
        times.scenarios.len(),
        times.seconds,
        times.threads.map_or("some".to_owned(), |threads| threads.to_string()),
    );
    for (name, seconds) in &times.scenarios {
        let _ = writeln!(text, "| {name} | {seconds:.1} s |");
    }
    Ok(text)
}
