//! How long each scenario took when all of them were last run.

use super::goal::{self, Goal};
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

/// How long those on the stock hypervisor may take, on two processors.
const GOAL: f64 = 90.0;

pub(super) fn section() -> Result<String> {
    let all = times("all", "cargo xtask e2e")?;
    let stock = times("stock", "cargo xtask e2e --stock")?;
    let mut text = format!(
        "### Scenarios\n\n`cargo xtask e2e`: {}; `--stock`, those on Debian's own Xen: {}. Images and snapshots of machines existed before.\n\n\
        | scenario | time | with `--stock` |\n|---|---:|---:|\n",
        all.sum(),
        stock.sum()
    );
    for (name, seconds) in &all.scenarios {
        let alone = stock.scenarios.get(name).map(|seconds| format!("{seconds:.1} s"));
        let _ = writeln!(text, "| {name} | {seconds:.1} s | {} |", alone.unwrap_or_default());
    }
    let goals = [Goal::seconds("all on Debian's own Xen", stock.seconds, GOAL)];
    Ok(text + "\n" + &goal::list(&goals))
}

impl Times {
    fn sum(&self) -> String {
        let threads = self.threads.map_or("some".to_owned(), |threads| threads.to_string());
        format!("{} in {:.0} s, {threads} at once", self.scenarios.len(), self.seconds)
    }
}

/// Returns what the last run of `command` has left.
fn times(which: &str, command: &str) -> Result<Times> {
    let suite = Suite::Trixie.name();
    let path = workspace::e2e("run")?.join(format!("{suite}-{which}.times.json"));
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "{}: no whole run of the scenarios has left its times; run `{command}` first",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}
