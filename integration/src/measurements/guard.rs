//! What the guard costs those whose writes are not its affair.

use super::Bench;
use crate::image::MIB;
use crate::machine::{Config, Kind};
use crate::poll;
use crate::vm::Vm;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::time::Duration;

/// How large the NVDIMM is.
const SIZE: u64 = 512 * MIB;
/// How writes reach the device, and how many are timed as one.
const WRITES: [(&str, u64); 2] = [("direct", 20_000), ("flushed", 5000)];
/// How often, without and with the guard in turn.
const ROUNDS: usize = 7;
/// How long the guard may take to be on watch.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run(bench: &Bench<'_>) -> Result<Value> {
    bench.step("boot Linux");
    let (nvdimm, _) = bench.prepared("nvdimm", SIZE, None)?;
    let mut vm = bench.boot(Config {
        counted: true,
        ..Config::new(Kind::Bare, vec![nvdimm])
    })?;
    vm.load_nvdimm_drivers()?;
    vm.wait_for("/dev/pmem0p1")?;
    let mut off = WRITES.map(|_| Vec::new());
    let mut on = WRITES.map(|_| Vec::new());
    for round in 0..=ROUNDS {
        bench.step(&format!("write without and with the guard, {round} of {ROUNDS}"));
        // The first round, with what is not translated and not cached yet, is not counted.
        let keep = round > 0;
        write(&mut vm, keep.then_some(&mut off))?;
        let guard = start(&mut vm)?;
        write(&mut vm, keep.then_some(&mut on))?;
        stop(&mut vm, &guard)?;
    }
    vm.power_off()?;
    let measured = WRITES
        .iter()
        .zip(off.iter().zip(&on))
        .map(|((how, count), (off, on))| {
            json!({ "how": how, "writes": count, "off_nanoseconds": off, "on_nanoseconds": on })
        });
    Ok(measured.collect())
}

/// Times writes of each kind.
fn write(vm: &mut Vm, times: Option<&mut [Vec<u64>; WRITES.len()]>) -> Result<()> {
    let mut taken = Vec::new();
    for (how, count) in WRITES {
        let document = vm.run(&format!(
            "xen-pmem-stopwatch writes --how {how} --count {count} /dev/pmem0p1"
        ))?;
        taken.push(document.trim().parse::<u64>()?);
    }
    for (times, time) in times.into_iter().flatten().zip(taken) {
        times.push(time);
    }
    Ok(())
}

/// Starts the guard and waits until it is on watch. Returns its process.
fn start(vm: &mut Vm) -> Result<String> {
    let script = "rm -f /run/guard.*; xen-pmem-discover guard --json > /run/guard.events 2> /run/guard.err &
        echo $! > /run/guard.pid; wait $!; echo $? > /run/guard.exit";
    vm.spawn(&["sh", "-c", script])?;
    let watching = poll::until("the guard is on watch", LIMIT, || {
        let told = vm.script("cat /run/guard.events 2>/dev/null || true")?;
        Ok(told.contains("\"watching\"").then_some(()))
    });
    if let Err(error) = watching {
        return Err(error.context(vm.run("cat /run/guard.err")?));
    }
    vm.attribute("/run/guard.pid")
}

/// Ends the guard, which must have seen nothing.
fn stop(vm: &mut Vm, guard: &str) -> Result<()> {
    vm.run(&format!("kill -TERM {guard}"))?;
    vm.wait_for("/run/guard.exit")?;
    let code = vm.attribute("/run/guard.exit")?;
    let told = vm.attribute("/run/guard.events")?;
    if code != "0" || told.contains("\"offence\"") {
        bail!("the guard ended with exit code {code} and has told of {told}");
    }
    Ok(())
}
