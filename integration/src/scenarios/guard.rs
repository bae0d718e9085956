//! `guard` sees who writes to what is reserved for Xen, and nothing else.

use super::{NVDIMM_SIZE, Run};
use crate::machine::{Config, Kind, Nvdimm};
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::time::Duration;

/// How long an event may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes of a write.
const BLOCK: u64 = 4096;
/// How many ordinary writes are timed.
const TIMED: u64 = 20_000;

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let prepare = |name| run.prepared_nvdimm(name, NVDIMM_SIZE);
    let (first, second, third) = (prepare("first")?, prepare("second")?, prepare("third")?);
    let block = first.layout.reserved_base / BLOCK;

    run.step("boot Linux");
    let nvdimms = [&first, &second]
        .map(|prepared| Nvdimm::unlabelled(&prepared.file))
        .to_vec();
    let mut vm = run.boot_as(Config::new(Kind::Bare, nvdimms))?;
    vm.load_nvdimm_drivers()?;
    for device in ["/dev/pmem0p1", "/dev/pmem1p1"] {
        vm.wait_for(device)?;
    }
    let without = time_of_writes(&mut vm)?;
    start(&mut vm, "guard", "")?;
    events(&mut vm, "guard", |lines| count(lines, "watching") == 2)?;

    run.step("ordinary writes are not its affair");
    let with = time_of_writes(&mut vm)?;
    eprintln!("guard: a direct write of 4 KiB takes {without:.2} us without and {with:.2} us with it (emulated)");
    vm.run("mke2fs -q -t ext4 -b 4096 /dev/pmem0p1")?;
    vm.run("mount -t ext4 /dev/pmem0p1 /mnt")?;
    vm.script("dd if=/dev/urandom of=/mnt/file bs=1M count=16 && sync")?;
    vm.run("umount /mnt")?;
    ensure!(
        lines(&mut vm, "guard")?.len() == 2,
        "it says {:?}",
        lines(&mut vm, "guard")?
    );

    run.step("a write to the reserved area, and who did it");
    let dd = dd(&mut vm)?;
    let dd = |device: &str, block: u64, count: u64| {
        format!(
            "{dd} if=/dev/zero of={device} bs={BLOCK} seek={block} count={count} oflag=direct conv=notrunc 2>/dev/null"
        )
    };
    let process = vm.script(&format!("echo $$; exec {}", dd("/dev/pmem0", block + 3, 1)))?;
    let told = events(&mut vm, "guard", |lines| count(lines, "offence") == 1)?;
    let offence = told.last().context("no event")?;
    ensure!(
        offence["device"] == "/dev/pmem0"
            && offence["process"].as_u64() == process.trim().parse().ok()
            && offence["command"] == "dd"
            && offence["operation"] == "write"
            && offence["offset"] == (block + 3) * BLOCK
            && offence["length"] == BLOCK
            && offence["count"] == 1,
        "{offence}; the process was {process}"
    );

    run.step("ten thousand writes are counted, not told of one by one");
    vm.script(&format!(
        "i=0; while [ $i -lt 10 ]; do {}; i=$((i + 1)); done",
        dd("/dev/pmem1", block, 1000)
    ))?;
    let told = events(&mut vm, "guard", |lines| offences(lines, "/dev/pmem1") == 10_000)?;
    ensure!(told.len() < 500, "there are {} lines", told.len());

    run.step("a device that is plugged in later is watched as well");
    vm.plug(3, &Nvdimm::unlabelled(&third.file))?;
    vm.wait_for("/dev/pmem2p1")?;
    events(&mut vm, "guard", |lines| count(lines, "watching") == 3)?;
    vm.script(&dd("/dev/pmem2", block, 2))?;
    events(&mut vm, "guard", |lines| offences(lines, "/dev/pmem2") == 2)?;

    run.step("one that is not prepared any more is not");
    vm.run("xen-pmem-provision remove /dev/pmem2")?;
    events(&mut vm, "guard", |lines| count(lines, "total") >= 1)?;
    let before = lines(&mut vm, "guard")?.len();
    vm.script(&dd("/dev/pmem2", block, 2))?;

    run.step("SIGTERM ends it, with the totals");
    stop(&mut vm, "guard")?;
    let told = lines(&mut vm, "guard")?;
    let total = |device: &str| {
        let line = told
            .iter()
            .rev()
            .find(|line| line["event"] == "total" && line["device"] == device);
        line.and_then(|line| line["count"].as_u64())
    };
    ensure!(
        total("/dev/pmem0") == Some(1) && total("/dev/pmem1") == Some(10_000) && offences(&told, "/dev/pmem2") == 2,
        "it says {:?}",
        told.get(before..)
    );

    run.step("--kill ends whoever writes there");
    start(&mut vm, "killer", "--kill")?;
    events(&mut vm, "killer", |lines| count(lines, "watching") == 2)?;
    let argv = ["sh", "-c", &format!("exec {}", dd("/dev/pmem0", block, 1000))];
    let output = vm.exec(&argv, "")?;
    ensure!(output.code.is_none(), "dd was not killed: {output:?}");
    let told = events(&mut vm, "killer", |lines| count(lines, "offence") >= 1)?;
    ensure!(
        told.iter()
            .any(|line| line["killed"] == true && line["command"] == "dd"),
        "it says {told:?}"
    );
    vm.script(&dd("/dev/pmem0p1", 0, 10))?;
    stop(&mut vm, "killer")?;
    run.leave(vm)
}

