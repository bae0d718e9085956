//! What devices reach: with an IOMMU they cannot write to Xen's structures, and can read and write data; without one, all is open.

use super::{NVDIMM_SIZE, Run};
use crate::copier::{BYTES, Copier};
use crate::frames::FRAME;
use crate::image::{self, MIB};
use crate::machine::{Config, Iommu, Kind, Nvdimm};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;

/// What Xen's tables for the NVDIMM take.
const TABLES: u64 = 6 * MIB;
/// What is written by DMA.
const PATTERN: u8 = 0x5a;

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    for iommu in [None, Some(Iommu::Amd), Some(Iommu::Intel)] {
        with(run, iommu)?;
    }
    Ok(())
}

fn with(run: &Run<'_>, iommu: Option<Iommu>) -> Result<()> {
    let kind = iommu.map_or("no", Iommu::as_str);
    run.step(&format!("boot with {kind} IOMMU"));
    let prepared = run.prepared_nvdimm(&format!("nvdimm-{kind}"), NVDIMM_SIZE)?;
    let file = &prepared.file;
    let (data, _) = *prepared.layout.partitions.first().context("no partition")?;
    let [from, early, late, read] = [0, 1, 2, 3].map(|place| data + place * MIB);
    // The last frame of Xen's tables, which describes no page of this range: the M2P's last chunk is for a whole GiB.
    let reserved = prepared.layout.reserved_base + TABLES - FRAME;
    let bytes = usize::try_from(BYTES)?;
    image::write(file, from, &vec![PATTERN; bytes])?;

    let mut vm = run.boot_as(Config {
        iommu,
        copier: true,
        ..Config::new(Kind::Xen, vec![Nvdimm::unlabelled(file)])
    })?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    vm.load_nvdimm_core()?;
    let base = vm.number("/sys/bus/nd/devices/region0/resource")?;
    let copier = Copier::find(&mut vm)?;

    run.step(&format!("{kind} IOMMU: before the report"));
    copier.copy(&mut vm, base + from, base + early)?;
    // The memory map of this firmware does not name the NVDIMM: with an IOMMU, no device reaches it.
    ensure!(
        holds(file, early, PATTERN)? == iommu.is_none(),
        "before the report a device with {kind} IOMMU reaches persistent memory: {}",
        iommu.is_some()
    );

    run.step(&format!("{kind} IOMMU: after the report, data can be reached"));
    vm.run("xl dmesg -c")?;
    vm.run("xen-pmem-report apply --early --all")?;
    let log = vm.run("xl dmesg")?;
    ensure!(
        log.contains("can write to the reserved area") == iommu.is_none(),
        "with {kind} IOMMU the log says {log}"
    );
    copier.copy(&mut vm, base + from, base + late)?;
    ensure!(
        holds(file, late, PATTERN)?,
        "data cannot be reached by DMA; {}",
        faults(&mut vm)?
    );

    run.step(&format!("{kind} IOMMU: the reserved area can be read"));
    // Xen's own bytes are there: the page does not belong to Dom0 or another domain.
    let xens = 0xff;
    ensure!(holds(file, reserved, xens)?, "Xen's table is not what it was");
    copier.copy(&mut vm, base + reserved, base + read)?;
    ensure!(holds(file, read, xens)?, "reading is refused; {}", faults(&mut vm)?);

    run.step(&format!("{kind} IOMMU: the reserved area cannot be written"));
    vm.run("xl dmesg -c")?;
    copier.copy(&mut vm, base + from, base + reserved)?;
    let written = holds(file, reserved, PATTERN)?;
    let faults = faults(&mut vm)?;
    match iommu {
        None => ensure!(written, "without an IOMMU something keeps devices from writing"),
        // QEMU's IOMMUs do not report each access that they refuse, so what counts is the memory.
        Some(_) => ensure!(
            !written && holds(file, reserved, xens)?,
            "a device has written to the reserved area; Xen says: {faults}"
        ),
    }
    run.power_off(vm)
}

/// Returns whether all bytes that a transfer moves have this value, at this place of an NVDIMM.
fn holds(file: &Path, offset: u64, value: u8) -> Result<bool> {
    let bytes = image::read(file, offset, usize::try_from(BYTES)?)?;
    Ok(bytes.iter().all(|byte| *byte == value))
}

/// Returns what Xen says of refused accesses.
fn faults(vm: &mut Vm) -> Result<String> {
    let log = vm.run("xl dmesg")?;
    let lines = log
        .lines()
        .filter(|line| line.contains("IO_PAGE_FAULT") || line.contains("DMAR"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
