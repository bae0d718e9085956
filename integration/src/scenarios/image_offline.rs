//! An image that is prepared on the host by a user without privileges, and then is an NVDIMM.

use super::{NVDIMM_SIZE, Run};
use crate::layout::Layout;
use crate::machine::Kind;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user and group that root becomes: `nobody` and `nogroup` on Debian.
const NOBODY: u32 = 65534;

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    run.step("init an image on the host, without privileges");
    let nvdimm = prepare(run)?;
    let layout = Layout::read(&nvdimm, 0, NVDIMM_SIZE)?;

    let mut vm = run.boot_with_pmem(Kind::Xen, &nvdimm)?;
    run.step("prepared at first boot");
    vm.wait_for("/dev/pmem0p1")?;
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    let base = vm.number("/sys/bus/nd/devices/region0/resource")?;
    let device = &scan["devices"][0];
    ensure!(
        device["state"] == "prepared" && device["uuid"] == layout.uuid,
        "scan says {scan}"
    );
    ensure!(
        device["reserved"]["base"] == base + layout.reserved_base,
        "scan says {scan}"
    );
    vm.run("xen-pmem-provision verify /dev/pmem0")?;
    vm.run("xen-pmem-report apply --all")?;
    let state = vm.run(&format!(
        "xenstore-read {}/{}/state",
        crate::xenstore::ROOT,
        layout.uuid
    ))?;
    ensure!(state.trim() == "ready", "the state is {state}");

    run.step("the partition can be used");
    vm.run("mke2fs -q -t ext4 -b 4096 /dev/pmem0p1")?;
    vm.run("mount -t ext4 /dev/pmem0p1 /mnt")?;
    vm.run("umount /mnt")?;
    let verdict = vm.run("sgdisk --verify /dev/pmem0")?;
    ensure!(verdict.contains("No problems found"), "sgdisk says\n{verdict}");

    run.step("remove takes the reservation away and leaves the partition");
    vm.run("xen-pmem-report withdraw --all")?;
    vm.run("xen-pmem-provision remove /dev/pmem0")?;
    vm.run_for(4, "xen-pmem-discover scan")?;
    vm.wait_for("/dev/pmem0p1")?;
    vm.run("mount -t ext4 /dev/pmem0p1 /mnt")?;
    vm.run("umount /mnt")?;
    run.power_off(vm)?;
    ensure!(
        Layout::read(&nvdimm, 0, NVDIMM_SIZE).is_err(),
        "there still is a super block"
    );
    Ok(())
}

/// Makes the image in a folder that everybody can reach, and moves it to the scenario's.
fn prepare(run: &Run<'_>) -> Result<PathBuf> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("xen-pmem-provision");
    fs::copy(&run.manifest.provision, &program)?;
    let place = folder.path().join("images");
    fs::create_dir(&place)?;
    if rustix::process::geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
        chown(&place, Some(NOBODY), Some(NOBODY))?;
    }
    let image = place.join("disk.img");
    let name = image.display().to_string();
    provision(&program, 0, &["init", &name, "--size", "512M"])?;
    ensure!(fs::metadata(&image)?.len() == NVDIMM_SIZE, "the image has another size");
    let before = fs::read(&image)?;
    provision(&program, 0, &["show", &name])?;
    provision(&program, 0, &["verify", &name])?;
    // It is there already, and prepared.
    provision(&program, 3, &["init", &name])?;
    ensure!(
        fs::read(&image)? == before,
        "looking at the image, or a refused init, changed it"
    );

    let nvdimm = run.folder.join("nvdimm");
    fs::copy(&image, &nvdimm).context("copying the image")?;
    Ok(nvdimm)
}

fn provision(program: &Path, code: i32, arguments: &[&str]) -> Result<()> {
    let mut command = if rustix::process::geteuid().is_root() {
        let user = NOBODY.to_string();
        let mut command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                &user,
                "--regid",
                &user,
                "--clear-groups",
                "--no-new-privs",
                "--",
            ])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    let output = command
        .args(arguments)
        .output()
        .context("starting xen-pmem-provision on the host")?;
    if output.status.code() != Some(code) {
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        bail!(
            "`xen-pmem-provision {}` on the host ended with {}, not with exit code {code}\n{}{}",
            arguments.join(" "),
            output.status,
            said(&output.stdout),
            said(&output.stderr)
        );
    }
    Ok(())
}
