//! Partitions that come up in fsdax mode in the guest that gets them, and partitions that are wiped: what stands in them.

use super::Run;
use crate::image::{self, MIB};
use crate::layout::Layout;
use crate::machine::Kind;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::Command;

/// The NVDIMMs' size: what a guest sees of its partition.
const SIZE: u64 = 64 * MIB;
/// What fsdax takes of a namespace's start.
const HEAD: usize = 2 << 20;
/// Where the info block has its own UUID.
const UUID: u64 = 4096 + 16;

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let theirs = run.folder.join("theirs");
    image::blank(&theirs, SIZE)?;
    run.step("ndctl in a guest makes fsdax of a raw namespace");
    let mut vm = run.boot_with_pmem(Kind::Bare, &theirs)?;
    vm.run("ndctl create-namespace --force --reconfig=namespace0.0 --mode=fsdax --map=mem")?;
    run.power_off(vm)?;
    let expected = image::read(&theirs, 0, HEAD)?;
    let uuid = uuid(&image::read(&theirs, UUID, 16)?)?;

    run.step("a partition of the same size gets the same bytes");
    let disk = run.folder.join("disk");
    let device = disk.to_str().context("a path that is no text")?;
    let provision = |arguments: &[&str]| -> Result<()> {
        let output = Command::new(&run.manifest.provision)
            .args(arguments)
            .arg(&disk)
            .output()?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(())
    };
    let size = format!("{}M:guest", SIZE / MIB);
    provision(&["init", "--size", "256M", "--partition", &size, "--partition", "rest"])?;
    let layout = Layout::read(&disk, 0, 256 * MIB)?;
    let (start, length) = *layout.partitions.first().context("no partition")?;
    ensure!(length == SIZE, "the partition has {length} bytes");
    provision(&["fsdax", "--partition", "1", "--uuid", &uuid])?;
    ensure!(
        image::read(&disk, start, HEAD)? == expected,
        "{device}: the info block is not the kernel's"
    );

    run.step("the guest that gets the partition finds fsdax at its first boot");
    let ours = run.folder.join("ours");
    image::blank(&ours, SIZE)?;
    image::write(&ours, 0, &image::read(&disk, start, usize::try_from(SIZE)?)?)?;
    let mut vm = run.boot_with_pmem(Kind::Bare, &ours)?;
    ensure!(vm.attribute("/sys/block/pmem0/queue/dax")? == "1", "no DAX");
    let size = vm.number("/sys/block/pmem0/size")? * 512;
    ensure!(size == SIZE - 2 * MIB, "the device has {size} bytes");
    vm.run("mke2fs -q -t ext4 -b 4096 /dev/pmem0")?;
    vm.run("mount -t ext4 -o dax /dev/pmem0 /mnt")?;
    let mounts = vm.run("cat /proc/mounts")?;
    ensure!(
        mounts
            .lines()
            .any(|line| line.contains(" /mnt ") && line.contains("dax=always")),
        "{mounts}"
    );
    vm.run("umount /mnt")?;
    run.power_off(vm)?;
    wipe(run, &disk, &layout)
}

/// Shows that `wipe` clears on a device, as on an image, all of the partition and nothing else.
fn wipe(run: &Run<'_>, disk: &Path, layout: &Layout) -> Result<()> {
    let [(first, size), (second, _)] = layout.partitions.as_slice() else {
        anyhow::bail!("not two partitions: {layout:x?}")
    };
    image::write(disk, *first, &vec![0x5a; usize::try_from(*size)?])?;
    image::write(disk, *second, &[0x5a; 4096])?;
    let before = image::read(disk, 0, usize::try_from(*first)?)?;
    let mut vm = run.boot_with_pmem(Kind::Bare, disk)?;
    run.step("a partition is wiped while the other one is mounted");
    vm.wait_for("/dev/pmem0p2")?;
    vm.run("mke2fs -q -t ext4 -b 4096 /dev/pmem0p2")?;
    vm.run("mount -t ext4 /dev/pmem0p2 /mnt")?;
    vm.run_for(3, "xen-pmem-provision wipe --yes /dev/pmem0p2")?;
    vm.run_for(3, "xen-pmem-provision fsdax /dev/pmem0p2")?;
    vm.run_for(3, "xen-pmem-provision wipe /dev/pmem0p1")?;
    vm.run_for(2, "xen-pmem-provision wipe --yes /dev/pmem0")?;
    vm.run("xen-pmem-provision wipe --yes --from 32M /dev/pmem0p1")?;
    let half = image::read(disk, *first, usize::try_from(32 * MIB)?)?;
    ensure!(
        half.iter().all(|byte| *byte == 0x5a),
        "what lies before --from was changed"
    );
    vm.run("xen-pmem-provision wipe --yes --partition 1 /dev/pmem0")?;
    let all = image::read(disk, *first, usize::try_from(*size)?)?;
    ensure!(all.iter().all(|byte| *byte == 0), "the partition does not hold zeros");
    ensure!(
        image::read(disk, 0, before.len())? == before,
        "bytes before the partition were changed"
    );
    vm.run("umount /mnt")?;
    vm.run("mount -t ext4 /dev/pmem0p2 /mnt")?;
    vm.run("umount /mnt")?;
    run.power_off(vm)
}

/// Returns a UUID as text, from its bytes as the kernel writes them.
fn uuid(bytes: &[u8]) -> Result<String> {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(digits.len() == 32, "not a UUID: {digits}");
    let (a, rest) = digits.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    Ok(format!("{a}-{b}-{c}-{d}-{e}"))
}
