//! CXL memory: persistent memory whose regions the operator makes after boot, and again after each reboot.

use super::linux_guest::{self, GUEST_LIMIT};
use super::recording::record;
use super::{NVDIMM_SIZE, Run, installed, xen_guest};
use crate::frames::{self, FRAME};
use crate::image;
use crate::layout::Layout;
use crate::machine::{Config, Cxl, CxlDevice, Initramfs, Kind, Nvdimm, Root};
use crate::vm::Vm;
use crate::{documents, poll, xenstore};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// The file that the partition has.
const TEXT: &str = "written to CXL memory";
/// The size of a device's label area.
const LABELS: u64 = image::MIB;
/// The serial number of the first device.
const FIRST: u64 = 1;
/// The serial number of the second device.
const SECOND: u64 = 2;
/// Drivers of CXL memory, down to the bus of its regions.
const DRIVERS: &str = "modprobe --all cxl_acpi cxl_pci cxl_port cxl_mem cxl_pmem libnvdimm";
/// Drivers of block devices.
const BLOCK_DRIVERS: &str = "modprobe --all nd_btt nd_pmem";
/// Xen's word that lets Dom0's kernel make regions.
const NO_HYPERVISOR: &str = "dom0-cpuid=no-hypervisor";
/// Xen's word that lets it accept CXL memory.
const ACCEPTED: &str = "pmem=cxl";

/// Shows what a bare machine does with CXL memory.
pub(super) fn bare(run: &Run<'_>) -> Result<()> {
    let cxl = memory(run, &[FIRST, SECOND])?;
    let mut vm = boot(run, Kind::Bare, &cxl, &[])?;
    run.step("without a region there is no persistent memory");
    vm.run_for(4, "xen-pmem-discover scan")?;
    run.step("a region of one device: prepare it");
    let before = prepare(&mut vm)?;
    let window = vm.number("/sys/bus/cxl/devices/decoder0.0/start")?;
    ensure!(
        before["state"] == "prepared" && before["region"]["base"] == window,
        "the window begins at {window:#x}, and scan says {before}"
    );
    vm.run("xen-pmem-provision verify /dev/pmem0")?;
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    record(run, &mut vm, "cxl-bare", &scan)?;
    run.power_off(vm)?;

    let mut vm = boot(run, Kind::Bare, &cxl, &[])?;
    run.step("after a reboot a region of the second device takes the addresses of the first");
    create_region(&mut vm, &[SECOND])?;
    run.step("the region of the first is back at another address, with the same reservation");
    create_region(&mut vm, &[FIRST])?;
    vm.run(BLOCK_DRIVERS)?;
    let after = device(&mut vm)?;
    ensure!(
        after["uuid"] == before["uuid"] && after["region"]["base"] != before["region"]["base"],
        "scan said {before}, and now {after}"
    );
    find_greeting(&mut vm, &after)?;
    run.power_off(vm)?;

    let cxl = memory(run, &[FIRST, SECOND])?;
    let mut vm = boot(run, Kind::Bare, &cxl, &[])?;
    run.step("two devices, interleaved");
    create_region(&mut vm, &[FIRST, SECOND])?;
    create_namespace(&mut vm)?;
    vm.run(BLOCK_DRIVERS)?;
    device(&mut vm)?;
    vm.run("xen-pmem-provision init /dev/pmem0")?;
    let found = device(&mut vm)?;
    ensure!(
        found["state"] == "prepared" && found["region"]["size"] == 2 * NVDIMM_SIZE,
        "scan says {found}"
    );
    vm.run("xen-pmem-provision verify /dev/pmem0")?;
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    record(run, &mut vm, "cxl-interleaved", &scan)?;
    run.power_off(vm)?;

    run.step("volatile memory is nobody's persistent memory");
    let mut cxl = memory(run, &[FIRST])?;
    for device in &mut cxl.devices {
        device.labels = None;
    }
    let mut vm = boot(run, Kind::Bare, &cxl, &[])?;
    create_region_of(&mut vm, "ram", &[FIRST])?;
    vm.run(BLOCK_DRIVERS)?;
    vm.run_for(4, "xen-pmem-discover scan")?;
    run.power_off(vm)
}

