//! Other tools on a prepared disk. `docs/coexistence.md` says what each does.

use super::Run;
use crate::image::{self, MIB};
use crate::layout::Layout;
use crate::machine::Kind;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;

/// What the host puts into the reserved area. It must be there after every tool.
const PATTERN: u8 = 0x5c;
/// Where the copies of the super block stand.
const COPIES: [u64; 2] = [512 << 10, 1536 << 10];
const COPY_SIZE: usize = 4096;
const MBR_SIZE: usize = 512;
/// The bytes of a block of the device.
const BLOCK: u64 = 512;
/// The bytes at the start of the device that commands write to.
const START: usize = 2 << 20;

/// Partition 1 is ours; what is free behind it is for the tools.
const INIT: &str = "xen-pmem-provision init -q --force --partition 100M:ours /dev/pmem0";

/// Edits that leave the table ours: the reservation stays prepared through each of them.
const EDITS: &[(&str, &str)] = &[
    ("sgdisk prints", "sgdisk --print /dev/pmem0"),
    (
        "sgdisk verifies",
        "sgdisk --verify /dev/pmem0 | grep 'No problems found'",
    ),
    ("sgdisk adds", "sgdisk --new=2:0:+16M /dev/pmem0"),
    ("sgdisk resizes", "sgdisk --delete=2 --new=2:0:+32M /dev/pmem0"),
    ("sgdisk deletes", "sgdisk --delete=2 /dev/pmem0"),
    ("sgdisk cannot add below", "! sgdisk --new=2:2048:+2M /dev/pmem0"),
    ("sfdisk prints", "sfdisk --list /dev/pmem0"),
    ("sfdisk verifies", "sfdisk --verify /dev/pmem0"),
    ("sfdisk adds", "echo 'size=16M' | sfdisk --append /dev/pmem0"),
    ("sfdisk resizes", "echo ',32M' | sfdisk -N 2 /dev/pmem0"),
    ("sfdisk deletes", "sfdisk --delete /dev/pmem0 2"),
    ("parted prints", "parted --script /dev/pmem0 print"),
    ("parted adds", "parted --script /dev/pmem0 mkpart theirs 200MiB 216MiB"),
    ("parted resizes", "parted --script /dev/pmem0 resizepart 2 232MiB"),
    ("parted deletes", "parted --script /dev/pmem0 rm 2"),
    (
        "parted cannot add below",
        "! parted --script /dev/pmem0 mkpart theirs 1MiB 2MiB",
    ),
    ("partprobe", "partprobe /dev/pmem0"),
];

