//! `monitor` through boot, hotplug, preparing, repartitioning, disabling and enabling: exactly the events that these are.

use super::{NVDIMM_SIZE, Run};
use crate::image;
use crate::machine::{Config, Kind, Nvdimm};
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// How long an event may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Events of a disk, until one has been lost: the kernel counts them, socket by socket (`netlink_seq_show` in `net/netlink/af_netlink.c`;
/// 15 is the protocol of device events, the ninth column what was dropped).
const STORM: &str = r#"
until awk '$2 == 15 && $9 > 0 { lost = 1 } END { exit !lost }' /proc/net/netlink; do
    i=0
    while [ $i -lt 500 ]; do
        echo change > /sys/class/block/pmem0/uevent
        i=$((i + 1))
    done
done
"#;

pub(super) fn bare(run: &Run<'_>) -> Result<()> {
    follow(run, Kind::Bare)
}

pub(super) fn in_dom0(run: &Run<'_>) -> Result<()> {
    follow(run, Kind::Xen)
}

fn follow(run: &Run<'_>, kind: Kind) -> Result<()> {
    let prepared = run.prepared_nvdimm("prepared", NVDIMM_SIZE)?;
    let blank = run.folder.join("blank");
    image::blank(&blank, NVDIMM_SIZE)?;

    run.step("boot");
    let mut vm = run.boot_as(Config::new(kind, vec![Nvdimm::unlabelled(&prepared.file)]))?;
    let mut both = Both {
        netlink: Follower::start(&mut vm, "netlink")?,
        bpf: Follower::start(&mut vm, "bpf")?,
    };
    run.step("a region that appears");
    vm.load_nvdimm_drivers()?;
    both.expect(&mut vm, &[("appeared", 0), ("prepared", 0)])?;
    run.step("an NVDIMM that is plugged in");
    vm.plug(2, &Nvdimm::unlabelled(&blank))?;
    both.expect(&mut vm, &[("appeared", 1), ("unprepared", 1)])?;
    run.step("it is prepared");
    vm.run("xen-pmem-provision init /dev/pmem1 --partition 128M")?;
    both.expect(&mut vm, &[("prepared", 1)])?;
    run.step("it gets another partition");
    vm.run("sgdisk --new=2:0:+64M /dev/pmem1")?;
    both.expect(&mut vm, &[("changed", 1)])?;
    run.step("its namespace is disabled and enabled");
    let namespace = vm.run("readlink -f /sys/class/block/pmem1/device")?;
    let namespace = namespace.trim().rsplit('/').next().unwrap_or_default().to_owned();
    vm.run(&format!("ndctl disable-namespace {namespace}"))?;
    both.expect(&mut vm, &[("gone", 1)])?;
    vm.run(&format!("ndctl enable-namespace {namespace}"))?;
    both.expect(&mut vm, &[("appeared", 1), ("prepared", 1)])?;
    run.step("its reservation is removed");
    vm.run("xen-pmem-provision remove /dev/pmem1")?;
    both.expect(&mut vm, &[("unprepared", 1)])?;

    let disable = format!("ndctl disable-namespace {namespace}");
    match kind {
        Kind::Bare => {
            run.step("more events than there is room for");
            let pid = both.netlink.pid.clone();
            vm.run(&format!("kill -STOP {pid}"))?;
            vm.script(STORM)?;
            vm.run(&disable)?;
            vm.run(&format!("kill -CONT {pid}"))?;
            both.expect(&mut vm, &[("gone", 1)])?;
            let log = vm.run("cat /run/netlink.err")?;
            ensure!(
                log.contains("some are lost"),
                "nothing was lost, so nothing was shown: {log}"
            );
        }
        // The socket is the same, and takes far longer to fill.
        Kind::Xen => {
            vm.run(&disable)?;
            both.expect(&mut vm, &[("gone", 1)])?;
        }
    }

    run.step("a second monitor reports what is there");
    let mut second = Follower::start(&mut vm, "auto")?;
    second.expect(&mut vm, &[("appeared", 0), ("prepared", 0)])?;
    second.stop(&mut vm)?;
    run.step("SIGTERM ends it");
    both.netlink.stop(&mut vm)?;
    both.bpf.stop(&mut vm)?;
    run.step("a user without privileges is told so");
    let output = vm.exec(
        &[
            "setpriv",
            "--reuid=65534",
            "xen-pmem-discover",
            "monitor",
            "--source",
            "bpf",
        ],
        "",
    )?;
    ensure!(
        output.code == Some(6) && output.stderr.contains("run as root"),
        "{output:?}"
    );
    run.leave(vm)
}

