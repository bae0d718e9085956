//! What the guard costs those whose writes are not its affair.

use super::samples::Samples;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fmt::Write as _;

/// Writes of one kind, without and with the guard.
#[derive(Deserialize)]
pub(super) struct Writes {
    how: String,
    writes: u64,
    off_nanoseconds: Vec<u64>,
    on_nanoseconds: Vec<u64>,
}

pub(super) fn section(all: Vec<Writes>) -> Result<String> {
    let mut text = "### The guard\n\nA write of 4 KiB to a partition, in turn without and with `xen-pmem-discover guard`. The machine runs bare \
        Linux and is emulated (QEMU, TCG). Its clock counts instructions: one is a nanosecond.\n\n| write | without | with | cost | ratio |\n|---|---:|---:|---:|---:|\n"
        .to_owned();
    for writes in all {
        let each = |times: Vec<u64>| -> Result<Samples> {
            let times = times.into_iter().map(|time| time.checked_div(writes.writes));
            Samples::new(times.collect::<Option<_>>().context("no writes were measured")?)
        };
        let (off, on) = (each(writes.off_nanoseconds)?, each(writes.on_nanoseconds)?);
        let how = match writes.how.as_str() {
            "direct" => "with O_DIRECT",
            "flushed" => "into the page cache, fdatasync after each",
            other => other,
        };
        let _ = writeln!(
            text,
            "| {how} | {} | {} | {:.0} ns | {:.3} |",
            off.shown(),
            on.shown(),
            on.median() - off.median(),
            on.median() / off.median()
        );
    }
    Ok(text)
}
