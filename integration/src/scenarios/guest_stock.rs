//! A PVH guest of Debian's own Xen has partitions of its own.

use super::{Run, xen_guest};
use crate::image::MIB;
use crate::machine::{Config, Kind, Nvdimm};
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// How long a guest may take: it takes a minute, for the emulated processor runs it and Dom0.
const GUEST_LIMIT: Duration = Duration::from_secs(300);
/// How long it may take until a claim is released: a domain that reboots is waited for.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);

/// The guest's first process: finds its partitions as udev would, reads what Dom0 wrote, writes, and turns the guest off.
const INIT: &str = "#!/usr/bin/busybox sh
busybox=/usr/bin/busybox
$busybox mount -t proc proc /proc; $busybox mount -t sysfs sysfs /sys; $busybox mount -t devtmpfs dev /dev
exec < /dev/hvc0 > /dev/hvc0 2>&1
$busybox modprobe -a crc32c_generic ext4 nd_btt nd_pmem libnvdimm nfit
n=0
until [ -b /dev/pmem0 ] && [ -b /dev/pmem1 ] || [ $n = 60 ]; do n=$((n + 1)); $busybox sleep 1; done
$busybox ls /sys/bus/nd/devices
for disk in pmem0 pmem1; do
    if [ \"$($busybox cat /sys/block/$disk/queue/dax)\" = 1 ]; then dax=$disk; else plain=$disk; fi
done
$busybox mount -t ext4 /dev/$plain /mnt && echo \"GUEST greeting: $($busybox cat /mnt/greeting)\"
echo 'written by the guest' > /mnt/from-guest && $busybox umount /mnt && echo GUEST wrote
$busybox mount -t ext4 -o dax /dev/$dax /mnt && $busybox grep -q dax=always /proc/mounts && echo GUEST has DAX
echo 'written with DAX' > /mnt/from-guest && $busybox umount /mnt && echo GUEST wrote with DAX
echo GUEST is done
$busybox poweroff -f
";

const DOMAIN: &str = "name = 'guest'
memory = 256
vcpus = 1
kernel = '/tmp/vmlinuz'
extra = 'console=hvc0 loglevel=4 mitigations=off cryptomgr.notests norandmaps nokaslr rdinit=/init'
on_crash = 'preserve'
";

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimm = run.folder.join("nvdimm");
    run.step("two partitions");
    let output = std::process::Command::new(&run.manifest.provision)
        .args(["init", "--size", "256M", "--partition", "64M", "--partition", "64M"])
        .arg(&nvdimm)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let (kernel, kernel_size) = xen_guest::kernel_nvdimm(run)?;
    let nvdimms = [&nvdimm, &kernel].map(|file| Nvdimm::unlabelled(file)).to_vec();
    let mut vm = run.boot_as(Config::new(Kind::Xen, nvdimms).with_guests())?;
    run.bring_up_dom0(&mut vm)?;
    vm.load_nvdimm_drivers()?;
    for device in ["/dev/pmem0", "/dev/pmem1"] {
        vm.wait_for(device)?;
    }
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    let devices = scan["devices"].as_array().context("no devices")?;
    let called = |state: &str| {
        let device = devices.iter().find(|device| device["state"] == state)?;
        device["device"].as_str().map(str::to_owned)
    };
    let disk = called("prepared").with_context(|| format!("scan says {scan}"))?;
    let unprepared = called("unprepared").with_context(|| format!("scan says {scan}"))?;
    let (plain, dax) = (format!("{disk}p1"), format!("{disk}p2"));
    vm.wait_for(&dax)?;
    vm.script(&format!("head -c {kernel_size} {unprepared} > /tmp/vmlinuz"))?;

    run.step("Dom0 makes file systems, one behind an info block");
    vm.run("modprobe --all dm-mod loop")?;
    vm.script(&format!(
        "/usr/sbin/mke2fs -q -t ext4 -b 4096 {plain}
        mount -t ext4 {plain} /mnt
        echo 'written by Dom0' > /mnt/greeting"
    ))?;
    let claim = format!(
        "xen-pmem-report guest claim {plain} {dax} --domain guest --ramdisk /tmp/ramdisk --initrd /tmp/initrd --memory 256M"
    );
    guest_initrd(&mut vm)?;
    vm.run_for(3, &claim)?;
    vm.run("umount /mnt")?;
    vm.run(&format!("xen-pmem-provision fsdax {dax}"))?;
    // An ext4 of the size that the guest sees.
    vm.script(&format!(
        "losetup -o 2097152 /dev/loop0 {dax} && /usr/sbin/mke2fs -q -t ext4 -b 4096 /dev/loop0"
    ))?;
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
    for held in [&plain, &dax] {
        for command in [
            format!("mount -t ext4 {held} /mnt"),
            format!("mke2fs -q -t ext4 {held}"),
        ] {
            let output = vm.exec(&command.split(' ').collect::<Vec<_>>(), "")?;
            ensure!(output.code != Some(0), "{command} succeeds: {output:?}");
        }
        vm.run_for(3, &format!("xen-pmem-provision wipe --yes {held}"))?;
        vm.run_for(3, &format!("xen-pmem-provision fsdax {held}"))?;
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
    let console = vm.run("cat /var/log/xen/guest-guest.log")?;
    for word in [
        "greeting: written by Dom0",
        "wrote",
        "has DAX",
        "wrote with DAX",
        "is done",
    ] {
        ensure!(
            console.contains(&format!("GUEST {word}")),
            "the guest did not say {word}:\n{console}"
        );
    }

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
    run.power_off(vm)
}

/// Makes the guest's initramfs in Dom0: busybox, and Dom0's own modules.
fn guest_initrd(vm: &mut Vm) -> Result<()> {
    vm.write("/tmp/init", INIT)?;
    vm.script(
        "for folder in usr/bin usr/lib dev proc sys mnt; do mkdir -p /tmp/guest/$folder; done
        cp /usr/bin/busybox /tmp/guest/usr/bin/
        cp /tmp/init /tmp/guest/init && chmod 755 /tmp/guest/init
        cp -r /usr/lib/modules /tmp/guest/usr/lib/
        cd /tmp/guest
        ln -s usr/bin bin; ln -s usr/bin sbin; ln -s usr/lib lib
        find . | cpio -o -H newc > /tmp/initrd
        rm -r /tmp/guest",
    )?;
    Ok(())
}