fn start(vm: &mut Vm, name: &str, flags: &str) -> Result<()> {
    let script = format!(
        "xen-pmem-discover guard --json {flags} > /run/{name}.events 2> /run/{name}.err &
        echo $! > /run/{name}.pid; wait $!; echo $? > /run/{name}.exit"
    );
    vm.spawn(&["sh", "-c", &script])?;
    vm.wait_for(&format!("/run/{name}.pid"))
}

fn stop(vm: &mut Vm, name: &str) -> Result<()> {
    let pid = vm.attribute(&format!("/run/{name}.pid"))?;
    vm.run(&format!("kill -TERM {pid}"))?;
    vm.wait_for(&format!("/run/{name}.exit"))?;
    let code = vm.attribute(&format!("/run/{name}.exit"))?;
    ensure!(code == "0", "it ended with exit code {code}");
    Ok(())
}

fn lines(vm: &mut Vm, name: &str) -> Result<Vec<Value>> {
    let text = vm.run(&format!("cat /run/{name}.events"))?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not a line of JSON: {line}")))
        .collect()
}

/// Waits until it has reported enough.
fn events(vm: &mut Vm, name: &str, enough: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    let mut end = String::new();
    let told = poll::until("the guard has reported enough", LIMIT, || {
        let told = lines(vm, name)?;
        end = format!("{:?}", told.iter().rev().take(5).collect::<Vec<_>>());
        Ok(enough(&told).then_some(told))
    });
    match told {
        Ok(told) => Ok(told),
        Err(error) => {
            let errors = vm.run(&format!("cat /run/{name}.err"))?;
            Err(error.context(format!("its report ends with {end}; {errors}")))
        }
    }
}

/// Returns how many lines are of this kind.
fn count(lines: &[Value], event: &str) -> usize {
    lines.iter().filter(|line| line["event"] == event).count()
}

/// Returns the number of reported offences on a device.
fn offences(lines: &[Value], device: &str) -> u64 {
    let told = lines
        .iter()
        .filter(|line| line["device"] == device && (line["event"] == "offence" || line["event"] == "more"));
    told.filter_map(|line| line["count"].as_u64()).sum()
}

/// Returns a `dd` that writes past the page cache. The shell's own does in all suites but the oldest, which has a program for that.
fn dd(vm: &mut Vm) -> Result<String> {
    let path = vm.script("test -x /usr/bin/dd && echo /usr/bin/dd || echo dd")?;
    Ok(path.trim().to_owned())
}

/// Returns the time that an ordinary direct write to a partition takes, in microseconds: the median of some runs.
fn time_of_writes(vm: &mut Vm) -> Result<f64> {
    let dd = dd(vm)?;
    let mut runs = Vec::new();
    // The first run warms up: the emulator translates new code.
    for _ in 0..6 {
        let seconds = vm.script(&format!(
            "start=$(cut -d' ' -f1 /proc/uptime)
            {dd} if=/dev/zero of=/dev/pmem1p1 bs={BLOCK} count={TIMED} oflag=direct conv=notrunc 2>/dev/null
            end=$(cut -d' ' -f1 /proc/uptime)
            echo $start $end"
        ))?;
        let times: Vec<f64> = seconds
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [start, end] = times.as_slice() else {
            bail!("the times are {seconds}")
        };
        runs.push(end - start);
    }
    runs.remove(0);
    runs.sort_by(f64::total_cmp);
    let median = runs.get(runs.len() / 2).context("no run")?;
    #[expect(clippy::cast_precision_loss, reason = "a count of some thousands")]
    Ok(median * 1e6 / TIMED as f64)
}
