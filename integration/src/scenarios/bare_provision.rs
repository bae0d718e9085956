//! Bare Linux prepares a blank NVDIMM in raw mode.

use super::{NVDIMM_SIZE, Run};
use crate::image;
use crate::layout::Layout;
use crate::machine::Kind;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::path::PathBuf;

/// The file that the scenario writes to the partition, and its content.
pub(super) const FILE: (&str, &str) = ("greeting", "written by bare Linux");

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    prepare(run)?;
    Ok(())
}

/// Prepares an NVDIMM and puts a file on its partition. Returns the backing file and its layout.
pub(super) fn prepare(run: &Run<'_>) -> Result<(PathBuf, Layout)> {
    let nvdimm = run.blank_nvdimm()?;
    let mut vm = run.boot_with_pmem(Kind::Bare, &nvdimm)?;

    run.step("a dry run writes nothing");
    let plan = vm.run("xen-pmem-provision init /dev/pmem0 --partition rest --dry-run")?;
    ensure!(!plan.trim().is_empty(), "the dry run says nothing");
    image::ensure_blank(&nvdimm)?;

    run.step("init");
    vm.run("xen-pmem-provision init /dev/pmem0 --partition rest")?;
    vm.wait_for("/dev/pmem0p1")?;

    run.step("the image's bytes, seen from the host");
    let layout = Layout::read(&nvdimm, 0, NVDIMM_SIZE)?;
    ensure!(layout.partitions.len() == 1, "not one partition: {layout:x?}");
    let (start, size) = *layout.partitions.first().context("no partition")?;
    ensure!(
        vm.number("/sys/block/pmem0/pmem0p1/start")? * 512 == start,
        "the kernel has partition 1 elsewhere"
    );
    ensure!(
        vm.number("/sys/block/pmem0/pmem0p1/size")? * 512 == size,
        "the kernel has partition 1 of another size"
    );

    run.step("show and verify");
    let shown = vm.json(0, "xen-pmem-provision show /dev/pmem0 --json")?;
    ensure!(
        shown["schema"] == 1 && shown["state"] == "prepared",
        "show says {shown}"
    );
    ensure!(
        shown["device_size"] == NVDIMM_SIZE && shown["superblock"]["uuid"] == layout.uuid,
        "show says {shown}"
    );
    let reserved = json!({ "base": layout.reserved_base, "size": layout.reserved_size });
    ensure!(
        shown["reserved"] == reserved,
        "show says {shown}, the bytes {layout:x?}"
    );
    let partition = &shown["partitions"][0];
    ensure!(
        partition["number"] == 1 && partition["start"] == start && partition["size"] == size,
        "show says {shown}, the bytes {layout:x?}"
    );
    vm.run("xen-pmem-provision verify /dev/pmem0")?;

    run.step("a second init is refused and changes nothing");
    vm.run_for(3, "xen-pmem-provision init /dev/pmem0")?;
    ensure!(
        Layout::read(&nvdimm, 0, NVDIMM_SIZE)? == layout,
        "the refused init changed the layout"
    );

    run.step("sgdisk finds no problem");
    let verdict = vm.run("sgdisk --verify /dev/pmem0")?;
    ensure!(verdict.contains("No problems found"), "sgdisk says\n{verdict}");

    run.step("a file system on the partition");
    vm.run("mke2fs -q -t ext4 -b 4096 /dev/pmem0p1")?;
    vm.run("mount -t ext4 /dev/pmem0p1 /mnt")?;
    vm.write(&format!("/mnt/{}", FILE.0), FILE.1)?;
    run.step("a mounted device is in use");
    vm.run_for(3, "xen-pmem-provision init /dev/pmem0 --force")?;
    vm.run_for(3, "xen-pmem-provision remove /dev/pmem0")?;
    vm.run("umount /mnt")?;
    ensure!(
        Layout::read(&nvdimm, 0, NVDIMM_SIZE)? == layout,
        "the file system changed the layout"
    );
    ensure!(
        image::read(&nvdimm, start + 1024 + 56, 2)? == [0x53, 0xef],
        "there is no ext4 where the partition is"
    );
    run.power_off(vm)?;
    ensure!(
        Layout::read(&nvdimm, 0, NVDIMM_SIZE)? == layout,
        "the end of Linux changed the layout"
    );
    Ok((nvdimm, layout))
}
