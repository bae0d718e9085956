//! NVDIMMs plugged into a running host: reported before nd_pmem maps them.

use super::xen_refuses::pmemctl;
use super::{NVDIMM_SIZE, Run, xen_lives};
use crate::image;
use crate::machine::{Config, Kind, Nvdimm};
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// What a service does when an NVDIMM appears.
const REPORT: &str = "xen-pmem-report apply --early --bind --all --sink all --json";

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimms = xen_lives::prepare(run)?;
    let blank = run.folder.join("blank");
    image::blank(&blank, NVDIMM_SIZE)?;

    let mut vm = boot(run, &["pmem=hotplug"])?;
    only_where_memory_can_be_plugged(run, &mut vm)?;
    for (index, nvdimm) in (1..).zip(&nvdimms) {
        run.step(&format!("plug in {}", nvdimm.file.display()));
        plug(&mut vm, index, &nvdimm.file)?;
        let applied = vm.json(0, REPORT)?;
        let devices = applied["devices"]
            .as_array()
            .with_context(|| format!("apply says {applied}"))?;
        ensure!(devices.len() == index, "apply says {applied}");
        ensure!(
            count(&applied, "hypercall", "published") == 1 && count(&applied, "hypercall", "unchanged") == index - 1,
            "apply says {applied}"
        );
        vm.wait_for(&format!("/dev/pmem{}p1", index - 1))?;
        vm.run(&format!("mount -t ext4 /dev/pmem{}p1 /mnt", index - 1))?;
        vm.run("cat /mnt/greeting")?;
        vm.run("umount /mnt")?;
    }
    run.step("a blank one becomes an ordinary disk");
    plug(&mut vm, 3, &blank)?;
    let applied = vm.json(0, REPORT)?;
    ensure!(count(&applied, "hypercall", "unchanged") == 2, "apply says {applied}");
    vm.wait_for("/dev/pmem2")?;

    run.step("with their drivers bound, all sides agree");
    vm.run("xen-pmem-report apply --all")?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    let reservations = status["reservations"]
        .as_array()
        .with_context(|| format!("status says {status}"))?;
    ensure!(
        reservations.len() == 2
            && reservations
                .iter()
                .all(|it| it["hypervisor"] == "registered" && it["disagreement"].is_null()),
        "status says {status}"
    );
    run.power_off(vm)?;

    let mut vm = boot(run, &[])?;
    run.step("a Xen that is not told of hotplug refuses, and the device is an ordinary disk");
    let raw = nvdimms.first().context("no NVDIMM")?;
    plug(&mut vm, 1, &raw.file)?;
    let refused = vm.run_for(1, &REPORT.replace(" --json", ""))?;
    ensure!(refused.stdout.contains("pmem=hotplug"), "{refused:?}");
    vm.wait_for("/dev/pmem0p1")?;
    run.power_off(vm)
}

/// Dom0's word counts within the ranges that the SRAT calls hot-pluggable, and nowhere else. QEMU's range begins at 4 GiB: all RAM of
/// these machines is below.
fn only_where_memory_can_be_plugged(run: &Run<'_>, vm: &mut Vm) -> Result<()> {
    run.step("a report is accepted only where memory can be plugged in");
    /// The frame at 4 GiB.
    const PLUGGABLE: u64 = 0x10_0000;
    /// Frames of 128 MiB.
    const SIZE: u64 = 0x8000;
    let at = |start: u64| [start, start + SIZE, start, start + 0x600];
    pmemctl(vm, 0, "dry-run", at(PLUGGABLE))?;
    for (start, place) in [
        (0xe_0000, "where PCI devices have their memory"),
        (PLUGGABLE - SIZE, "just below the range"),
        (PLUGGABLE - SIZE / 2, "across the range's start"),
    ] {
        vm.run("xl dmesg -c")?;
        let said = pmemctl(vm, 1, "dry-run", at(start))?;
        let log = vm.run("xl dmesg")?;
        ensure!(
            said.contains("out of range") && log.contains("declares no persistent memory there"),
            "{place}: pmemctl says {said}, the log {log}"
        );
    }
    Ok(())
}

/// Returns how many devices have this outcome at a sink.
fn count(applied: &Value, sink: &str, outcome: &str) -> usize {
    let devices = applied["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    devices
        .iter()
        .filter_map(|device| device["sinks"].as_array())
        .flatten()
        .filter(|it| it["sink"] == sink && it["outcome"] == outcome)
        .count()
}

/// Returns a Dom0 without NVDIMMs, its drivers loaded and told to bind to nothing by themselves.
fn boot(run: &Run<'_>, xen: &[&str]) -> Result<Vm> {
    run.step("boot Xen without NVDIMMs");
    let mut vm = run.boot_as(Config {
        xen: xen.iter().map(|word| (*word).to_owned()).collect(),
        ..Config::new(Kind::Xen, Vec::new())
    })?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    vm.load_nvdimm_drivers()?;
    vm.script("echo 0 > /sys/bus/nd/drivers_autoprobe")?;
    Ok(vm)
}

/// Plugs an NVDIMM in and waits until libnvdimm has a region for it.
fn plug(vm: &mut Vm, index: usize, file: &std::path::Path) -> Result<()> {
    vm.plug(index, &Nvdimm::unlabelled(file))?;
    let what = format!("libnvdimm has a region for NVDIMM {index}");
    poll::until(&what, Duration::from_secs(15), || {
        let devices = vm.run("ls /sys/bus/nd/devices")?;
        let regions = devices.split_whitespace().filter(|name| name.starts_with("region"));
        Ok((regions.count() >= index).then_some(()))
    })
}
