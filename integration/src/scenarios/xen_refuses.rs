//! Reports that Xen refuses: each leaves Xen as it was and is explained in its log; so do reports that fail midway.

use super::{NVDIMM_SIZE, Run, bare_provision};
use crate::frames::{self, FRAME};
use crate::machine::Kind;
use crate::manifest::Hypervisor;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};

/// Frames of a chunk: 2 MiB.
const CHUNK: u64 = 512;

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let (nvdimm, layout) = bare_provision::prepare(run)?;
    let before = frames::snapshot(&nvdimm, "before")?;
    let mut vm = run.boot(Kind::Xen, &[&nvdimm])?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    vm.load_nvdimm_core()?;
    let base = vm.number("/sys/bus/nd/devices/region0/resource")? / FRAME;
    let end = base + NVDIMM_SIZE / FRAME;
    let reserved = base + layout.reserved_base / FRAME;
    let reserved_end = reserved + layout.reserved_size / FRAME;
    let free = free_memory(&mut vm)?;

    run.step("a dry run says what is needed and does nothing");
    let said = pmemctl(&mut vm, 0, "dry-run", [base, end, reserved, reserved_end])?;
    ensure!(said.contains("1536 frames needed"), "pmemctl says {said}");

    run.step("each refused report names its reason");
    for (ranges, words, reason) in [
        ([base, base, reserved, reserved_end], "Invalid argument", "empty range"),
        ([base, end, reserved, reserved], "Invalid argument", "empty"),
        (
            [reserved, reserved_end, reserved, reserved_end],
            "Invalid argument",
            "nothing but reserved",
        ),
        (
            [base, end, reserved + 1, reserved_end],
            "Invalid argument",
            "2Mb-aligned",
        ),
        (
            [base, end, end, end + CHUNK],
            "Invalid argument",
            "outside of the range",
        ),
        (
            [base, end + CHUNK, reserved, reserved_end],
            "out of range",
            "crosses the bounds",
        ),
        ([0x1000, 0x2000, 0x1000, 0x1600], "out of range", "firmware declares no"),
        (
            [1 << 40, (1 << 40) + 0x20000, 1 << 40, (1 << 40) + CHUNK * 4],
            "out of range",
            "",
        ),
        ([base, end, reserved, reserved + CHUNK], "No space left", "small"),
    ] {
        vm.run("xl dmesg -c")?;
        let said = pmemctl(&mut vm, 1, "add", ranges)?;
        let log = vm.run("xl dmesg")?;
        let refused = log.lines().find(|line| line.contains("refused MFNs"));
        let refused = refused.with_context(|| format!("the log does not explain {ranges:x?}: {log}; {said}"))?;
        eprintln!("xen-refuses: {words}: {refused}");
        ensure!(
            said.contains(words) && refused.contains(reason),
            "{ranges:x?}: pmemctl says {said}, the log {refused}"
        );
        ensure_as_before(&mut vm, free)?;
    }
    ensure!(
        frames::differences(&before, &nvdimm)?.is_empty(),
        "a refused report wrote to the NVDIMM"
    );

    run.step("a report that comes when the driver is bound is refused, and changes nothing");
    vm.load_nvdimm_drivers()?;
    vm.wait_for("/dev/pmem0p1")?;
    let refused = vm.run_for(3, "xen-pmem-report apply --all")?;
    ensure!(refused.stdout.contains("apply --rebind"), "{refused:?}");
    ensure!(
        crate::xenstore::nodes(&mut vm)?.is_empty(),
        "XenStore has what the hypervisor refused"
    );
    ensure_as_before(&mut vm, free)?;

    run.step("a mounted device is not taken from its driver");
    vm.run("mount -t ext4 /dev/pmem0p1 /mnt")?;
    let refused = vm.run_for(3, "xen-pmem-report apply /dev/pmem0 --rebind")?;
    ensure!(refused.stdout.contains("in use"), "{refused:?}");
    let (name, content) = bare_provision::FILE;
    ensure!(
        vm.run(&format!("cat /mnt/{name}"))? == content,
        "the file has another content"
    );
    vm.run("umount /mnt")?;
    ensure_as_before(&mut vm, free)?;

    vm.run("ndctl disable-namespace namespace0.0")?;
    let ranges = [base, end, reserved, reserved_end];
    if run.hypervisor == Hypervisor::Debug {
        fail_every_so_often(run, &mut vm, ranges, free)?;
    } else {
        run.step("a report succeeds after all that was refused");
        let said = pmemctl(&mut vm, 0, "add", ranges)?;
        ensure!(said.contains("add: done"), "pmemctl says {said}");
    }

    run.step("what is registered cannot be reported otherwise");
    let said = pmemctl(&mut vm, 1, "add", [base, end, reserved, reserved_end])?;
    ensure!(
        said.contains("File exists") && said.contains("1536 used"),
        "pmemctl says {said}"
    );
    for ranges in [
        [base, end - CHUNK, reserved, reserved_end],
        [base, end, reserved, reserved_end + CHUNK],
    ] {
        let said = pmemctl(&mut vm, 1, "add", ranges)?;
        ensure!(said.contains("busy"), "pmemctl says {said}");
    }
    let list = vm.run("pmemctl list")?;
    ensure!(list.lines().count() == 1, "pmemctl says {list}");
    vm.run("ndctl enable-namespace namespace0.0")?;
    vm.wait_for("/dev/pmem0p1")?;
    vm.run("xen-pmem-report apply --all")?;
    vm.run("mount -t ext4 /dev/pmem0p1 /mnt")?;
    ensure!(
        vm.run(&format!("cat /mnt/{name}"))? == content,
        "the file has another content"
    );
    vm.run("umount /mnt")?;
    run.power_off(vm)?;

    rebind(run, &nvdimm)
}

