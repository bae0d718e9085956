//! After a report a guest starts, runs and stops, as on any host. What it has as its disk is in use.

use super::{Run, bare_provision};
use crate::image::{self, MIB};
use crate::machine::Kind;
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// How long a guest may take; it takes about ten seconds.
const GUEST_LIMIT: Duration = Duration::from_secs(120);

/// The guest's first process: says that it is there, and turns the guest off.
const INIT: &str = "#!/usr/bin/busybox sh
/usr/bin/busybox echo the guest is up > /dev/hvc0
exec /usr/bin/busybox poweroff -f
";

const DOMAIN: &str = "name = 'guest'
type = 'pv'
memory = 192
vcpus = 1
kernel = '/tmp/vmlinuz'
ramdisk = '/tmp/initrd'
extra = 'console=hvc0 loglevel=4 mitigations=off cryptomgr.notests rdinit=/init'
on_poweroff = 'preserve'
on_crash = 'preserve'
";

/// What connects a disk with its backend: all that Xen's own script does for a block device, without the tools that it takes.
pub(crate) const BLOCK_SCRIPT: &str = r#"#!/bin/sh
[ "$1" = add ] || exit 0
device=$(xenstore-read "$XENBUS_PATH/params")
xenstore-write "$XENBUS_PATH/physical-device" "$(stat -L -c %t:%T "$device")"
xenstore-write "$XENBUS_PATH/hotplug-status" connected
"#;

/// What writes to a device, or within its first partition.
const WRITING: [&str; 10] = [
    "init --force DEVICE",
    "init --force --dry-run DEVICE",
    "remove DEVICE",
    "remove --force --dry-run DEVICE",
    "repair DEVICE",
    "repair --dry-run DEVICE",
    "resize --reserve 8M DEVICE",
    "restore DEVICE /tmp/saved",
    "restore --force DEVICE /tmp/saved",
    "wipe --yes DEVICEp1",
];
/// The bytes at the start of the NVDIMM that these commands would change.
const START: usize = 8 << 20;

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let (nvdimm, _) = bare_provision::prepare(run)?;
    let (kernel, size) = kernel_nvdimm(run)?;
    let mut vm = run.boot(Kind::Xen, &[&nvdimm, &kernel])?;
    run.bring_up_dom0(&mut vm)?;
    vm.load_nvdimm_drivers()?;
    for device in ["/dev/pmem0", "/dev/pmem1"] {
        vm.wait_for(device)?;
    }
    vm.run("xen-pmem-report apply --all")?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    ensure!(
        status["reservations"][0]["hypervisor"] == "registered",
        "status says {status}"
    );
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    let device_in_state = |state: &str| {
        let devices = scan["devices"].as_array();
        let device = devices.and_then(|devices| devices.iter().find(|device| device["state"] == state));
        let node = device.and_then(|device| device["device"].as_str());
        node.with_context(|| format!("scan says {scan}"))
    };
    let (prepared, unprepared) = (device_in_state("prepared")?, device_in_state("unprepared")?);

    start_xenconsoled(run, &mut vm)?;
    run.step("a guest starts and stops");
    vm.script(&format!("head -c {size} {unprepared} > /tmp/vmlinuz"))?;
    vm.write("/tmp/init", INIT)?;
    vm.write("/tmp/guest.cfg", DOMAIN)?;
    vm.script(
        "mkdir -p /tmp/guest/usr/bin /tmp/guest/dev /tmp/guest/proc
        cp /usr/bin/busybox /tmp/guest/usr/bin/
        cp /tmp/init /tmp/guest/init && chmod 755 /tmp/guest/init
        cd /tmp/guest
        for library in $(ldd /usr/bin/busybox 2>/dev/null | grep -o '/[^ ]*'); do
            mkdir -p .${library%/*} && cp -L $library .$library
        done
        find . | cpio -o -H newc > /tmp/initrd",
    )?;
    for _ in 0..2 {
        vm.run("xl create /tmp/guest.cfg")?;
        poll::until("the guest has turned itself off", GUEST_LIMIT, || {
            Ok(has_stopped(&mut vm)?.then_some(()))
        })?;
        vm.run("xl destroy guest")?;
    }

    run.step("what a guest has as its disk is in use");
    vm.run(&format!("xen-pmem-provision backup {prepared} /tmp/saved"))?;
    vm.run("modprobe xen-blkback")?;
    vm.script("mkdir -p /etc/xen/scripts")?;
    vm.write("/etc/xen/scripts/block", BLOCK_SCRIPT)?;
    vm.script("chmod 755 /etc/xen/scripts/block")?;
    vm.write(
        "/tmp/disk.cfg",
        &format!("{DOMAIN}disk = ['phy:{prepared}p1,xvda,w']\n"),
    )?;
    vm.run("xl create -p /tmp/disk.cfg")?;
    let before = image::read(&nvdimm, 0, START)?;
    for command in WRITING {
        let command = format!("xen-pmem-provision {}", command.replace("DEVICE", prepared));
        let refused = vm.run_for(3, &command)?;
        ensure!(
            refused.stderr.contains("is a disk of domain"),
            "{command} says {}",
            refused.stderr
        );
        ensure!(image::read(&nvdimm, 0, START)? == before, "{command} has written");
    }
    vm.run("xl destroy guest")?;
    vm.run(&format!("xen-pmem-provision repair {prepared}"))?;

    run.step("Dom0 still uses its partition");
    vm.run("mount -t ext4 /dev/pmem0p1 /mnt")
        .or_else(|_| vm.run("mount -t ext4 /dev/pmem1p1 /mnt"))?;
    let (name, content) = bare_provision::FILE;
    ensure!(
        vm.run(&format!("cat /mnt/{name}"))? == content,
        "the file has another content"
    );
    vm.run("umount /mnt")?;
    run.power_off(vm)
}

/// Makes an NVDIMM that begins with the guest's kernel. Returns its file, and the kernel's size.
pub(super) fn kernel_nvdimm(run: &Run<'_>) -> Result<(PathBuf, u64)> {
    run.step("the guest's kernel comes on an NVDIMM of its own");
    let kernel = run.folder.join("kernel");
    let bytes = std::fs::read(&run.manifest.vmlinuz)?;
    let size = u64::try_from(bytes.len())?;
    image::blank(&kernel, size.next_multiple_of(32 * MIB))?;
    image::write(&kernel, 0, &bytes)?;
    Ok((kernel, size))
}

/// Starts the program that gives each guest a terminal, and records its output.
pub(super) fn start_xenconsoled(run: &Run<'_>, vm: &mut Vm) -> Result<()> {
    run.step("start xenconsoled");
    vm.script("mkdir -p /dev/pts && mount -t devpts devpts /dev/pts")?;
    vm.script("mkdir -p /run/xen /etc/xen /var/log/xen && : > /etc/xen/xl.conf")?;
    vm.run(&format!(
        "/usr/lib/xen-{}/bin/xenconsoled --pid-file /run/xen/xenconsoled.pid --log=guest --log-dir=/var/log/xen",
        run.manifest.xen_version
    ))?;
    Ok(())
}

/// Returns whether the guest has turned itself off; that it crashed is an error.
fn has_stopped(vm: &mut Vm) -> Result<bool> {
    // Name, ID, Mem, VCPUs, State (r running, b blocked, p paused, s shutdown, c crashed), Time
    let list = vm.run("xl list guest")?;
    let state = list
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(4))
        .with_context(|| format!("xl says {list}"))?;
    ensure!(!state.contains('c'), "the guest crashed: {list}");
    Ok(state.contains('s'))
}
