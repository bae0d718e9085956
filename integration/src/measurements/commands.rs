//! Looking at a host's NVDIMMs: our command beside those that people use today, as whole commands in a Dom0.

use super::Bench;
use crate::image::MIB;
use crate::machine::{Config, Kind};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// How many NVDIMMs the hosts have.
const HOSTS: [usize; 2] = [1, 8];
/// How large one is.
const SIZE: u64 = 128 * MIB;
/// What is compared.
const LINES: [&str; 3] = ["xen-pmem-discover scan", "ndctl list -RNu", "lsblk -O -J"];
/// How often each is run.
const ROUNDS: usize = 25;

pub(super) fn run(bench: &Bench<'_>) -> Result<Value> {
    HOSTS.into_iter().map(|count| host(bench, count)).collect()
}

fn host(bench: &Bench<'_>, count: usize) -> Result<Value> {
    bench.step(&format!("boot a Dom0 with {count} prepared NVDIMMs"));
    let nvdimms = (0..count)
        .map(|index| Ok(bench.prepared(&format!("{count}-{index}"), SIZE, None)?.0))
        .collect::<Result<_>>()?;
    let mut vm = bench.boot(Config {
        counted: true,
        ..Config::new(Kind::Xen, nvdimms)
    })?;
    vm.load_nvdimm_drivers()?;
    for index in 0..count {
        vm.wait_for(&format!("/dev/pmem{index}p1"))?;
    }
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    let found = scan["devices"].as_array().context("no devices")?;
    ensure!(
        found.len() == count && found.iter().all(|device| device["state"] == "prepared"),
        "scan says {scan}"
    );
    bench.step("take times");
    let argv = ["xen-pmem-stopwatch", "commands", "--rounds", &ROUNDS.to_string()];
    let output = vm.exec(&argv, &LINES.join("\n"))?;
    ensure!(output.code == Some(0), "{}", output.stderr);
    let times: Vec<Vec<u64>> = serde_json::from_str(&output.stdout)?;
    ensure!(times.len() == LINES.len(), "the stopwatch says {times:?}");
    bench.step("count system calls");
    let commands = LINES
        .iter()
        .zip(times)
        .map(|(line, nanoseconds)| {
            let calls = system_calls(&mut vm, line)?;
            Ok(json!({ "line": line, "nanoseconds": nanoseconds, "system_calls": calls }))
        })
        .collect::<Result<Vec<Value>>>()?;
    vm.power_off()?;
    Ok(json!({ "nvdimms": count, "commands": commands }))
}

fn system_calls(vm: &mut Vm, line: &str) -> Result<u64> {
    let log = "/run/strace.log";
    vm.run(&format!("strace -f -qq -e signal=none -o {log} {line}"))?;
    let lines = vm.run(&format!("wc -l {log}"))?;
    let count = lines.split_whitespace().next().context("wc says nothing")?;
    Ok(count.parse()?)
}