/// Shows what a Dom0 on stock Xen does with it.
pub(super) fn report(run: &Run<'_>) -> Result<()> {
    let cxl = memory(run, &[FIRST])?;
    let mut vm = boot(run, Kind::Xen, &cxl, &[NO_HYPERVISOR])?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    run.step("prepare it and publish it");
    let device = prepare(&mut vm)?;
    vm.run("xen-pmem-report apply --all")?;
    let uuid = device["uuid"].as_str().context("no UUID")?;
    let published = vm.run(&format!("xenstore-read {}/{uuid}/reserved-base", xenstore::ROOT))?;
    ensure!(
        device["reserved"]["base"].as_u64() == published.trim().parse().ok(),
        "XenStore says {published}, scan {device}"
    );
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    record(run, &mut vm, "cxl-xen", &scan)?;
    run.step("a healthy host is called healthy");
    is_healthy(&mut vm)?;
    vm.run("xen-pmem-report withdraw --all")?;
    ensure!(xenstore::nodes(&mut vm)?.is_empty(), "something is left in XenStore");
    run.power_off(vm)
}

/// Shows that Xen lives in CXL memory.
pub(super) fn lives(run: &Run<'_>) -> Result<()> {
    let cxl = memory(run, &[FIRST])?;
    let file = &cxl.devices.first().context("no device")?.file;
    let prepared = prepared_by_bare_linux(run, &cxl)?;
    // The region begins with the device's first byte.
    let number = |part: &str| prepared[part]["base"].as_u64().with_context(|| format!("no {part}"));
    let start = number("device_range")? - number("region")?;
    let layout = Layout::read(file, start, NVDIMM_SIZE - start)?;
    let reserved = start + layout.reserved_base;
    frames::fill(file, reserved..reserved + layout.reserved_size)?;

    let mut vm = dom0_with_region(run, &cxl, &[NO_HYPERVISOR])?;
    run.step("Xen takes Dom0's word only where it is told to, and the tool says how");
    let refused = vm.run_for(1, "xen-pmem-report apply --early --all")?;
    ensure!(refused.stdout.contains("pmem=cxl"), "{refused:?}");
    run.leave(vm)?;

    let mut vm = dom0_with_region(run, &cxl, &[NO_HYPERVISOR, ACCEPTED])?;
    run.step("exactly the frames that Xen says change");
    let before = frames::snapshot(file, "before")?;
    let applied = vm.json(0, "xen-pmem-report apply --early --all --json")?;
    let sink = &applied["devices"][0]["sinks"][0];
    ensure!(sink["outcome"] == "published", "apply says {applied}");
    let used = sink["used"].as_u64().with_context(|| format!("apply says {applied}"))?;
    let changed = frames::differences(&before, file)?;
    ensure!(
        used == 1536 * FRAME && changed.as_slice() == std::slice::from_ref(&(reserved..reserved + used)),
        "Xen says that it uses {used} bytes, and {changed:x?} changed"
    );

    run.step("the driver binds, the file is there, all sides agree");
    vm.run(BLOCK_DRIVERS)?;
    let device = device(&mut vm)?;
    find_greeting(&mut vm, &device)?;
    vm.run("xen-pmem-report apply --all")?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    let reservation = &status["reservations"][0];
    ensure!(
        reservation["hypervisor"] == "registered" && reservation["disagreement"].is_null(),
        "status says {status}"
    );
    is_healthy(&mut vm)?;

    run.step("what Dom0 writes to the reserved area does not arrive");
    let tables = frames::bytes(file, &(reserved..reserved + used))?;
    let (seek, count) = (layout.reserved_base / FRAME, used / FRAME);
    let write = format!("dd if=/dev/urandom of=/dev/pmem0 bs={FRAME} seek={seek} count={count} conv=notrunc,fsync");
    // Whether the write fails is the kernel's affair; that it does no harm is ours.
    let output = vm.exec(&["sh", "-c", &write], "")?;
    eprintln!("cxl-lives: dd to the reserved area: exit code {:?}", output.code);
    ensure!(
        frames::bytes(file, &(reserved..reserved + used))? == tables,
        "Dom0 has written to Xen's tables"
    );
    run.power_off(vm)?;

    let mut vm = dom0_with_region(run, &cxl, &[NO_HYPERVISOR, ACCEPTED])?;
    vm.run("xen-pmem-report apply --early --all")?;
    run.step("a region that is destroyed under Xen's structures is missed");
    vm.run("cxl disable-region region0")?;
    vm.run("cxl destroy-region region0")?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    let reservation = &status["reservations"][0];
    ensure!(
        reservation["hypervisor"] == "registered"
            && reservation["device"].is_null()
            && reservation["disagreement"].is_string(),
        "status says {status}"
    );
    run.leave(vm)
}