/// Tools that make a new table: the old super blocks are not believed any more.
const NEW_TABLES: &[(&str, &str)] = &[
    ("sgdisk makes a new table", "sgdisk --clear /dev/pmem0"),
    (
        "sfdisk makes a new table",
        "echo 'label: gpt' | sfdisk --wipe never /dev/pmem0",
    ),
    ("parted makes a new table", "parted --script /dev/pmem0 mklabel gpt"),
];

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimm = run.blank_nvdimm()?;
    let mut vm = run.boot_with_pmem(Kind::Bare, &nvdimm)?;
    let ours = prepare(run, &mut vm, &nvdimm)?;
    for (name, command) in EDITS {
        run.step(name);
        vm.script(command)?;
        expect(&mut vm, "prepared", "")?;
        ours.ensure_untouched(&nvdimm)?;
    }

    for (name, command) in NEW_TABLES {
        run.step(name);
        vm.script(command)?;
        // Where the new table begins its usable blocks decides how much of the gap is looked at.
        expect(&mut vm, "unprepared", "super block")?;
        vm.script("sgdisk --new=1:16M:+16M /dev/pmem0")?;
        expect(&mut vm, "unprepared", "which is not on this device any more")?;
        ours.ensure_reserved_untouched(&nvdimm)?;
        prepare(run, &mut vm, &nvdimm)?;
    }

    run.step("sfdisk moves the first usable block back");
    let ours = prepare(run, &mut vm, &nvdimm)?;
    vm.script("sfdisk --dump /dev/pmem0 | sed '/^first-lba/d' | sfdisk --no-reread /dev/pmem0")?;
    expect(&mut vm, "degraded", "another tool could place a partition there")?;
    ours.ensure_untouched(&nvdimm)?;
    heal(&mut vm)?;

    run.step("and places a partition on the reserved area");
    vm.script("sfdisk --dump /dev/pmem0 | sed '/^first-lba/d' | sfdisk --no-reread /dev/pmem0; sgdisk --new=2:2048:+4M /dev/pmem0")?;
    expect(
        &mut vm,
        "damaged",
        "does not lie between the partition table and the first partition",
    )?;
    ours.ensure_reserved_untouched(&nvdimm)?;

    run.step("sgdisk moves the entries of the primary table into the reserved area, and back");
    prepare(run, &mut vm, &nvdimm)?;
    vm.script("sgdisk --move-main-table=4096 /dev/pmem0")?;
    expect(&mut vm, "damaged", "do not lie before the super blocks")?;
    vm.script("sgdisk --move-main-table=2 /dev/pmem0")?;
    expect(&mut vm, "degraded", "another tool could place a partition there")?;
    heal(&mut vm)?;

    run.step("the protective MBR is lost");
    let ours = prepare(run, &mut vm, &nvdimm)?;
    vm.script("dd if=/dev/zero of=/dev/pmem0 bs=512 count=1 conv=fsync")?;
    expect(&mut vm, "degraded", "the protective MBR is missing")?;
    ours.ensure_untouched(&nvdimm)?;
    heal(&mut vm)?;

    run.step("sgdisk destroys both tables");
    prepare(run, &mut vm, &nvdimm)?;
    vm.run("xen-pmem-provision backup /dev/pmem0 /run/backup")?;
    vm.script("sgdisk --zap-all /dev/pmem0")?;
    expect(&mut vm, "unprepared", "there is no GUID partition table")?;
    vm.run("xen-pmem-provision restore /dev/pmem0 /run/backup")?;
    expect(&mut vm, "prepared", "")?;

    run.step("sgdisk makes a hybrid MBR");
    let ours = prepare(run, &mut vm, &nvdimm)?;
    vm.script("sgdisk --hybrid=1 /dev/pmem0")?;
    expect(&mut vm, "prepared", "")?;
    let hybrid = image::read(&nvdimm, 0, MBR_SIZE)?;
    ensure!(hybrid != ours.mbr, "sgdisk left the MBR as it was");
    image::write(&nvdimm, super::NVDIMM_SIZE - BLOCK, &[0; 512])?;
    expect(&mut vm, "degraded", "the backup GPT is not valid")?;
    heal(&mut vm)?;
    ours.ensure_untouched(&nvdimm)?;
    ensure!(
        image::read(&nvdimm, 0, MBR_SIZE)? == hybrid,
        "repair changed the hybrid MBR"
    );
    let removed = vm.run("xen-pmem-provision remove /dev/pmem0")?;
    ensure!(removed.contains("the hybrid MBR stays as it is"), "{removed}");
    ensure!(
        image::read(&nvdimm, 0, MBR_SIZE)? == hybrid,
        "remove changed the hybrid MBR"
    );

    run.step("the protective MBR is lost");
    let ours = prepare(run, &mut vm, &nvdimm)?;
    vm.script("dd if=/dev/zero of=/dev/pmem0 bs=512 count=1 conv=fsync status=none")?;
    expect(&mut vm, "degraded", "the protective MBR is missing")?;
    heal(&mut vm)?;
    ours.ensure_untouched(&nvdimm)?;

    run.step("mkswap on the whole disk");
    let ours = prepare(run, &mut vm, &nvdimm)?;
    // Its full path: the shell's built-in mkswap does not know options.
    vm.script("/usr/sbin/mkswap -f /dev/pmem0")?;
    expect(&mut vm, "damaged", "a swap area")?;
    refuse_what_is_not_ours(&mut vm, &nvdimm, "a swap area")?;
    ours.ensure_untouched(&nvdimm)?;
    vm.run("xen-pmem-provision repair --force /dev/pmem0")?;
    expect(&mut vm, "prepared", "")?;
    ours.ensure_untouched(&nvdimm)?;

    run.step("mkfs.ext4 on the whole disk");
    prepare(run, &mut vm, &nvdimm)?;
    vm.run("xen-pmem-provision backup /dev/pmem0 /run/before-ext4")?;
    vm.script("/usr/sbin/mkfs.ext4 -q -F /dev/pmem0")?;
    expect(&mut vm, "unprepared", "there is no GUID partition table")?;
    let before = image::read(&nvdimm, 0, START)?;
    for command in ["init /dev/pmem0", "restore /dev/pmem0 /run/before-ext4"] {
        let refused = vm.run_for(3, &format!("xen-pmem-provision {command}"))?;
        ensure!(refused.stderr.contains("ext4"), "{command}: {}", refused.stderr);
    }
    ensure!(image::read(&nvdimm, 0, START)? == before, "a refused command wrote");

    run.step("ndctl reconfigures the raw namespace, which zeroes its start");
    let ours = prepare(run, &mut vm, &nvdimm)?;
    vm.script("ndctl create-namespace --force --reconfig=namespace0.0 --mode=raw")?;
    vm.wait_for("/dev/pmem0")?;
    expect(&mut vm, "degraded", "the primary GPT is not valid")?;
    ours.ensure_untouched(&nvdimm)?;
    heal(&mut vm)?;

    run.step("ndctl makes it fsdax and raw again");
    vm.script("ndctl create-namespace --force --reconfig=namespace0.0 --mode=fsdax --map=mem")?;
    vm.wait_for("/dev/pmem0")?;
    let shown = vm.json(4, "xen-pmem-provision show --json /dev/pmem0")?;
    ensure!(shown["state"] == "unprepared", "as fsdax it is {shown}");
    vm.script("ndctl create-namespace --force --reconfig=namespace0.0 --mode=raw")?;
    vm.wait_for("/dev/pmem0")?;
    expect(&mut vm, "degraded", "the primary GPT is not valid")?;
    ours.ensure_untouched(&nvdimm)?;
    heal(&mut vm)?;
    run.leave(vm)
}

