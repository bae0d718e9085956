//! Memory errors: one in a data page goes to the user of the page, one in the reserved area appears in Xen's log. QEMU raises them as real
//! machine checks.

use super::{NVDIMM_SIZE, Run};
use crate::frames::FRAME;
use crate::image::MIB;
use crate::machine::{Config, Kind, Nvdimm};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};

/// `IA32_MCi_STATUS`: valid, uncorrected, enabled, with address and further information, signalled (Intel SDM volume 3, 15.3.2.2).
const UNCORRECTED: u64 = 0xbd << 56;
/// What the processor cannot go on without having recovered from.
const ACTION_REQUIRED: u64 = 1 << 55;
/// Codes of the two kinds of errors from which software can recover (15.9.2, 15.9.3): found by scrubbing, met by a load.
const SCRUBBED: u64 = UNCORRECTED | 0xc0;
const LOADED: u64 = UNCORRECTED | ACTION_REQUIRED | 0x134;
/// `IA32_MCG_STATUS`: in progress; the program can go on from where it was, and its instruction is to do with it.
const IN_PROGRESS: u64 = 1 << 2;
const RESTART: u64 = 1;
const INSTRUCTION: u64 = 1 << 1;
/// `IA32_MCi_MISC`: the address is physical, and is one of a line of 4096 bytes.
const PHYSICAL: u64 = 2 << 6 | 12;
/// A bank that Xen takes machine checks from.
const BANK: u32 = 9;

/// What Xen's tables for the NVDIMM take; more is reserved in an image, which can come to any address.
const TABLES: u64 = 6 * MIB;

/// How long a message may take to be in Xen's log.
const LIMIT: Duration = Duration::from_secs(30);
/// How often that is looked at.
const TICK: Duration = Duration::from_millis(200);
/// What Xen says when an error is one that it cannot contain: stock Xen does, of any that a guest has met in persistent memory.
const XEN_GIVES_UP: &str = "Software recovery failed";

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let prepared = run.prepared_nvdimm("nvdimm", NVDIMM_SIZE)?;
    run.step("boot on a processor of Intel's, whose machine checks can be recovered from");
    let mut vm = run.boot_as(Config {
        intel: true,
        ..Config::new(Kind::Xen, vec![Nvdimm::unlabelled(&prepared.file)])
    })?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    vm.load_nvdimm_core()?;
    vm.run("xen-pmem-report apply --early --all")?;
    let base = vm.number("/sys/bus/nd/devices/region0/resource")?;
    let (data, _) = *prepared.layout.partitions.first().context("no partition")?;
    let data = base + data;
    let reserved = base + prepared.layout.reserved_base;
    let unused = reserved + prepared.layout.reserved_size - FRAME;

    run.step("an error in the reserved area is named");
    for (address, what) in [
        (reserved, "frame table of MFNs"),
        (reserved + TABLES - FRAME, "M2P of MFNs"),
        (unused, "reserved, not in use"),
    ] {
        let said = raise(&mut vm, SCRUBBED, IN_PROGRESS | RESTART, address, "memory error at MFN")?;
        ensure!(
            said.contains(&format!("{:#x}: {what}", address / FRAME)),
            "Xen says {said}"
        );
    }

    run.step("an error in a data page that nobody has met is told to Dom0");
    let said = raise(&mut vm, SCRUBBED, IN_PROGRESS | RESTART, data, "in persistent memory")?;
    ensure!(said.contains("telling d0"), "Xen says {said}");

    run.step("an error that Dom0 has met is told to Dom0, and does not end Xen");
    // A program must be using it at that moment.
    vm.spawn(&["sh", "-c", "while :; do :; done"])?;
    inject(&vm, LOADED, IN_PROGRESS | RESTART | INSTRUCTION, data + FRAME)?;
    let begin = Instant::now();
    // Whether Dom0's kernel can go on is its own decision, and depends on where in it the error meets it.
    while !vm.console().contains("accessed by d0") {
        ensure!(
            begin.elapsed() < LIMIT && !vm.console().contains(XEN_GIVES_UP),
            "Xen's console says {}",
            vm.console()
        );
        std::thread::sleep(TICK);
    }
    std::thread::sleep(TICK);
    ensure!(
        !vm.console().contains(XEN_GIVES_UP),
        "Xen's console says {}",
        vm.console()
    );
    vm.cut_power();
    Ok(())
}

/// Makes the processor meet an error, and waits until Xen's log has a line with these words. Returns that line.
fn raise(vm: &mut Vm, status: u64, global: u64, address: u64, words: &str) -> Result<String> {
    vm.run("xl dmesg -c")?;
    inject(vm, status, global, address)?;
    let begin = Instant::now();
    loop {
        let log = vm.run("xl dmesg")?;
        if let Some(line) = log.lines().find(|line| line.contains(words)) {
            return Ok(line.to_owned());
        }
        ensure!(begin.elapsed() < LIMIT, "Xen's log says nothing of {address:#x}: {log}");
        std::thread::sleep(TICK);
    }
}

/// Makes the processor meet an error.
fn inject(vm: &Vm, status: u64, global: u64, address: u64) -> Result<()> {
    let error = format!("mce 0 {BANK} {status:#x} {global:#x} {address:#x} {PHYSICAL:#x}");
    let said = vm.qmp()?.monitor(&error)?;
    ensure!(said.trim().is_empty(), "QEMU says {said}");
    Ok(())
}