/// Fails steps of a report until it succeeds, which only a hypervisor with assertions lets us do.
fn fail_every_so_often(run: &Run<'_>, vm: &mut Vm, ranges: [u64; 4], free: u64) -> Result<()> {
    run.step("failures in the middle are undone, and a retry succeeds");
    let argv = ["pmemctl", "faults"].map(str::to_owned);
    let ranges = ranges.map(|frame| format!("{frame:x}"));
    let command: Vec<String> = argv.into_iter().chain(ranges).chain(["197".to_owned()]).collect();
    let said = vm.run(&command.join(" "))?;
    let failures: u64 = said
        .split_whitespace()
        .next()
        .and_then(|count| count.parse().ok())
        .with_context(|| format!("pmemctl says {said}"))?;
    ensure!(failures >= 15 && said.contains("add: done"), "pmemctl says {said}");
    let heap = free_memory(vm)?;
    ensure!(
        free - heap <= 1,
        "{failures} failures cost {free} - {heap} MiB of Xen's heap"
    );
    Ok(())
}

/// Shows a raw device that was found late: the tool unbinds its driver for the report.
fn rebind(run: &Run<'_>, nvdimm: &std::path::Path) -> Result<()> {
    let mut vm = run.boot(Kind::Xen, &[nvdimm])?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    vm.load_nvdimm_drivers()?;
    vm.wait_for("/dev/pmem0p1")?;
    run.step("a raw device that is not in use is reported late");
    vm.run("xen-pmem-report apply /dev/pmem0 --rebind")?;
    vm.wait_for("/dev/pmem0p1")?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    let reservation = &status["reservations"][0];
    ensure!(
        reservation["hypervisor"] == "registered" && reservation["disagreement"].is_null(),
        "status says {status}"
    );
    vm.run("mount -t ext4 /dev/pmem0p1 /mnt")?;
    let (name, content) = bare_provision::FILE;
    ensure!(
        vm.run(&format!("cat /mnt/{name}"))? == content,
        "the file has another content"
    );
    vm.run("umount /mnt")?;
    // It is known: the driver stays where it is.
    let again = vm.json(0, "xen-pmem-report apply /dev/pmem0 --rebind --json")?;
    ensure!(
        again["devices"][0]["sinks"][0]["outcome"] == "unchanged",
        "apply says {again}"
    );
    run.power_off(vm)
}

/// Makes an operation by hand, and returns what `pmemctl` printed. Ranges are in frames: start and end of the range, then of the reserved
/// area.
pub(super) fn pmemctl(vm: &mut Vm, code: i32, command: &str, ranges: [u64; 4]) -> Result<String> {
    let [start, end, reserved, reserved_end] = ranges;
    Ok(vm
        .run_for(
            code,
            &format!("pmemctl {command} {start:x} {end:x} {reserved:x} {reserved_end:x}"),
        )?
        .stdout)
}

fn free_memory(vm: &mut Vm) -> Result<u64> {
    let info = vm.run("xl info")?;
    let line = info.lines().find(|line| line.starts_with("free_memory"));
    let value = line
        .and_then(|line| line.split(':').nth(1))
        .context("xl info says nothing of free memory")?;
    Ok(value.trim().parse()?)
}

/// Checks that Xen knows no range and has as much memory as before.
fn ensure_as_before(vm: &mut Vm, free: u64) -> Result<()> {
    let list = vm.run("pmemctl list")?;
    ensure!(list.is_empty(), "Xen knows {list}");
    let now = free_memory(vm)?;
    ensure!(now == free, "free memory was {free} MiB and is {now}");
    Ok(())
}