/// What the tools must leave alone.
struct Ours {
    layout: Layout,
    copies: Vec<Vec<u8>>,
    mbr: Vec<u8>,
}

/// Lets `remove` and `repair` refuse to write over what another tool has made, which they name.
fn refuse_what_is_not_ours(vm: &mut Vm, nvdimm: &Path, what: &str) -> Result<()> {
    let before = image::read(nvdimm, 0, START)?;
    for command in ["remove", "repair"] {
        let refused = vm.run_for(3, &format!("xen-pmem-provision {command} /dev/pmem0"))?;
        ensure!(refused.stderr.contains(what), "{command}: {}", refused.stderr);
    }
    ensure!(image::read(nvdimm, 0, START)? == before, "a refused command wrote");
    Ok(())
}

/// Prepares the device anew and marks its reserved area from outside.
fn prepare(run: &Run<'_>, vm: &mut Vm, nvdimm: &Path) -> Result<Ours> {
    vm.script(INIT)?;
    let layout = Layout::read(nvdimm, 0, super::NVDIMM_SIZE)?;
    let size = usize::try_from(layout.reserved_size)?;
    ensure!(
        layout.reserved_size >= 2 * MIB,
        "{}: the reserved area is too small to be seen",
        run.name
    );
    image::write(nvdimm, layout.reserved_base, &vec![PATTERN; size])?;
    let copies = COPIES
        .iter()
        .map(|offset| image::read(nvdimm, *offset, COPY_SIZE))
        .collect::<Result<_>>()?;
    let mbr = image::read(nvdimm, 0, MBR_SIZE)?;
    Ok(Ours { layout, copies, mbr })
}

impl Ours {
    fn ensure_reserved_untouched(&self, nvdimm: &Path) -> Result<()> {
        let found = image::read(
            nvdimm,
            self.layout.reserved_base,
            usize::try_from(self.layout.reserved_size)?,
        )?;
        ensure!(found == vec![PATTERN; found.len()], "the reserved area was written to");
        Ok(())
    }

    fn ensure_untouched(&self, nvdimm: &Path) -> Result<()> {
        self.ensure_reserved_untouched(nvdimm)?;
        for (offset, copy) in COPIES.iter().zip(&self.copies) {
            let found = image::read(nvdimm, *offset, COPY_SIZE)?;
            ensure!(found == *copy, "the super block at {offset:#x} was written to");
        }
        Ok(())
    }
}

/// Checks the state, and that the reason says so in words.
fn expect(vm: &mut Vm, state: &str, words: &str) -> Result<()> {
    let output = vm.exec(&["xen-pmem-provision", "show", "--json", "/dev/pmem0"], "")?;
    let shown: serde_json::Value =
        serde_json::from_str(&output.stdout).with_context(|| format!("show said {}", output.stderr))?;
    ensure!(shown["state"] == state, "it is not {state}: {shown}");
    let reason = shown["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains(words), "the reason is {reason:?}");
    ensure!(state == "prepared" || !reason.is_empty(), "there is no reason: {shown}");
    Ok(())
}

/// Heals the device with `repair`.
fn heal(vm: &mut Vm) -> Result<()> {
    vm.run("xen-pmem-provision repair --dry-run /dev/pmem0")?;
    vm.run("xen-pmem-provision repair /dev/pmem0")?;
    vm.run("xen-pmem-provision verify /dev/pmem0")?;
    Ok(())
}
