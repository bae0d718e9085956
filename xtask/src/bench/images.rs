//! Commands on image files.

mod contender;
mod ground;

use super::goal::{self, Goal};
use super::samples::{Samples, float};
use crate::host::Need;
use crate::progress::step;
use crate::tools::Tools;
use anyhow::{Context as _, Result};
use contender::{Contender, Measured, other, ours};
use ground::{Ground, Images};
use std::fmt::Write as _;

/// What the others are, and what measuring takes.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        program: "sgdisk",
        package: "gdisk",
    },
    Need {
        program: "sfdisk",
        package: "fdisk",
    },
    Need {
        program: "parted",
        package: "parted",
    },
    Need {
        program: "ndctl",
        package: "ndctl",
    },
    Need {
        program: "blkid",
        package: "util-linux",
    },
    Need {
        program: "strace",
        package: "strace",
    },
    Need {
        program: "/usr/bin/time",
        package: "time",
    },
];

/// Sizes of the images, in words of our tools and in bytes.
const SIZES: [(&str, u64); 4] = [("1G", 1 << 30), ("100G", 100 << 30), ("1T", 1 << 40), ("8T", 8 << 40)];

const MAKING: &[Contender] = &[
    ours("xen-pmem-provision init {blank} --quiet"),
    other("sgdisk -o -n 1:0:0 {blank}"),
];
const LOOKING: &[Contender] = &[
    ours("xen-pmem-provision show {prepared}"),
    ours("xen-pmem-provision verify {prepared}"),
    other("sgdisk -v {prepared}"),
    other("sgdisk -p {prepared}"),
    other("sfdisk -J {prepared}"),
    other("blkid -p {prepared}"),
    other("parted -s {prepared} print"),
    other("ndctl read-infoblock -i {infoblock}"),
];

/// What is compared.
struct Contest {
    what: &'static str,
    contenders: &'static [Contender],
    /// Whether it waits for the disk, or sleeps, for a part of its time: then it runs a quarter as often, and the page has its time at
    /// work, too.
    waits: bool,
}

const CONTESTS: [Contest; 2] = [
    Contest {
        what: "make the table",
        contenders: MAKING,
        waits: true,
    },
    Contest {
        what: "look at it",
        contenders: LOOKING,
        waits: false,
    },
];

/// What was measured of a command on an image of one size.
struct Row {
    size: &'static str,
    contender: &'static Contender,
    measured: Measured,
}

pub(super) fn section(tools: &Tools, runs: usize) -> Result<String> {
    let mut text = "### On images\n\nTimes are the median and half the distance between the quartiles. Each round runs each command on each image \
        once, in an order that changes. Output goes to /dev/null. Images are sparse files in the page cache. All \
        programs were copied to their place, because a file that a linker has just written is slower. Ratios are to the \
        fastest of the others.\n"
        .to_owned();
    let ground = Ground::new(tools, &SIZES)?;
    let mut all = Vec::new();
    for contest in &CONTESTS {
        let runs = if contest.waits { runs.div_ceil(4) } else { runs };
        let rows = measure(contest, &ground, runs)?;
        let _ = write!(text, "\n#### To {}\n\n{runs} runs each.", contest.what);
        let (head, rule) = match contest.waits {
            false => ("", ""),
            true => {
                text += " sgdisk flushes all file systems and sleeps for a second; `init` flushes its image after each of its steps. The \
        column at work is the time without that; our commands run four times as often for it.";
                (" at work | ratio |", "---:|---:|")
            }
        };
        let _ = writeln!(
            text,
            "\n\n| image | command | time | ratio |{head} system calls | read | written | peak memory |\n|---:|---|---:|---:|{rule}---:|---:|---:|---:|"
        );
        for row in &rows {
            let _ = writeln!(text, "{}", line(row, &rows)?);
        }
        all.push(rows);
    }
    let [making, looking] = all.as_slice() else {
        anyhow::bail!("there are other contests")
    };
    let goals = goals(making, looking)?;
    Ok(text + "\n" + &goal::list(&goals))
}

fn measure(contest: &Contest, ground: &Ground, runs: usize) -> Result<Vec<Row>> {
    step(&format!("to {}", contest.what));
    let measured = contender::measure(contest.contenders, &ground.images, runs, contest.waits)?;
    Ok(measured
        .into_iter()
        .map(|(images, contender, measured)| Row {
            size: images.size,
            contender,
            measured,
        })
        .collect())
}

