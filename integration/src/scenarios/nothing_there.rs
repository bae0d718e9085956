//! Where there is nothing to find or to report to, the tools say so and write nothing.

use super::Run;
use crate::machine::{Kind, Nvdimm};
use crate::vm::{Output, Vm};
use crate::{image, xenstore};
use anyhow::{Result, ensure};
use serde_json::json;

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimm = run.blank_nvdimm()?;
    let mut vm = run.boot_with_pmem(Kind::Bare, &nvdimm)?;
    run.step("not under Xen");
    said(&vm.run_for(6, "xen-pmem-report apply --all")?, "not a Xen host")?;
    said(&vm.run_for(6, "xen-pmem-report status")?, "not a Xen host")?;
    said(&vm.run_for(6, "xen-pmem-report withdraw --all")?, "not a Xen host")?;
    unprepared(run, &mut vm)?;
    run.power_off(vm)?;
    image::ensure_blank(&nvdimm)?;

    let mut vm = run.boot(Kind::Xen, &[])?;
    run.step("start xenstored");
    vm.start_xenstored(&run.manifest.xen_version)?;
    run.step("no NVDIMM and no driver for one");
    no_nvdimm(&mut vm)?;
    run.step("no NVDIMM");
    vm.load_nvdimm_drivers()?;
    no_nvdimm(&mut vm)?;
    said(&vm.run_for(4, "xen-pmem-report apply --all")?, "no persistent memory")?;

    run.step("plug an NVDIMM in that is not prepared");
    vm.plug(1, &Nvdimm::unlabelled(&nvdimm))?;
    vm.wait_for("/dev/pmem0")?;
    unprepared(run, &mut vm)?;
    run.step("nothing to report, nothing to withdraw");
    said(&vm.run_for(4, "xen-pmem-report apply --all")?, "xen-pmem-provision")?;
    vm.run_for(4, "xen-pmem-report withdraw 00000000-0000-4000-8000-000000000000")?;
    vm.run_for(2, "xen-pmem-report apply")?;
    ensure!(xenstore::nodes(&mut vm)?.is_empty(), "something was published");
    run.power_off(vm)?;
    image::ensure_blank(&nvdimm)
}

fn no_nvdimm(vm: &mut Vm) -> Result<()> {
    let scan = vm.json(4, "xen-pmem-discover scan --json")?;
    ensure!(scan == json!({ "schema": 1, "devices": [] }), "scan says {scan}");
    let named = vm.run_for(1, "xen-pmem-discover scan /dev/pmem0")?;
    said(&named, "/dev/pmem0")?;
    said(&vm.run_for(1, "xen-pmem-provision show /dev/pmem0")?, "/dev/pmem0")?;
    Ok(())
}

fn unprepared(run: &Run<'_>, vm: &mut Vm) -> Result<()> {
    run.step("an NVDIMM that is not prepared");
    let scan = vm.json(4, "xen-pmem-discover scan --json")?;
    let device = &scan["devices"][0];
    ensure!(
        device["device"] == "/dev/pmem0" && device["state"] == "unprepared",
        "scan says {scan}"
    );
    ensure!(
        device["reserved"].is_null() && device["reason"].is_string(),
        "scan says {scan}"
    );
    let shown = vm.json(4, "xen-pmem-provision show /dev/pmem0 --json")?;
    ensure!(
        shown["state"] == "unprepared" && shown["superblock"].is_null(),
        "show says {shown}"
    );
    vm.run_for(4, "xen-pmem-provision verify /dev/pmem0")?;
    vm.run_for(4, "xen-pmem-provision remove /dev/pmem0")?;
    Ok(())
}

/// Checks that an error names its object.
fn said(output: &Output, words: &str) -> Result<()> {
    ensure!(
        output.stderr.contains(words),
        "`{}` does not say {words:?} but: {}",
        output.command,
        output.stderr
    );
    Ok(())
}
