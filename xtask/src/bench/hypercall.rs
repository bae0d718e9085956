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
    let mut text = "### Reporting to Xen\n\nEach range takes one hypercall. Xen works in steps, and after a slice of steps it does whatever else is to be \
        done. The longest step and the longest slice are Xen's own measurements: neither grows with the range. \
        Patched Xen, Dom0 of 1 GiB, emulated (QEMU, TCG), with a clock that counts instructions, one a nanosecond. \
        The column Linux is what a fsdax namespace with its map on the device (`--map=dev`) loses to that map.\n\n\
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