/// Shows that a guest has a partition of CXL memory.
pub(super) fn guest(run: &Run<'_>) -> Result<()> {
    let cxl = memory(run, &[FIRST])?;
    let prepared = prepared_by_bare_linux(run, &cxl)?;
    let uuid = prepared["uuid"].as_str().context("no UUID")?;

    let (kernel, kernel_size) = xen_guest::kernel_nvdimm(run)?;
    let mut config = Config::new(Kind::Xen, vec![Nvdimm::unlabelled(&kernel)]);
    config.cxl = Some(cxl);
    config.xen = [NO_HYPERVISOR, ACCEPTED].map(str::to_owned).to_vec();
    let mut vm = boot_as(run, config.with_guests())?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    create_region(&mut vm, &[FIRST])?;
    vm.run("xen-pmem-report apply --early --all")?;
    vm.load_nvdimm_drivers()?;
    vm.run("modprobe --all dm-mod")?;
    let (disk, kernel) = poll::until("both disks are there", Duration::from_secs(30), || {
        let output = vm.exec(&["xen-pmem-discover", "scan", "--json"], "")?;
        let scan: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let devices = scan["devices"].as_array().cloned().unwrap_or_default();
        let in_state = |state: &str| {
            let device = devices.iter().find(|device| device["state"] == state)?;
            device["device"].as_str().map(str::to_owned)
        };
        Ok(in_state("prepared").zip(in_state("unprepared")))
    })?;
    vm.script(&format!("head -c {kernel_size} {kernel} > /tmp/vmlinuz"))?;
    let xl = format!("/usr/lib/xen-{}/bin/xl", run.manifest.xen_version);
    vm.run(&format!("mount --bind /tools/xl-pmem {xl}"))?;
    xen_guest::start_xenconsoled(run, &mut vm)?;
    vm.run("xen-pmem-report apply --all")?;
    linux_guest::make_initrd(&mut vm)?;

    run.step("a guest reads what Dom0 wrote, and writes");
    let pmem = format!("pmem = ['uuid={uuid},partition=1']");
    let config = linux_guest::configuration("guest", "alone", "pvh", &pmem);
    vm.write("/tmp/guest.cfg", &config)?;
    vm.run("xl create /tmp/guest.cfg")?;
    let refused = vm.exec(&["mount", "-t", "ext4", &format!("{disk}p1"), "/mnt"], "")?;
    ensure!(refused.code != Some(0), "Dom0 mounts what a guest has");
    // Its claim goes a moment after the domain: xl's process releases it.
    poll::until("the guest has ended, and its claim is released", GUEST_LIMIT, || {
        let claims = vm.json(0, "xen-pmem-report guest list --json")?;
        Ok(claims["claims"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })?;
    vm.run_for(1, "xl domid guest")?;
    linux_guest::has_said(&mut vm, &[&format!("greeting: {TEXT}"), "wrote", "is done"])?;
    run.step("Dom0 finds what the guest wrote");
    vm.run(&format!("mount -t ext4 {disk}p1 /mnt"))?;
    let found = vm.run("cat /mnt/from-guest")?;
    ensure!(found.contains("written by the guest"), "the file says {found}");
    vm.run("umount /mnt")?;
    run.power_off(vm)
}

/// Shows that an installed Dom0 reports a region as soon as an administrator has made it.
pub(super) fn installed(run: &Run<'_>) -> Result<()> {
    let cxl = memory(run, &[FIRST])?;
    let prepared = prepared_by_bare_linux(run, &cxl)?;
    let uuid = prepared["uuid"].as_str().context("no UUID")?;

    run.step("boot the installed system");
    let mut vm = run.boot_as(Config {
        root: Root::System(Initramfs::InitramfsTools),
        cxl: Some(cxl),
        xen: [NO_HYPERVISOR, ACCEPTED].map(str::to_owned).to_vec(),
        ..Config::new(Kind::Xen, Vec::new())
    })?;
    installed::up(run, &mut vm)?;
    run.step("a region that the guide's unit makes now is reported before its driver binds");
    vm.write("/etc/systemd/system/cxl-regions.service", &unit_of_the_guide()?)?;
    vm.run("systemctl enable cxl-regions.service")?;
    if let Err(error) = vm.run("systemctl start cxl-regions.service") {
        let journal = vm.run("journalctl --no-pager -u cxl-regions.service -u xen-pmem-hold.service")?;
        return Err(error.context(format!("the journal says\n{journal}")));
    }
    let node = format!("{}/{uuid}/hypervisor", xenstore::ROOT);
    poll::until("the report is in XenStore", Duration::from_secs(60), || {
        let found = vm.exec(&["xenstore-read", &node], "")?;
        Ok((found.stdout.trim() == "registered").then_some(()))
    })?;
    let device = device(&mut vm)?;
    find_greeting(&mut vm, &device)?;
    is_healthy(&mut vm)?;
    run.leave(vm)
}

/// Returns the unit that the operator's guide shows.
fn unit_of_the_guide() -> Result<String> {
    let guide = documents::read(documents::GUIDE)?;
    let units = documents::blocks(&guide.text)
        .into_iter()
        .filter(|block| block.info == documents::UNIT);
    let mut texts = units.map(|block| block.lines.join("\n") + "\n");
    texts
        .find(|text| text.contains("cxl create-region"))
        .context("the guide has no unit for CXL regions")
}

/// Makes a blank device for each of these serial numbers.
fn memory(run: &Run<'_>, serials: &[u64]) -> Result<Cxl> {
    let folder = tempfile::Builder::new().prefix("cxl").tempdir_in(run.folder)?.keep();
    let devices = serials
        .iter()
        .map(|&serial| {
            let file = folder.join(format!("memory{serial}"));
            let labels = folder.join(format!("labels{serial}"));
            image::blank(&file, NVDIMM_SIZE)?;
            image::blank(&labels, LABELS)?;
            Ok(CxlDevice {
                serial,
                file,
                labels: Some(labels),
            })
        })
        .collect::<Result<_>>()?;
    Ok(Cxl { devices, window_gib: 4 })
}

/// Boots such a machine, with the drivers of the bus and without those of block devices.
fn boot(run: &Run<'_>, kind: Kind, cxl: &Cxl, xen: &[&str]) -> Result<Vm> {
    boot_as(
        run,
        Config {
            cxl: Some(cxl.clone()),
            xen: xen.iter().map(ToString::to_string).collect(),
            ..Config::new(kind, Vec::new())
        },
    )
}

/// Boots a machine that is made as `config` says, with the drivers of the bus.
fn boot_as(run: &Run<'_>, config: Config) -> Result<Vm> {
    run.step("boot a machine with CXL memory");
    let devices = config.cxl.as_ref().map_or(0, |cxl| cxl.devices.len());
    let mut vm = run.boot_as(config)?;
    vm.run(DRIVERS)?;
    for number in 0..devices {
        vm.wait_for(&format!("/sys/bus/cxl/devices/mem{number}"))?;
    }
    Ok(vm)
}

/// Boots Linux alone, which prepares the first device, and turns it off. Returns what scan said about it.
fn prepared_by_bare_linux(run: &Run<'_>, cxl: &Cxl) -> Result<Value> {
    let mut vm = boot(run, Kind::Bare, cxl, &[])?;
    run.step("bare Linux prepares it");
    let prepared = prepare(&mut vm)?;
    run.power_off(vm)?;
    Ok(prepared)
}

/// Boots a Dom0 with xenstored and a region of the first device, before any driver of block devices.
fn dom0_with_region(run: &Run<'_>, cxl: &Cxl, xen: &[&str]) -> Result<Vm> {
    let mut vm = boot(run, Kind::Xen, cxl, xen)?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    create_region(&mut vm, &[FIRST])?;
    Ok(vm)
}

/// Makes a region of all memory of the devices with these serial numbers. Their drivers may still be at work: tries for a while.
fn create_region(vm: &mut Vm, devices: &[u64]) -> Result<()> {
    create_region_of(vm, "pmem", devices)
}

/// Makes a region of this kind of memory.
fn create_region_of(vm: &mut Vm, kind: &str, devices: &[u64]) -> Result<()> {
    let mut command = format!("cxl create-region -d decoder0.0 -t {kind} -m");
    for serial in devices {
        command = format!("{command} {}", name_of(vm, *serial)?);
    }
    let argv: Vec<&str> = command.split_whitespace().collect();
    let mut said = String::new();
    let made = poll::until("the region is made", Duration::from_secs(30), || {
        let output = vm.exec(&argv, "")?;
        said = format!("{}{}", output.stdout, output.stderr);
        Ok((output.code == Some(0)).then_some(()))
    });
    made.with_context(|| format!("`{command}` said {said}"))
}

/// Waits for the device with this serial number and returns its name. The kernel numbers devices in the order in which their drivers are
/// ready, which is not the same after each boot.
fn name_of(vm: &mut Vm, serial: u64) -> Result<String> {
    let find = format!("cd /sys/bus/cxl/devices && grep -lx {serial:#x} mem*/serial");
    let what = format!("a device has the serial number {serial:#x}");
    poll::until(&what, Duration::from_secs(30), || {
        let found = vm.exec(&["sh", "-c", &find], "")?.stdout;
        Ok(found.split_once('/').map(|(name, _)| name.to_owned()))
    })
}

/// Makes a namespace in fsdax mode of the first region.
fn create_namespace(vm: &mut Vm) -> Result<()> {
    vm.run("ndctl create-namespace --mode=fsdax --map=mem").map(drop)
}

/// Makes a region and a namespace, prepares it and writes a file to its partition. Returns what scan says about it.
fn prepare(vm: &mut Vm) -> Result<Value> {
    create_region(vm, &[FIRST])?;
    create_namespace(vm)?;
    vm.run(BLOCK_DRIVERS)?;
    device(vm)?;
    vm.run("xen-pmem-provision init /dev/pmem0")?;
    vm.wait_for("/dev/pmem0p1")?;
    vm.run("mke2fs -q -t ext4 -b 4096 /dev/pmem0p1")?;
    vm.run("mount -t ext4 -o dax=always /dev/pmem0p1 /mnt")?;
    vm.write("/mnt/greeting", TEXT)?;
    vm.run("umount /mnt")?;
    device(vm)
}

/// Returns what scan says about the only device, as soon as it is there.
fn device(vm: &mut Vm) -> Result<Value> {
    poll::until("a device is there", Duration::from_secs(30), || {
        let output = vm.exec(&["xen-pmem-discover", "scan", "--json"], "")?;
        let scan: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let device = scan["devices"][0].clone();
        Ok(device["device"].is_string().then_some(device))
    })
}

/// Checks that the file is on the partition of the device that scan says this about.
fn find_greeting(vm: &mut Vm, device: &Value) -> Result<()> {
    let partition = format!("{}p1", device["device"].as_str().context("no device")?);
    vm.wait_for(&partition)?;
    vm.run(&format!("mount -t ext4 -o dax=always {partition} /mnt"))?;
    ensure!(vm.run("cat /mnt/greeting")? == TEXT, "the file has another content");
    vm.run("umount /mnt").map(drop)
}

/// Checks that doctor finds nothing wrong, and talks about CXL memory and not about NVDIMMs.
fn is_healthy(vm: &mut Vm) -> Result<()> {
    let found = vm.json(0, "xen-pmem-report doctor --json")?;
    let text = found.to_string();
    ensure!(
        text.contains("CXL devices may have persistent memory") && !text.contains("nfit") && !text.contains("NFIT"),
        "doctor says {found}"
    );
    Ok(())
}
