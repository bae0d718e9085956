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
    used: u64,
    reserved: u64,
    linux: u64,
}

const GIB: u64 = 1 << 30;

pub(super) fn section(ranges: Vec<Range>) -> Result<String> {
    let mut text = "### Telling Xen\n\nOne hypercall each, in slices between which Xen does what else there is; the longest slice is Xen's own \
        measurement. Patched Xen, Dom0 of 1 GiB, emulated (QEMU, TCG), with a clock that counts instructions, one a nanosecond. \
        Linux: what a fsdax namespace with its map on the device (`--map=dev`) loses to that.\n\n\
        | range | time | per GiB | slices | longest slice | reserved | used | Linux | used to Linux |\n\
        |---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for range in ranges {
        let gibibytes = float(range.bytes) / float(GIB);
        let _ = writeln!(
            text,
            "| {gibibytes} GiB | {} | {} | {} | {} | {} | {} | {} | {:.2} |",
            time(float(range.nanoseconds)),
            time(float(range.nanoseconds) / gibibytes),
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
