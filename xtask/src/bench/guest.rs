//! Commands in a Dom0 with one NVDIMM and with eight.

use super::goal::{self, Goal};
use super::samples::{Samples, float};
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::fmt::Write as _;

/// A host, and what was measured on it.
#[derive(Deserialize)]
pub(super) struct Host {
    nvdimms: u64,
    commands: Vec<Measured>,
}

#[derive(Deserialize)]
struct Measured {
    line: String,
    nanoseconds: Vec<u64>,
    system_calls: u64,
}

/// Our value, and the one to compare it with.
const OURS: &str = "xen-pmem-discover";
const RIVAL: &str = "ndctl";

pub(super) fn section(hosts: Vec<Host>) -> Result<String> {
    let mut text = "### In a Dom0\n\nThe machine is emulated (QEMU, TCG), and its clock counts instructions: one is a nanosecond. Output goes to \
        /dev/null. NVDIMMs are prepared. Ratios are to `ndctl`.\n\n\
        | NVDIMMs | command | time | ratio | system calls |\n|---:|---|---:|---:|---:|\n"
        .to_owned();
    let (mut times, mut calls) = (Vec::new(), Vec::new());
    for host in hosts {
        let commands = host
            .commands
            .into_iter()
            .map(|command| Ok((command.line, Samples::new(command.nanoseconds)?, command.system_calls)))
            .collect::<Result<Vec<_>>>()?;
        let of = |name: &str| {
            let found = commands.iter().find(|(line, _, _)| line.starts_with(name));
            found.with_context(|| format!("{name} was not measured"))
        };
        let ((_, ours, our_calls), (_, rival, rival_calls)) = (of(OURS)?, of(RIVAL)?);
        times.push(ours.median() / rival.median());
        calls.push(float(*our_calls) / float(*rival_calls));
        for (line, samples, calls) in &commands {
            let bold = if line.starts_with(OURS) { "**" } else { "" };
            let _ = writeln!(
                text,
                "| {} | {bold}{line}{bold} | {} | {:.2} | {calls} |",
                host.nvdimms,
                samples.shown(),
                samples.median() / rival.median()
            );
        }
    }
    let goals = [
        Goal::ratio("`scan`'s time to ndctl's", times, 0.5),
        Goal::ratio("`scan`'s system calls to ndctl's", calls, 0.5),
    ];
    Ok(text + "\n" + &goal::list(&goals))
}
