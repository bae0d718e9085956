//! Dom0 prepares a namespace in fsdax mode; bare Linux reads it.

use super::Run;
use crate::image;
use crate::layout::Layout;
use crate::machine::Kind;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

const TEXT: &str = "written by Dom0 with DAX";

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimm = run.blank_nvdimm()?;
    let mut vm = run.boot_with_pmem(Kind::Xen, &nvdimm)?;

    run.step("make a fsdax namespace in Dom0");
    // The memory map goes to RAM: a PV Dom0 cannot use one on the device.
    vm.run("ndctl create-namespace --force --reconfig=namespace0.0 --mode=fsdax --map=mem")?;
    vm.wait_for("/dev/pmem0")?;

    run.step("init in Dom0");
    vm.run("xen-pmem-provision init /dev/pmem0")?;
    vm.wait_for("/dev/pmem0p1")?;
    let placement = Placement::of(&mut vm)?;
    ensure!(
        placement.device > placement.region,
        "the device starts with the namespace: not in fsdax mode"
    );
    let start = placement.device - placement.region;
    let layout = Layout::read(&nvdimm, start, placement.size)?;

    run.step("scan gives the physical addresses of a fsdax device");
    placement.check_scan(&mut vm, &layout)?;
    let marker = b"the first frame ";
    image::write(&nvdimm, start + layout.reserved_base, marker)?;
    let found = vm
        .qmp()?
        .physical_memory(placement.device + layout.reserved_base, marker.len())?;
    ensure!(found == marker, "the reserved area is not where scan says");

    run.step("publish it");
    if run.hypervisor.knows_pmem() {
        // nd_pmem has mapped it: what lives in there would not be safe.
        let refused = vm.run_for(3, "xen-pmem-report apply --all")?;
        ensure!(
            refused.stdout.contains("apply --early") && crate::xenstore::nodes(&mut vm)?.is_empty(),
            "{refused:?}"
        );
        let log = vm.run("xl dmesg")?;
        ensure!(
            log.contains("reserved area mapped writable"),
            "`xl dmesg` does not say why: {log}"
        );
        vm.run_for(3, "xen-pmem-report apply /dev/pmem0 --rebind")?;
        ensure!(vm.attribute("/sys/block/pmem0/size")? != "0", "the device is gone");
        vm.run("xen-pmem-report apply --all --sink xenstore")?;
    } else {
        vm.run("xen-pmem-report apply --all")?;
    }
    let directory = format!("{}/{}", crate::xenstore::ROOT, layout.uuid);
    for (node, expected) in [
        ("range-base", placement.region),
        ("reserved-base", placement.device + layout.reserved_base),
    ] {
        let value = vm.run(&format!("xenstore-read {directory}/{node}"))?;
        ensure!(
            value.trim() == expected.to_string(),
            "{node} is {value}, not {expected}"
        );
    }

    run.step("a DAX mount in Dom0");
    vm.run("mke2fs -q -t ext4 -b 4096 /dev/pmem0p1")?;
    mount_with_dax(&mut vm)?;
    vm.write("/mnt/greeting", TEXT)?;
    vm.run("umount /mnt")?;
    run.power_off(vm)?;

    let mut vm = run.boot_with_pmem(Kind::Bare, &nvdimm)?;
    run.step("bare Linux finds the same");
    vm.wait_for("/dev/pmem0p1")?;
    let again = Placement::of(&mut vm)?;
    ensure!(
        again.device - again.region == start && again.size == placement.size,
        "the device has moved in its namespace"
    );
    again.check_scan(&mut vm, &layout)?;
    vm.run("xen-pmem-provision verify /dev/pmem0")?;
    run.step("a DAX mount on bare Linux");
    mount_with_dax(&mut vm)?;
    ensure!(vm.run("cat /mnt/greeting")? == TEXT, "the file has another content");
    vm.run("umount /mnt")?;
    let verdict = vm.run("sgdisk --verify /dev/pmem0")?;
    ensure!(verdict.contains("No problems found"), "sgdisk says\n{verdict}");
    run.power_off(vm)?;
    ensure!(
        Layout::read(&nvdimm, start, placement.size)? == layout,
        "the layout changed"
    );
    Ok(())
}

/// Fails where DAX does not work: `dax=always` is not taken as a hint.
fn mount_with_dax(vm: &mut Vm) -> Result<()> {
    vm.run("mount -t ext4 -o dax=always /dev/pmem0p1 /mnt")?;
    let mounts = vm.run("cat /proc/mounts")?;
    let mount = mounts
        .lines()
        .find(|line| line.contains(" /mnt "))
        .context("nothing is mounted")?;
    ensure!(mount.contains("dax=always"), "mounted without DAX: {mount}");
    Ok(())
}

/// Where the kernel says that the device is.
struct Placement {
    /// The region's base, which is also the namespace's: the region does not have labels.
    region: u64,
    region_size: u64,
    /// The physical address of the device's first byte.
    device: u64,
    /// The device's size.
    size: u64,
}

impl Placement {
    fn of(vm: &mut Vm) -> Result<Self> {
        // Its number changes between boots.
        let pfn = vm.run("readlink -f /sys/block/pmem0/device")?;
        let pfn = pfn.trim();
        ensure!(
            pfn.rsplit('/').next().is_some_and(|name| name.starts_with("pfn")),
            "pmem0 belongs to {pfn}"
        );
        Ok(Self {
            region: vm.number("/sys/bus/nd/devices/region0/resource")?,
            region_size: vm.number("/sys/bus/nd/devices/region0/size")?,
            device: vm.number(&format!("{pfn}/resource"))?,
            size: vm.number("/sys/block/pmem0/size")? * 512,
        })
    }

    fn check_scan(&self, vm: &mut Vm, layout: &Layout) -> Result<()> {
        let scan = vm.json(0, "xen-pmem-discover scan /dev/pmem0 --json")?;
        let device = scan["devices"]
            .as_array()
            .and_then(|devices| devices.first())
            .context("scan shows no device")?;
        let namespace = json!({ "base": self.region, "size": self.region_size });
        let partitions: Vec<Value> = (1..)
            .zip(&layout.partitions)
            .map(|(number, (start, size))| json!({ "number": number, "base": self.device + start, "size": size }))
            .collect();
        for (key, expected) in [
            ("state", json!("prepared")),
            ("uuid", json!(layout.uuid)),
            ("mode", json!("fsdax")),
            ("region", namespace.clone()),
            ("namespace", namespace),
            ("device_range", json!({ "base": self.device, "size": self.size })),
            (
                "reserved",
                json!({ "base": self.device + layout.reserved_base, "size": layout.reserved_size }),
            ),
            ("partitions", json!(partitions)),
        ] {
            ensure!(
                device[key] == expected,
                "scan has {} as {key}, not {expected}: {scan}",
                device[key]
            );
        }
        Ok(())
    }
}
