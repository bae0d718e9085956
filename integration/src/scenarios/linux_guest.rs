//! A PVH guest with its own Linux, and its host: two partitions of an NVDIMM, one with a file system, one prepared for DAX.

use super::{Run, xen_guest};
use crate::image::MIB;
use crate::machine::{Config, Kind, Nvdimm};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// How long a guest may take: it takes a minute, for the emulated processor runs it and Dom0.
pub(super) const GUEST_LIMIT: Duration = Duration::from_secs(300);

/// The guest's first process: finds its partitions as udev would, reads what Dom0 wrote, writes, and turns the guest off. With the word
/// `stay` on its command line it reboots the guest once, and then stays. With the word `alone` it expects one partition, not two.
const INIT: &str = "#!/usr/bin/busybox sh
busybox=/usr/bin/busybox
$busybox mount -t proc proc /proc; $busybox mount -t sysfs sysfs /sys; $busybox mount -t devtmpfs dev /dev
exec < /dev/hvc0 > /dev/hvc0 2>&1
$busybox modprobe -a crc32c_generic ext4 nd_btt nd_pmem libnvdimm nfit
n=0; last=pmem1
$busybox grep -q alone /proc/cmdline && last=pmem0
until [ -b /dev/pmem0 ] && [ -b /dev/$last ] || [ $n = 60 ]; do n=$((n + 1)); $busybox sleep 1; done
$busybox ls /sys/bus/nd/devices
for disk in pmem0 pmem1; do
    [ -b /dev/$disk ] || continue
    if [ \"$($busybox cat /sys/block/$disk/queue/dax)\" = 1 ]; then dax=$disk; else plain=$disk; fi
done
echo \"GUEST persistence: $($busybox cat /sys/bus/nd/devices/region0/persistence_domain)\"
[ $plain ] && $busybox mount -t ext4 /dev/$plain /mnt && echo \"GUEST greeting: $($busybox cat /mnt/greeting)\"
[ $plain ] && [ -e /mnt/from-guest ] && again=again && echo GUEST has rebooted
[ $plain ] && echo \"written by the guest $again\" > /mnt/from-guest && $busybox umount /mnt && echo GUEST wrote
[ $dax ] && $busybox mount -t ext4 -o dax /dev/$dax /mnt && $busybox grep -q dax=always /proc/mounts && echo GUEST has DAX
[ $dax ] && echo 'written with DAX' > /mnt/from-guest && $busybox umount /mnt && echo GUEST wrote with DAX
$busybox grep -q stay /proc/cmdline || { echo GUEST is done; $busybox poweroff -f; }
[ $again ] || $busybox reboot -f
$busybox mount -t ext4 -o dax /dev/$dax /mnt && echo durable > /mnt/synced && $busybox sync && echo GUEST stays
while :; do $busybox sleep 1000; done
";

/// The guest's configuration, without its initramfs and its partitions.
pub(super) const DOMAIN: &str = "name = 'guest'
memory = 256
vcpus = 1
kernel = '/tmp/vmlinuz'
extra = 'console=hvc0 loglevel=4 mitigations=off cryptomgr.notests norandmaps nokaslr rdinit=/init'
on_crash = 'preserve'
";

/// Returns the configuration of a guest of this type whose first process gets this word, with the line that gives it partitions.
pub(super) fn configuration(name: &str, word: &str, kind: &str, pmem: &str) -> String {
    let config = DOMAIN
        .replace("'guest'", &format!("'{name}'"))
        .replace("rdinit=/init", &format!("rdinit=/init {word}"));
    format!("{config}type = '{kind}'\nramdisk = '/tmp/initrd'\n{pmem}\n")
}

/// Prints what the guest has said on its console.
pub(super) const CONSOLE: &str = "cat /var/log/xen/guest-guest.log";

/// Dom0, with an NVDIMM for its guest.
pub(super) struct Host {
    pub(super) vm: Vm,
    /// The file behind the NVDIMM.
    pub(super) nvdimm: PathBuf,
    /// The NVDIMM's block device.
    pub(super) disk: String,
    /// Its partitions: one for an ordinary file system, one for DAX.
    pub(super) plain: String,
    pub(super) dax: String,
}

impl Host {
    /// Boots Dom0. `/tmp/vmlinuz` is the guest's kernel.
    pub(super) fn boot(run: &Run<'_>) -> Result<Self> {
        run.step("two partitions");
        let nvdimm = run.provisioned("nvdimm", 256 * MIB, &["64M", "64M"])?.file;
        let (kernel, kernel_size) = xen_guest::kernel_nvdimm(run)?;
        let nvdimms = [&nvdimm, &kernel].map(|file| Nvdimm::unlabelled(file)).to_vec();
        let mut vm = run.boot_as(Config {
            caches_survive: true,
            ..Config::new(Kind::Xen, nvdimms).with_guests()
        })?;
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
        vm.run("modprobe --all dm-mod loop")?;
        Ok(Self {
            vm,
            nvdimm,
            disk,
            plain,
            dax,
        })
    }
}

/// Checks that the guest has said each of these on its console.
pub(super) fn has_said(vm: &mut Vm, words: &[&str]) -> Result<()> {
    let console = vm.run(CONSOLE)?;
    for word in words {
        ensure!(
            console.contains(&format!("GUEST {word}")),
            "the guest did not say {word}:\n{console}"
        );
    }
    Ok(())
}

/// Makes a file system that greets the guest, and leaves it mounted at `/mnt`.
pub(super) fn mount_with_greeting(vm: &mut Vm, partition: &str) -> Result<()> {
    vm.script(&format!(
        "/usr/sbin/mke2fs -q -t ext4 -b 4096 {partition}
        mount -t ext4 {partition} /mnt
        echo 'written by Dom0' > /mnt/greeting"
    ))?;
    Ok(())
}

/// Makes a partition come up in fsdax mode in the guest, with a file system. `/dev/loop0` shows what the guest will see, and holds the
/// partition.
pub(super) fn prepare_for_dax(vm: &mut Vm, partition: &str) -> Result<()> {
    vm.run(&format!("xen-pmem-provision fsdax {partition}"))?;
    vm.script(&format!(
        "losetup -o 2097152 /dev/loop0 {partition} && /usr/sbin/mke2fs -q -t ext4 -b 4096 /dev/loop0"
    ))?;
    Ok(())
}

/// Checks that Dom0 can do nothing with a partition that is held for a guest: neither by its node nor by a loop device.
pub(super) fn is_kept_from_dom0(vm: &mut Vm, partition: &str) -> Result<()> {
    for command in [
        format!("mount -t ext4 {partition} /mnt"),
        format!("mke2fs -q -t ext4 {partition}"),
        format!("dd if=/dev/zero of={partition} bs=4096 count=1 conv=fsync"),
    ] {
        let output = vm.exec(&command.split(' ').collect::<Vec<_>>(), "")?;
        ensure!(output.code != Some(0), "{command} succeeds: {output:?}");
    }
    for command in ["wipe --yes", "fsdax"] {
        vm.run_for(3, &format!("xen-pmem-provision {command} {partition}"))?;
    }
    // At the offset of the file system, if there is an info block. A mount that only reads would do no harm.
    vm.script(&format!("losetup -o 2097152 /dev/loop7 {partition}"))?;
    for command in [
        "mount -t ext4 -o rw /dev/loop7 /mnt",
        "mke2fs -q -F -t ext4 /dev/loop7",
        "dd if=/dev/zero of=/dev/loop7 bs=4096 count=1 conv=fsync",
    ] {
        let output = vm.exec(&command.split(' ').collect::<Vec<_>>(), "")?;
        ensure!(output.code != Some(0), "{command} succeeds: {output:?}");
    }
    vm.run("losetup -d /dev/loop7")?;
    Ok(())
}

/// Makes the guest's initramfs in Dom0, `/tmp/initrd`: busybox, and Dom0's own modules.
pub(super) fn make_initrd(vm: &mut Vm) -> Result<()> {
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
