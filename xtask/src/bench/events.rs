//! From the kernel's event that a device is there to the report of it in XenStore.

use super::samples::Samples;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fmt::Write as _;

/// A way from the one to the other.
#[derive(Deserialize)]
pub(super) struct Way {
    way: String,
    ours: bool,
    nanoseconds: Vec<u64>,
}

pub(super) fn section(ways: Vec<Way>) -> Result<String> {
    let mut text = "### From event to report\n\nThe time begins with the kernel's uevent that `pmem0` was added, and ends when `state` is `ready` in XenStore. \
        A process of real-time priority sees both. The machine is an installed Debian system on stock Xen, emulated \
        (QEMU, TCG). Its clock counts instructions: one is a nanosecond. Ratios are to the script.\n\n\
        | way | time | ratio | of | from, to |\n|---|---:|---:|---:|---:|\n"
        .to_owned();
    let ways = ways
        .into_iter()
        .map(|way| Ok((way.way, way.ours, way.nanoseconds.len(), Samples::new(way.nanoseconds)?)))
        .collect::<Result<Vec<_>>>()?;
    let script = ways.iter().find(|(_, ours, _, _)| !ours);
    let (_, _, _, script) = script.context("there is nothing to compare with")?;
    for (way, ours, count, samples) in &ways {
        let bold = if *ours { "**" } else { "" };
        let _ = writeln!(
            text,
            "| {bold}{way}{bold} | {} | {:.2} | {count} | {} |",
            samples.shown(),
            samples.median() / script.median(),
            samples.range()
        );
    }
    Ok(text)
}