/// Returns the rows of others on images of the same size.
fn others<'a>(row: &'a Row, rows: &'a [Row]) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(|it| it.size == row.size && !it.contender.ours)
}

/// Returns the ratio of the time to that of the fastest of the others.
fn ratio(row: &Row, rows: &[Row]) -> Result<f64> {
    ratio_of(row, rows, |row| Some(row.measured.times.median()))
}

/// Returns the same of the times at work.
fn ratio_at_work(row: &Row, rows: &[Row]) -> Result<f64> {
    ratio_of(row, rows, |row| row.measured.at_work.as_ref().map(Samples::median))
}

fn ratio_of(row: &Row, rows: &[Row], time: impl Fn(&Row) -> Option<f64>) -> Result<f64> {
    let fastest = others(row, rows).filter_map(&time).min_by(f64::total_cmp);
    let (own, fastest) = time(row).zip(fastest).context("there is no time to compare with")?;
    Ok(own / fastest)
}

/// Returns the ratio of a number of system calls to the lowest of the others'.
fn ratio_of_calls(row: &Row, rows: &[Row]) -> Result<f64> {
    let fewest = others(row, rows).map(|it| it.measured.traced.calls).min();
    Ok(float(row.measured.traced.calls) / float(fewest.context("there is no other")?))
}

fn line(row: &Row, rows: &[Row]) -> Result<String> {
    let bold = if row.contender.ours { "**" } else { "" };
    let Measured {
        times,
        at_work,
        traced,
        memory,
    } = &row.measured;
    let at_work = match at_work {
        None => String::new(),
        Some(times) => format!(" {} | {:.2} |", times.shown(), ratio_at_work(row, rows)?),
    };
    Ok(format!(
        "| {}iB | {bold}{}{bold} | {} | {:.2} |{at_work} {} | {} | {} | {} |",
        row.size,
        row.contender.shown(),
        times.shown(),
        ratio(row, rows)?,
        traced.calls,
        kibibytes(traced.read),
        kibibytes(traced.written),
        kibibytes(*memory)
    ))
}

fn kibibytes(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

fn goals(making: &[Row], looking: &[Row]) -> Result<Vec<Goal>> {
    let each = |rows: &[Row], ratio: fn(&Row, &[Row]) -> Result<f64>| {
        let ours = rows.iter().filter(|row| row.contender.ours);
        ours.map(|row| ratio(row, rows)).collect::<Result<Vec<_>>>()
    };
    let [(smallest, _), .., (largest, _)] = SIZES;
    let (mut growth, mut moved) = (Vec::new(), Vec::new());
    for rows in [making, looking] {
        let of = |size: &'static str| rows.iter().filter(move |row| row.contender.ours && row.size == size);
        for (small, large) in of(smallest).zip(of(largest)) {
            // What waits for the disk takes as long as that takes.
            let time = |row: &Row| {
                let Measured { times, at_work, .. } = &row.measured;
                at_work.as_ref().unwrap_or(times).median()
            };
            let bytes = |row: &Row| float(row.measured.traced.read + row.measured.traced.written);
            growth.push(time(large) / time(small));
            moved.push(bytes(large) / bytes(small));
        }
    }
    let ours = making.iter().chain(looking).filter(|row| row.contender.ours);
    let memory = ours.map(|row| row.measured.memory);
    Ok(vec![
        Goal::ratio(
            "`show` and `verify`: time to the fastest of the others",
            each(looking, ratio)?,
            0.5,
        ),
        Goal::ratio(
            "`show` and `verify`: system calls to the fewest of the others",
            each(looking, ratio_of_calls)?,
            0.5,
        ),
        Goal::ratio("`init`: time at work to sgdisk's", each(making, ratio_at_work)?, 1.0),
        Goal::ratio("all of ours: time at 8 TiB to that at 1 GiB", growth, 1.1),
        Goal::ratio(
            "all of ours: bytes read and written at 8 TiB to those at 1 GiB",
            moved,
            1.0,
        ),
        Goal::below("all of ours: peak memory", memory, 8 << 20),
    ])
}
