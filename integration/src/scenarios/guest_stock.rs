//! A PVH guest of Debian's own Xen has its own partitions.

use super::linux_guest::{self, DOMAIN, GUEST_LIMIT, Host};
use super::{Run, xen_guest};
use crate::image::MIB;
use crate::poll;
use anyhow::{Result, ensure};
use std::time::Duration;

/// How long it may take until a claim is released: a domain that reboots is waited for.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let Host {
        mut vm,
        disk,
        plain,
        dax,
        ..
    } = Host::boot(run)?;

    run.step("Dom0 makes file systems, one behind an info block");
    linux_guest::mount_with_greeting(&mut vm, &plain)?;
    let claim = format!(
        "xen-pmem-report guest claim {plain} {dax} --domain guest --ramdisk /tmp/ramdisk --initrd /tmp/initrd --memory 256M"
    );
    linux_guest::make_initrd(&mut vm)?;
    vm.run_for(3, &claim)?;
    vm.run("umount /mnt")?;
    linux_guest::prepare_for_dax(&mut vm, &dax)?;
    vm.run_for(3, &claim)?;
    vm.run("losetup -d /dev/loop0")?;
    ensure!(
        vm.json(0, "xen-pmem-report guest list --json")?["claims"] == serde_json::json!([]),
        "a claim that was refused is there"
    );

    run.step("claim");
    let lines = vm.run(&claim)?;
    ensure!(lines.contains("# missing on this Xen: "), "claim says\n{lines}");
    vm.run_for(3, &claim)?;
    vm.run_for(3, &claim.replace("--domain guest", "--domain other"))?;
    let doctor = vm.exec(&["xen-pmem-report", "doctor"], "")?.stdout;
    ensure!(doctor.contains("is left over: there is no domain guest"), "{doctor}");
    for held in [&plain, &dax] {
        linux_guest::is_kept_from_dom0(&mut vm, held)?;
    }
    vm.run_for(3, &format!("xen-pmem-provision init --force {disk}"))?;
    let refused = vm.run_for(3, &format!("xen-pmem-provision remove {disk}"))?;
    ensure!(refused.stderr.contains("is claimed for domain guest"), "{refused:?}");
    vm.run(&format!("xen-pmem-provision verify {disk}"))?;

    run.step("the guest starts, finds its partitions, and ends");
    xen_guest::start_xenconsoled(run, &mut vm)?;
    vm.write("/tmp/guest.cfg", &format!("{DOMAIN}{lines}"))?;
    vm.spawn(&["xen-pmem-report", "guest", "release", "--domain", "guest", "--wait"])?;
    vm.run("xl create /tmp/guest.cfg")?;
    vm.run_for(3, &format!("xen-pmem-report guest release {plain}"))?;
    vm.run_for(3, &claim)?;
    poll::until("the guest has ended", GUEST_LIMIT, || {
        let list = vm.run("xl list")?;
        Ok((!list.contains("guest ")).then_some(()))
    })?;
    linux_guest::has_said(
        &mut vm,
        &[
            "greeting: written by Dom0",
            "wrote",
            "has DAX",
            "wrote with DAX",
            "is done",
        ],
    )?;

    run.step("the claims are released once the guest is gone");
    poll::until("the claims are released", RELEASE_LIMIT, || {
        let list = vm.json(0, "xen-pmem-report guest list --json")?;
        Ok((list["claims"] == serde_json::json!([])).then_some(()))
    })?;
    run.step("Dom0 reads what the guest wrote");
    for (offset, device, expected) in [(0, &plain, "written by the guest"), (2 * MIB, &dax, "written with DAX")] {
        let found = vm.script(&format!(
            "losetup -o {offset} /dev/loop0 {device}
            mount -t ext4 /dev/loop0 /mnt
            cat /mnt/from-guest
            umount /mnt
            losetup -d /dev/loop0"
        ))?;
        ensure!(found.trim() == expected, "Dom0 reads {found}");
    }

    run.step("a claim whose domain never came is released, and can be made anew");
    vm.run(&claim)?;
    vm.run("xen-pmem-report guest release --gone")?;
    vm.run_for(4, &format!("xen-pmem-report guest release {plain}"))?;
    vm.run(&claim)?;
    vm.run(&format!("xen-pmem-report guest release {plain} {dax}"))?;
    run.step("what somebody else has made read-only is not claimed, and stays so");
    vm.run(&format!("blockdev --setro {plain}"))?;
    let refused = vm.run_for(3, &claim)?;
    ensure!(refused.stderr.contains("blockdev --setrw"), "{refused:?}");
    let read_only = vm.run(&format!("blockdev --getro {plain}"))?;
    ensure!(read_only.trim() == "1", "{plain} is writable");
    run.power_off(vm)
}
