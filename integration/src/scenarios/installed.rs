//! A Debian system in which apt has installed the packages: what the units do at boot and when an NVDIMM is plugged in.

use super::{NVDIMM_SIZE, Prepared, Run};
use crate::layout::Layout;
use crate::machine::{Config, Initramfs, Kind, Nvdimm, Root};
use crate::poll;
use crate::vm::Vm;
use crate::xenstore;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::time::Duration;

/// How long a system may take to be up, and its units to do something.
const LIMIT: Duration = Duration::from_secs(120);
/// The packages' names.
const PACKAGES: &str = "xen-pmem xen-pmem-provision xen-pmem-discover xen-pmem-report";

/// Runs through boot, hotplug, upgrade, removal and purge.
pub(super) fn lifecycle(run: &Run<'_>) -> Result<()> {
    let prepare = |name| run.prepared_nvdimm(name, NVDIMM_SIZE);
    let (first, second) = (prepare("first")?, prepare("second")?);
    let mut vm = boot(run, Kind::Xen, Initramfs::InitramfsTools, &first.file, &[])?;
    up(run, &mut vm)?;

    run.step("the installed units have reported what was there at boot");
    reported(run, &mut vm, &first)?;
    vm.wait_for("/dev/pmem0p1")?;
    journalled(&mut vm, &first)?;
    vm.run("xen-pmem-report doctor")?;

    run.step("an NVDIMM that is plugged in is reported");
    vm.plug(2, &Nvdimm::unlabelled(&second.file))?;
    reported(run, &mut vm, &second)?;
    vm.wait_for("/dev/pmem1p1")?;
    no_unit_failed(&mut vm)?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    let reservations = status["reservations"].as_array().context("no reservations")?;
    ensure!(
        reservations.len() == 2 && reservations.iter().all(|it| it["disagreement"].is_null()),
        "status says {status}"
    );

    run.step("an upgrade leaves reports as they are");
    let before = xenstore::nodes(&mut vm)?;
    let watch = xenstore::Watch::start(&mut vm)?;
    manage(&mut vm, "dpkg --install /var/cache/newer/*.deb")?;
    let version = vm.run("dpkg-query --show --showformat=${Version} xen-pmem-report")?;
    ensure!(version == "0.1.0-2", "the version is {version}");
    watch.ensure_silent(&mut vm)?;
    ensure!(xenstore::nodes(&mut vm)? == before, "the upgrade changed XenStore");
    no_unit_failed(&mut vm)?;

    run.step("removal takes reports back and leaves devices alone");
    manage(&mut vm, &format!("dpkg --remove {PACKAGES}"))?;
    ensure!(
        xenstore::nodes(&mut vm)?.iter().all(|(path, _)| path == xenstore::ROOT),
        "XenStore still has {:?}",
        xenstore::nodes(&mut vm)?
    );
    ensure!(
        vm.attribute("/sys/bus/nd/drivers_autoprobe")? == "1",
        "drivers are still held back"
    );
    for device in ["/dev/pmem0p1", "/dev/pmem1p1"] {
        vm.run(&format!("mke2fs -q -t ext4 {device}"))?;
    }
    no_unit_failed(&mut vm)?;

    run.step("purge leaves nothing behind");
    manage(&mut vm, &format!("dpkg --purge {PACKAGES}"))?;
    let left = vm.script("find / -xdev -name '*xen-pmem*' ! -path '/var/cache/*' ! -path '/proc/*' ! -name 'xen-pmem-agent*' ! -name xen-pmem-stopwatch ! -path '/boot/*'")?;
    ensure!(left.trim().is_empty(), "there still are\n{left}");
    vm.run("sync")?;
    run.leave(vm)?;
    for prepared in [&first, &second] {
        let layout = Layout::read(&prepared.file, 0, NVDIMM_SIZE)?;
        ensure!(layout == prepared.layout, "the layout is another");
    }
    Ok(())
}

/// Shows the early path of the dracut module.
pub(super) fn dracut(run: &Run<'_>) -> Result<()> {
    let prepared = run.prepared_nvdimm("nvdimm", NVDIMM_SIZE)?;
    let mut vm = boot(run, Kind::Xen, Initramfs::Dracut, &prepared.file, &[])?;
    up(run, &mut vm)?;
    run.step("what was there at boot is reported, from an initramfs of dracut's");
    reported(run, &mut vm, &prepared)?;
    vm.wait_for("/dev/pmem0p1")?;
    run.power_off(vm)
}

/// Shows the early path turned off, and without time.
pub(super) fn not_early(run: &Run<'_>) -> Result<()> {
    let prepared = run.prepared_nvdimm("nvdimm", NVDIMM_SIZE)?;
    for word in ["xen-pmem.early=off", "xen-pmem.early-limit=0.001"] {
        run.step(&format!("boot with {word}"));
        let mut vm = boot(run, Kind::Xen, Initramfs::InitramfsTools, &prepared.file, &[word])?;
        vm.exec(&["systemctl", "is-system-running", "--wait"], "")?;
        vm.wait_for("/dev/pmem0p1")?;
        run.step("the device is an ordinary disk, and the late report is refused with the reason");
        let failed = vm.run("systemctl list-units --failed --plain --no-legend")?;
        ensure!(
            failed.lines().count() == 1 && failed.starts_with("xen-pmem-report@pmem0.service"),
            "the failed units are\n{failed}"
        );
        let journal = vm.run("journalctl --quiet -t xen-pmem-report -p err -o cat")?;
        ensure!(
            journal.contains("report before nd_pmem binds") || journal.contains("apply --rebind"),
            "the journal says\n{journal}"
        );
        // As the guide has it.
        let messages = vm.run("journalctl -b -t xen-pmem")?;
        ensure!(
            messages.contains("boot goes on without it") == word.contains("limit"),
            "the early report's words do not fit {word}: {messages}"
        );
        ensure!(xenstore::nodes(&mut vm)?.is_empty(), "something was published");
        run.power_off(vm)?;
    }
    Ok(())
}

