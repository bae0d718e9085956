//! What `init` reserves by default against what Xen uses, over sizes and alignments.

use super::Run;
use crate::image::{self, MIB};
use crate::machine::{Config, Kind, Nvdimm};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sizes in MiB, one after the other in the address space from 4 GiB on: odd sizes give the next one an odd address.
const SIZES: [u64; 9] = [128, 130, 254, 514, 1024, 3078, 6146, 16 << 10, 64 << 10];
/// The one that is far away from all others, and where.
const DISTANT: (u64, u64) = (130, (96 << 10) + 2);
/// What Xen's structures come in.
const CHUNK: u64 = 2 * MIB;

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let mut files = Vec::new();
    for size in SIZES {
        let file = run.folder.join(format!("nvdimm-{size}"));
        image::blank(&file, size * MIB)?;
        files.push(file);
    }
    run.step("what is reserved where the address is not known");
    let unknown: Vec<u64> = files
        .iter()
        .map(|file| reserved_offline(&run.manifest.provision, file))
        .collect::<Result<_>>()?;

    let nvdimm = |(size, file): (u64, &PathBuf)| Nvdimm {
        address: (size == DISTANT.0).then_some(DISTANT.1 * MIB),
        ..Nvdimm::unlabelled(file)
    };
    let nvdimms = || SIZES.into_iter().zip(&files).map(nvdimm).collect();
    let mut vm = run.boot_as(Config::new(Kind::Bare, nvdimms()))?;
    run.step("init on bare Linux, where it is");
    vm.load_nvdimm_drivers()?;
    for index in 0..files.len() {
        vm.wait_for(&format!("/dev/pmem{index}"))?;
        vm.run(&format!("xen-pmem-provision init /dev/pmem{index}"))?;
    }
    run.power_off(vm)?;

    let mut vm = run.boot_as(Config::new(Kind::Xen, nvdimms()))?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    vm.load_nvdimm_core()?;
    run.step("what Xen needs for each alone");
    let scan = vm.json(0, "xen-pmem-discover scan --early --json")?;
    let asked = vm.json(0, "xen-pmem-report apply --early --all --dry-run --json")?;
    let needed = used(&asked)?;
    let devices = scan["devices"].as_array().context("no devices")?;
    ensure!(
        devices.len() == SIZES.len() && needed.len() == SIZES.len(),
        "scan says {scan}"
    );
    eprintln!("xen-sizing:     base      size   needed  reserved  reserved, address unknown (MiB)");
    for (device, needed) in devices.iter().zip(&needed) {
        let number = |name: &str, part: &str| device[name][part].as_u64().with_context(|| format!("scan says {scan}"));
        let (base, size, reserved) = (
            number("namespace", "base")?,
            number("namespace", "size")?,
            number("reserved", "size")?,
        );
        let unknown = SIZES
            .iter()
            .zip(&unknown)
            .find(|(it, _)| **it * MIB == size)
            .map(|(_, reserved)| *reserved)
            .context("a device of another size")?;
        eprintln!(
            "xen-sizing: {:8} {:9} {:8} {:9} {:9}",
            base / MIB,
            size / MIB,
            needed / MIB,
            reserved / MIB,
            unknown / MIB
        );
        let most = needed + needed / 50;
        ensure!(
            (*needed..=most + CHUNK).contains(&reserved),
            "{size:#x} bytes at {base:#x}: {reserved:#x} reserved, {needed:#x} needed"
        );
        // One group of 256 MiB and one of 1 GiB more, for the worst alignment.
        ensure!(
            (*needed..=most + 2 * CHUNK).contains(&unknown),
            "{size:#x} bytes at an unknown address: {unknown:#x} reserved, {needed:#x} needed"
        );
    }

    run.step("all of them together");
    let applied = vm.json(0, "xen-pmem-report apply --early --all --json")?;
    let shared = used(&applied)?;
    for (used, needed) in shared.iter().zip(&needed) {
        ensure!(used <= needed, "Xen uses {used:#x} and said that it needs {needed:#x}");
    }
    ensure!(
        shared.iter().sum::<u64>() < needed.iter().sum(),
        "adjacent ranges share nothing: {shared:?} of {needed:?}"
    );
    run.power_off(vm)
}

/// Returns how much of each device's reserved area Xen uses, or would use.
fn used(applied: &Value) -> Result<Vec<u64>> {
    applied["devices"]
        .as_array()
        .with_context(|| format!("apply says {applied}"))?
        .iter()
        .map(|device| {
            device["sinks"][0]["used"]
                .as_u64()
                .with_context(|| format!("apply says {applied}"))
        })
        .collect()
}

/// Returns what `init` would reserve in an image.
fn reserved_offline(program: &Path, image: &Path) -> Result<u64> {
    let output = Command::new(program)
        .args(["init", "--dry-run", "--json"])
        .arg(image)
        .output()
        .context("starting xen-pmem-provision on the host")?;
    ensure!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout)?;
    document["reserved"]["size"]
        .as_u64()
        .with_context(|| format!("init says {document}"))
}
