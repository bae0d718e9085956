//! Telling Xen of persistent memory.

use super::samples::{float, time};
use anyhow::Result;
use serde::Deserialize;
use std::fmt::Write as _;

/// A range that was reported.
#[derive(Deserialize)]
pub(super) struct Range {
    bytes: u64,
    nanoseconds: u64,
    slices: u64,
    longest_nanoseconds: u64,
    steps: u64,
    longest_step_nanoseconds: u64,
    used: u64,
    reserved: u64,
    linux: u64,
}

const GIB: u64 = 1 << 30;

pub(super) fn section(ranges: Vec<Range>) -> Result<String> {
    let mut text = "### Reporting to Xen\n\nEach range takes one hypercall. Xen works in steps. After a slice of steps it does other pending work. Xen \
        itself measures the longest step and the longest slice; neither grows with the range. Dom0 has 1 GiB. The \
        machine is emulated (QEMU, TCG), and its clock counts instructions: one is a nanosecond. The column Linux is \
        what an fsdax namespace uses for its map on the device (`--map=dev`).\n\n\
        | range | time | per GiB | steps | longest step | slices | longest slice | reserved | used | Linux | used to Linux |\n\
        |---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for range in ranges {
        let gibibytes = float(range.bytes) / float(GIB);
        let _ = writeln!(
            text,
            "| {gibibytes} GiB | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.2} |",
            time(float(range.nanoseconds)),
            time(float(range.nanoseconds) / gibibytes),
            range.steps,
            time(float(range.longest_step_nanoseconds)),
            range.slices,
            time(float(range.longest_nanoseconds)),
            mebibytes(range.reserved),
            mebibytes(range.used),
            mebibytes(range.linux),
            float(range.used) / float(range.linux)
        );
    }
    Ok(text)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", float(bytes) / float(1 << 20))
}