/// Shows that without Xen there is nothing to do, and nothing in the journal.
pub(super) fn bare(run: &Run<'_>) -> Result<()> {
    let prepared = run.prepared_nvdimm("nvdimm", NVDIMM_SIZE)?;
    let mut vm = boot(run, Kind::Bare, Initramfs::InitramfsTools, &prepared.file, &[])?;
    up(run, &mut vm)?;
    run.step("the units are quiet and the device is an ordinary disk");
    vm.wait_for("/dev/pmem0p1")?;
    let journal = vm.run("journalctl --quiet -t xen-pmem-report")?;
    ensure!(journal.is_empty(), "the journal says\n{journal}");
    let state =
        vm.run("systemctl show --property=ActiveState --value xen-pmem-report@pmem0.service xen-pmem-hold.service")?;
    ensure!(
        state.split_whitespace().all(|state| state == "inactive"),
        "the units are {state}"
    );
    ensure!(
        vm.attribute("/sys/bus/nd/drivers_autoprobe")? == "1",
        "drivers are held back"
    );
    run.leave(vm)
}

pub(super) fn boot(run: &Run<'_>, kind: Kind, initramfs: Initramfs, nvdimm: &Path, linux: &[&str]) -> Result<Vm> {
    run.step("boot the installed system");
    // What plugged NVDIMMs take of a Xen that takes reports; another Xen ignores it.
    let xen = vec!["pmem=hotplug".to_owned()];
    run.boot_as(Config {
        root: Root::System(initramfs),
        linux: linux.iter().map(|word| (*word).to_owned()).collect(),
        xen,
        ..Config::new(kind, vec![Nvdimm::unlabelled(nvdimm)])
    })
}

/// Waits until all units have started that are to, without a failure.
pub(super) fn up(run: &Run<'_>, vm: &mut Vm) -> Result<()> {
    run.step("all units start");
    let state = vm.exec(&["systemctl", "is-system-running", "--wait"], "")?;
    no_unit_failed(vm)?;
    ensure!(state.stdout.trim() == "running", "the system is {}", state.stdout);
    Ok(())
}

fn no_unit_failed(vm: &mut Vm) -> Result<()> {
    let failed = vm.run("systemctl list-units --failed --plain --no-legend")?;
    if failed.trim().is_empty() {
        return Ok(());
    }
    let unit = failed.split_whitespace().next().unwrap_or_default();
    let journal = vm.run(&format!("journalctl --no-pager -u {unit}"))?;
    anyhow::bail!("units have failed:\n{failed}\n{journal}")
}

/// Waits until a reservation is published with what this hypervisor says of it.
fn reported(run: &Run<'_>, vm: &mut Vm, prepared: &Prepared) -> Result<()> {
    let node = |name: &str| format!("{}/{}/{name}", xenstore::ROOT, prepared.layout.uuid);
    let published = poll::until("the report is in XenStore", LIMIT, || {
        let state = vm.exec(&["xenstore-read", &node("state")], "")?;
        Ok((state.stdout.trim() == "ready").then_some(()))
    });
    if let Err(error) = published {
        let journal = vm.run("journalctl --no-pager -t xen-pmem-report -t systemd -t udevd -n 60")?;
        return Err(error.context(format!(
            "{} is not published; the journal says\n{journal}",
            prepared.layout.uuid
        )));
    }
    let expected = if run.hypervisor.knows_pmem() {
        "registered"
    } else {
        "unsupported"
    };
    let hypervisor = vm.run(&format!("xenstore-read {}", node("hypervisor")))?;
    ensure!(
        hypervisor.trim() == expected,
        "the hypervisor is said to have it {hypervisor}"
    );
    Ok(())
}

/// Checks that the journal has the report with its fields.
fn journalled(vm: &mut Vm, prepared: &Prepared) -> Result<()> {
    let lines = vm.run(&format!(
        "journalctl --quiet -o json -t xen-pmem-report XEN_PMEM_RESERVATION={}",
        prepared.layout.uuid
    ))?;
    let found = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .any(|entry| {
            entry["XEN_PMEM_SINK"] == "xenstore"
                && entry["XEN_PMEM_OUTCOME"] == "published"
                && entry["XEN_PMEM_DEVICE"] == "/dev/pmem0"
        });
    ensure!(found, "the journal has\n{lines}");
    Ok(())
}

/// Runs a package manager, whose many words are of interest only if it fails.
fn manage(vm: &mut Vm, command: &str) -> Result<()> {
    vm.script(&format!(
        "DEBIAN_FRONTEND=noninteractive {command} >/run/packages.log 2>&1 || {{ cat /run/packages.log; exit 1; }}"
    ))?;
    Ok(())
}
