//! What a guest gets of persistent memory, and what giving it takes.

use super::goal::{self, Goal};
use super::samples::{Samples, float, time};
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fmt::Write as _;

/// All of it.
#[derive(Deserialize)]
pub(super) struct Guests {
    count: u64,
    accesses: Vec<Access>,
    mapping: Vec<Mapping>,
    wipe: Vec<Wipe>,
}

/// A partition of 1 GiB zeroed by a command.
#[derive(Deserialize)]
struct Wipe {
    command: String,
    nanoseconds: Vec<u64>,
}

/// So many writes or reads, by one path.
#[derive(Deserialize)]
struct Access {
    path: String,
    what: String,
    nanoseconds: Vec<u64>,
}

/// Frames given to a guest and taken back, in steps of a size.
#[derive(Deserialize)]
struct Mapping {
    step: u64,
    bytes: u64,
    add: Vec<u64>,
    remove: Vec<u64>,
    /// Starting the program that asks for it.
    start: Vec<u64>,
}

/// Of a disk's instructions, what DAX may take at most.
const GOAL: f64 = 0.1;
const GIB: u64 = 1 << 30;

pub(super) fn section(guests: Guests) -> Result<String> {
    let mut text = "### Guests\n\nA PVH guest of 256 MiB reads and writes blocks of 4 KiB of one partition. Writes are sequential, and each is \
        durable before the next. By DAX a write is a series of stores that bypass the caches, to a map whose page \
        faults have been taken before. On disks it uses O_DIRECT and O_DSYNC. Reads are random; on disks they use \
        O_DIRECT. The PV disk is `phy:` of the same partition. The machine has one processor and is emulated (QEMU, \
        TCG). Its clock counts the instructions of guest, Dom0 and Xen together: one is a nanosecond.\n\n\
        | path | write | read |\n|---|---:|---:|\n"
        .to_owned();
    let each = |path: &str, what: &str| -> Result<Samples> {
        let access = guests
            .accesses
            .iter()
            .find(|access| access.path == path && access.what == what);
        let access = access.with_context(|| format!("no {what} by {path} were measured"))?;
        let times = access.nanoseconds.iter().map(|time| time.checked_div(guests.count));
        Samples::new(times.collect::<Option<_>>().context("nothing was counted")?)
    };
    for (path, name) in [
        ("dax", "guest, DAX (`pmem=`)"),
        ("disk", "guest, PV disk (`disk=`)"),
        ("dom0", "Dom0, block device"),
    ] {
        let _ = writeln!(
            text,
            "| {name} | {} | {} |",
            each(path, "writes")?.shown(),
            each(path, "reads")?.shown()
        );
    }
    let ratio = |what: &str| -> Result<f64> { Ok(each("dax", what)?.median() / each("disk", what)?.median()) };
    let goals = [
        Goal::ratio("a durable write by DAX to one on a PV disk", [ratio("writes")?], GOAL),
        Goal::ratio("a read by DAX to one on a PV disk", [ratio("reads")?], GOAL),
    ];
    let _ = write!(text, "\n{}", goal::list(&goals));
    text += "\nGiving a partition to a guest and taking it back, without starting the program that asks for it:\n\n\
        | steps | range | give, per GiB | take back, per GiB |\n|---:|---:|---:|---:|\n";
    for mapping in guests.mapping {
        let gibibytes = float(mapping.bytes) / float(GIB);
        let start = Samples::new(mapping.start)?.median();
        let per_gib = |times: Vec<u64>| -> Result<String> {
            Ok(time((Samples::new(times)?.median() - start).max(0.0) / gibibytes))
        };
        let _ = writeln!(
            text,
            "| {} KiB | {} MiB | {} | {} |",
            mapping.step >> 10,
            mapping.bytes >> 20,
            per_gib(mapping.add)?,
            per_gib(mapping.remove)?
        );
    }
    text += "\nThe guest's paging pool holds the page tables: for 1 TiB 4 MiB and some pages with steps of 2 MiB, 2 GiB with steps of 4 KiB (arithmetic: \
        8 bytes for each step). `xl` chooses frame numbers that allow for 2 MiB, and adds to the pool what they take.\n";
    text += "\nZeroing a partition of 1 GiB in Dom0:\n\n| command | time |\n|---|---:|\n";
    for wipe in guests.wipe {
        let _ = writeln!(
            text,
            "| `{}` | {} |",
            wipe.command,
            Samples::new(wipe.nanoseconds)?.shown()
        );
    }
    Ok(text)
}
