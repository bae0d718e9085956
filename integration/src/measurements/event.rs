//! From the kernel's event that a device is there to the report of it in XenStore, on an installed host.

use super::Bench;
use crate::image::MIB;
use crate::machine::{Config, Initramfs, Kind, Root};
use crate::poll;
use crate::vm::Vm;
use crate::xenstore;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

/// How large the NVDIMM is.
const SIZE: u64 = 512 * MIB;
/// How often each way is gone.
const ROUNDS: usize = 8;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The path of the stopwatch in an installed system.
const STOPWATCH: &str = "/usr/local/sbin/xen-pmem-stopwatch";
/// The rule of our packages, and where an administrator's counts more.
const RULE: &str = "/etc/udev/rules.d/60-xen-pmem.rules";
/// The rule of an administrator who has none of our programs.
const OWN_RULE: &str = "/etc/udev/rules.d/70-pmem.rules";
const OWN_RULE_TEXT: &str = r#"ACTION=="add", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", KERNEL=="pmem*", RUN+="/usr/local/sbin/report-pmem %k"
ACTION=="remove", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", KERNEL=="pmem*", RUN+="/usr/bin/xenstore-rm /tool/pmem/%k"
"#;
/// Tells what lies before the first partition.
const OWN_SCRIPT: &str = r#"#!/bin/sh
set -e
base=$(($(cat /sys/block/$1/device/resource)))
first=$(sgdisk -i 1 /dev/$1 | sed -n 's/^First sector: \([0-9]*\).*/\1/p')
xenstore-write /tool/pmem/$1/base $base /tool/pmem/$1/size $((first * 512)) /tool/pmem/$1/state ready
"#;
const OWN_NODE: &str = "/tool/pmem/pmem0/state";

pub(super) fn run(bench: &Bench<'_>) -> Result<Value> {
    let (nvdimm, uuid) = bench.prepared("nvdimm", SIZE, None)?;
    bench.step("boot the installed system");
    let mut vm = bench.boot(Config {
        root: Root::System(Initramfs::InitramfsTools),
        counted: true,
        ..Config::new(Kind::Xen, vec![nvdimm])
    })?;
    let state = vm.exec(&["systemctl", "is-system-running", "--wait"], "")?;
    ensure!(state.stdout.trim() == "running", "the system is {}", state.stdout);
    let node = format!("{}/{uuid}/state", xenstore::ROOT);
    let mut ways = Vec::new();

    let rule = rounds(bench, &mut vm, "the udev rule of the packages", &node)?;
    ways.push(json!({ "way": "udev rule and unit of the packages", "ours": true, "nanoseconds": rule }));

    vm.run(&format!("ln -s /dev/null {RULE}"))?;
    reload(&mut vm)?;
    for (source, said) in [("netlink", "netlink"), ("bpf", "BPF")] {
        vm.script(&format!(
            "systemd-run --quiet --unit=watch-{source} xen-pmem-report watch --source {source}"
        ))?;
        wait_for(&mut vm, &node, true)?;
        let times = rounds(bench, &mut vm, &format!("watch, told by {said}"), &node)?;
        vm.run(&format!("systemctl stop watch-{source}"))?;
        ways.push(
            json!({ "way": format!("xen-pmem-report watch --source {source}"), "ours": true, "nanoseconds": times }),
        );
    }

    vm.write(OWN_RULE, OWN_RULE_TEXT)?;
    vm.write("/usr/local/sbin/report-pmem", OWN_SCRIPT)?;
    vm.run("chmod 755 /usr/local/sbin/report-pmem")?;
    reload(&mut vm)?;
    remove(&mut vm)?;
    appear(&mut vm)?;
    wait_for(&mut vm, OWN_NODE, true)?;
    let script = rounds(bench, &mut vm, "a script of an administrator's own", OWN_NODE)?;
    ways.push(
        json!({ "way": "udev rule with a script: sgdisk, xenstore-write", "ours": false, "nanoseconds": script }),
    );
    vm.power_off()?;
    Ok(ways.into())
}

/// Makes the device go and come, and measures the times until it is reported. It is there, and reported, before and afterwards.
fn rounds(bench: &Bench<'_>, vm: &mut Vm, what: &str, node: &str) -> Result<Vec<u64>> {
    bench.step(what);
    wait_for(vm, node, true)?;
    let mut times = Vec::new();
    for round in 0..=ROUNDS {
        remove(vm)?;
        wait_for(vm, node, false)?;
        vm.run("udevadm settle")?;
        // This process comes before all others, but not the programs that it starts: it sees both moments when they happen.
        let said = vm.run(&format!(
            "chrt --reset-on-fork --fifo 50 {STOPWATCH} event --disk pmem0 --node {node} --value ready -- \
            ndctl enable-namespace namespace0.0"
        ))?;
        let time = said
            .trim()
            .parse()
            .with_context(|| format!("the stopwatch says {said}"))?;
        // What is done for the first time is read from the disk, and translated by the emulator.
        if round > 0 {
            times.push(time);
        }
        vm.run("udevadm settle")?;
    }
    Ok(times)
}

fn remove(vm: &mut Vm) -> Result<()> {
    vm.run("ndctl disable-namespace namespace0.0").map(|_| ())
}

fn appear(vm: &mut Vm) -> Result<()> {
    vm.run("ndctl enable-namespace namespace0.0").map(|_| ())
}

fn reload(vm: &mut Vm) -> Result<()> {
    vm.run("udevadm control --reload").map(|_| ())
}

/// Waits until a node says `ready`, or is not there any more.
fn wait_for(vm: &mut Vm, node: &str, there: bool) -> Result<()> {
    let mut last = String::new();
    let settled = poll::until(&format!("{node} has changed"), LIMIT, || {
        last = vm.exec(&["xenstore-read", node], "")?.stdout;
        Ok(((last.trim() == "ready") == there).then_some(()))
    });
    if let Err(error) = settled {
        let journal = vm.run("journalctl --no-pager -n 30")?;
        return Err(error.context(format!("{node} is {:?}; the journal ends with\n{journal}", last.trim())));
    }
    Ok(())
}