/// Monitors with both sources, which must tell the same.
struct Both {
    netlink: Follower,
    bpf: Follower,
}

impl Both {
    fn expect(&mut self, vm: &mut Vm, expected: &[(&str, usize)]) -> Result<()> {
        self.netlink.expect(vm, expected)?;
        self.bpf.expect(vm, expected)
    }
}

/// A monitor in the guest, named after its source.
pub(super) struct Follower {
    name: String,
    pub(super) pid: String,
    /// How many events have been expected and seen.
    seen: usize,
    /// The addresses of namespaces, in the order of their first events.
    bases: Vec<u64>,
}

impl Follower {
    pub(super) fn start(vm: &mut Vm, name: &str) -> Result<Self> {
        let script = format!(
            "xen-pmem-discover monitor --source {name} --json > /run/{name}.events 2> /run/{name}.err &
            echo $! > /run/{name}.pid; wait $!; echo $? > /run/{name}.exit"
        );
        vm.spawn(&["sh", "-c", &script])?;
        vm.wait_for(&format!("/run/{name}.pid"))?;
        // eBPF programs take a moment to load: what happens until then is found by the first look.
        Ok(Self {
            name: name.to_owned(),
            pid: vm.attribute(&format!("/run/{name}.pid"))?,
            seen: 0,
            bases: Vec::new(),
        })
    }

    /// Waits for these events, each with the number of its namespace in the order of appearance. One too many that comes at once fails
    /// this, one that comes later what is expected next, at the latest [`Follower::stop`].
    pub(super) fn expect(&mut self, vm: &mut Vm, expected: &[(&str, usize)]) -> Result<()> {
        let mut last = String::new();
        let seen = poll::until("all events have come", LIMIT, || {
            let events = self.events(vm)?;
            let new = events.get(self.seen..).unwrap_or_default();
            let found: Vec<(&str, usize)> = new.iter().map(|(event, index)| (event.as_str(), *index)).collect();
            last = format!("{found:?}");
            ensure!(found.len() <= expected.len(), "there are too many events");
            Ok((found == expected).then_some(events.len()))
        });
        self.seen = seen.with_context(|| format!("{}: the events are {last}, not {expected:?}", self.name))?;
        Ok(())
    }

    /// Returns all events so far.
    fn events(&mut self, vm: &mut Vm) -> Result<Vec<(String, usize)>> {
        let text = vm.run(&format!("cat /run/{}.events", self.name))?;
        let mut events = Vec::new();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| format!("not an event: {line}"))?;
            let what = event["event"]
                .as_str()
                .with_context(|| format!("not an event: {line}"))?;
            let base = event["device"]["namespace"]["base"].as_u64().context("no address")?;
            let index = self.bases.iter().position(|known| *known == base).unwrap_or_else(|| {
                self.bases.push(base);
                self.bases.len() - 1
            });
            events.push((what.to_owned(), index));
        }
        Ok(events)
    }

    /// Ends it in good order, without an event that was not expected.
    pub(super) fn stop(mut self, vm: &mut Vm) -> Result<()> {
        vm.run(&format!("kill -TERM {}", self.pid))?;
        vm.wait_for(&format!("/run/{}.exit", self.name))?;
        self.expect(vm, &[])?;
        let code = vm.attribute(&format!("/run/{}.exit", self.name))?;
        ensure!(code == "0", "{} ended with exit code {code}", self.name);
        Ok(())
    }
}
