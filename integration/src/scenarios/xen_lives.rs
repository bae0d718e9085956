//! Xen's structures for two NVDIMMs, one raw and one in fsdax mode, live in their reserved areas: seen frame by frame from the
//! host, while Dom0 uses the partitions.

use super::{NVDIMM_SIZE, Run};
use crate::frames::{self, FRAME};
use crate::image;
use crate::layout::Layout;
use crate::machine::{Config, Kind, Nvdimm};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::ops::Range;
use std::path::PathBuf;

/// The file that each partition has from the start.
const GREETING: &str = "written before Xen lived here";
/// The one that is written while it does.
const ANSWER: &str = "written while Xen lives here";

/// An NVDIMM and what is on it.
pub(super) struct Prepared {
    pub(super) file: PathBuf,
    /// Where in the file the block device begins.
    start: u64,
    layout: Layout,
}

impl Prepared {
    /// Returns the first `size` bytes of the reserved area, as offsets in the file.
    fn reserved(&self, size: u64) -> Range<u64> {
        let base = self.start + self.layout.reserved_base;
        base..base + size
    }
}

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimms = prepare(run)?;
    run.step("fill the reserved areas, so that every write shows");
    let mut before = Vec::new();
    for nvdimm in &nvdimms {
        frames::fill(&nvdimm.file, nvdimm.reserved(nvdimm.layout.reserved_size))?;
        before.push(frames::snapshot(&nvdimm.file, "before")?);
    }

    let mut vm = boot(run, &nvdimms)?;
    let memory = host_memory(&mut vm)?;
    let used = report_early(run, &mut vm)?;
    // 512 MiB take two chunks of frame table; both lie in the same GiB, so that the second one's part of the M2P is in the first one's chunk.
    ensure!(
        used == [1536 * FRAME, 1024 * FRAME],
        "Xen says that it uses {used:?} bytes"
    );
    run.step("exactly the frames that Xen says have changed");
    for ((nvdimm, before), used) in nvdimms.iter().zip(&before).zip(&used) {
        let changed = frames::differences(before, &nvdimm.file)?;
        ensure!(
            changed == [nvdimm.reserved(*used)],
            "{}: {changed:x?} changed, not {:x?}",
            nvdimm.file.display(),
            nvdimm.reserved(*used)
        );
    }
    run.step("what Dom0's kernel writes there is discarded, aligned or not");
    scribble(&mut vm)?;

    run.step("the host's memory and Xen's heap are as before");
    let after = host_memory(&mut vm)?;
    ensure!(
        after.0 == memory.0 && memory.1 - after.1 <= 1,
        "total and free memory were {memory:?} MiB and are {after:?}"
    );

    run.step("the driver binds, and file systems are used");
    vm.load_nvdimm_drivers()?;
    let devices = devices(&mut vm)?;
    for (device, mount) in devices.iter().zip(["/mnt", "/tmp/mnt"]) {
        vm.wait_for(&format!("{device}p1"))?;
        vm.run(&format!("mkdir -p {mount}"))?;
        vm.run(&format!("mount -t ext4 {device}p1 {mount}"))?;
        ensure!(
            vm.run(&format!("cat {mount}/greeting"))? == GREETING,
            "{device}: another greeting"
        );
        vm.write(&format!("{mount}/answer"), ANSWER)?;
        vm.script(&format!(
            "dd if=/dev/urandom of={mount}/bulk bs=1M count=32 && md5sum {mount}/bulk > {mount}/sum && sync"
        ))?;
    }

    run.step("a later report changes nothing");
    vm.run("xen-pmem-report apply --all")?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    for reservation in status["reservations"].as_array().context("no reservations")? {
        ensure!(
            reservation["hypervisor"] == "registered" && reservation["disagreement"].is_null(),
            "status says {status}"
        );
    }

    run.step("what Dom0's kernel writes to the reserved areas does not arrive");
    let mut tables = Vec::new();
    for (nvdimm, used) in nvdimms.iter().zip(&used) {
        tables.push(frames::bytes(&nvdimm.file, &nvdimm.reserved(*used))?);
    }
    for (device, (nvdimm, used)) in devices.iter().zip(nvdimms.iter().zip(&used)) {
        // Whether the write fails is the kernel's affair; that it does no harm is ours.
        let (seek, count) = (nvdimm.layout.reserved_base / FRAME, used / FRAME);
        let dd = format!("dd if=/dev/urandom of={device} bs={FRAME} seek={seek} count={count} conv=notrunc,fsync");
        let output = vm.exec(&["sh", "-c", &dd], "")?;
        eprintln!("xen-lives: dd to the reserved area: exit code {:?}", output.code);
    }
    for ((nvdimm, used), tables) in nvdimms.iter().zip(&used).zip(&tables) {
        let now = frames::bytes(&nvdimm.file, &nvdimm.reserved(*used))?;
        ensure!(now == *tables, "{}: Xen's tables have changed", nvdimm.file.display());
    }

    run.step("data is mapped write-back, reserved frames never writable");
    ensure_mappings(&mut vm)?;

    run.step("unmount, take the raw device's driver away and give it back, mount again");
    for mount in ["/mnt", "/tmp/mnt"] {
        vm.run(&format!("umount {mount}"))?;
    }
    let raw = devices.first().context("no device")?;
    let namespace = vm.run(&format!(
        "readlink -f /sys/class/block/{}/device",
        raw.trim_start_matches("/dev/")
    ))?;
    let namespace = namespace.trim().rsplit('/').next().unwrap_or_default().to_owned();
    vm.run(&format!("ndctl disable-namespace {namespace}"))?;
    vm.run(&format!("ndctl enable-namespace {namespace}"))?;
    vm.wait_for(&format!("{raw}p1"))?;
    check_files(&mut vm, &devices)?;
    ensure_mappings(&mut vm)?;
    vm.run("xen-pmem-report apply --all")?;
    run.power_off(vm)?;

    run.step("the rest of the reserved areas, and all around, is untouched");
    for ((nvdimm, before), used) in nvdimms.iter().zip(&before).zip(&used) {
        let (first_partition, _) = *nvdimm.layout.partitions.first().context("no partition")?;
        let allowed = [nvdimm.reserved(*used), nvdimm.start + first_partition..NVDIMM_SIZE];
        let stray = frames::differences(before, &nvdimm.file)?
            .into_iter()
            .flat_map(|run| run.step_by(FRAME as usize))
            .find(|frame| !allowed.iter().any(|range| range.contains(frame)));
        ensure!(stray.is_none(), "{}: {stray:x?} changed", nvdimm.file.display());
        ensure!(
            Layout::read(&nvdimm.file, nvdimm.start, NVDIMM_SIZE - nvdimm.start)? == nvdimm.layout,
            "the layout changed"
        );
    }

    let mut vm = boot(run, &nvdimms)?;
    ensure!(
        report_early(run, &mut vm)? == used,
        "after a reboot Xen uses another number of frames"
    );
    vm.load_nvdimm_drivers()?;
    let devices = self::devices(&mut vm)?;
    check_files(&mut vm, &devices)?;
    run.power_off(vm)
}

/// Returns two NVDIMMs that bare Linux has prepared, in the order of their addresses: the first raw, the second in fsdax mode.
pub(super) fn prepare(run: &Run<'_>) -> Result<[Prepared; 2]> {
    let files = ["raw", "fsdax"].map(|name| run.folder.join(name));
    for file in &files {
        image::blank(file, NVDIMM_SIZE)?;
    }
    let paths: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    let mut vm = run.boot(Kind::Bare, &paths)?;
    run.step("bare Linux prepares a raw and an fsdax NVDIMM");
    vm.load_nvdimm_drivers()?;
    for device in ["/dev/pmem0", "/dev/pmem1"] {
        vm.wait_for(device)?;
    }
    let found = devices(&mut vm)?;
    let second = found
        .get(1)
        .context("there are not two devices")?
        .trim_start_matches("/dev/");
    let namespace = vm.run(&format!("readlink -f /sys/class/block/{second}/device"))?;
    let namespace = namespace.trim().rsplit('/').next().unwrap_or_default().to_owned();
    vm.run(&format!(
        "ndctl create-namespace --force --reconfig={namespace} --mode=fsdax --map=mem"
    ))?;
    let found = devices(&mut vm)?;
    let mut starts = Vec::new();
    for device in &found {
        vm.run(&format!("xen-pmem-provision init {device}"))?;
        vm.wait_for(&format!("{device}p1"))?;
        vm.run(&format!("mke2fs -q -t ext4 -b 4096 {device}p1"))?;
        vm.run(&format!("mount -t ext4 {device}p1 /mnt"))?;
        vm.write("/mnt/greeting", GREETING)?;
        vm.run("umount /mnt")?;
    }
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    for device in scan["devices"].as_array().context("no devices")? {
        let base = |name: &str| {
            device[name]["base"]
                .as_u64()
                .with_context(|| format!("scan says {scan}"))
        };
        starts.push(base("device_range")? - base("namespace")?);
    }
    run.power_off(vm)?;
    let prepared: Vec<Prepared> = files
        .into_iter()
        .zip(starts)
        .map(|(file, start)| {
            Ok(Prepared {
                layout: Layout::read(&file, start, NVDIMM_SIZE - start)?,
                file,
                start,
            })
        })
        .collect::<Result<_>>()?;
    prepared
        .try_into()
        .map_err(|_| anyhow::anyhow!("there are not two devices"))
}

fn boot(run: &Run<'_>, nvdimms: &[Prepared]) -> Result<Vm> {
    run.step("boot Xen");
    let nvdimms = nvdimms.iter().map(|nvdimm| Nvdimm::unlabelled(&nvdimm.file)).collect();
    let mut vm = run.boot_as(Config {
        // Linux with PAT asks for uncached mappings of raw pmem in QEMU, and what Xen makes of write-back would not show.
        linux: vec!["nopat".to_owned()],
        ..Config::new(Kind::Xen, nvdimms)
    })?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    Ok(vm)
}

/// Reports before nd_pmem is there, and returns how many bytes of each reserved area Xen says that it uses.
fn report_early(run: &Run<'_>, vm: &mut Vm) -> Result<Vec<u64>> {
    run.step("report before the driver binds");
    vm.load_nvdimm_core()?;
    let applied = vm.json(0, "xen-pmem-report apply --early --all --json")?;
    applied["devices"]
        .as_array()
        .with_context(|| format!("apply says {applied}"))?
        .iter()
        .map(|device| {
            let sink = &device["sinks"][0];
            ensure!(
                sink["sink"] == "hypercall" && sink["outcome"] == "published",
                "apply says {applied}"
            );
            sink["used"].as_u64().with_context(|| format!("apply says {applied}"))
        })
        .collect()
}

/// Returns the nodes of all pmem devices in the order of their addresses.
fn devices(vm: &mut Vm) -> Result<Vec<String>> {
    let output = vm.exec(&["xen-pmem-discover", "scan", "--json"], "")?;
    let scan: Value = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    let devices = scan["devices"]
        .as_array()
        .with_context(|| format!("scan says {scan}"))?;
    devices
        .iter()
        .map(|device| {
            device["device"]
                .as_str()
                .map(str::to_owned)
                .context("a device without a name")
        })
        .collect()
}

/// Makes Dom0's kernel write to the reserved areas at addresses that are not aligned.
///
/// A program maps the frames and reads into them. The driver is not bound, since `/dev/mem` refuses what a driver has.
fn scribble(vm: &mut Vm) -> Result<()> {
    let list = vm.run("pmemctl list")?;
    // "...: [START,END) reserved [START,END), ..."
    let areas: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_once("reserved [0x")?.1.split(',').next())
        .collect();
    ensure!(areas.len() == 2, "pmemctl says {list}");
    for area in areas {
        let said = vm.run(&format!("pmemctl scribble {area}"))?;
        ensure!(
            said.trim() == "unchanged",
            "the reserved area at frame {area} is {said}"
        );
    }
    Ok(())
}

/// Returns the total and the free memory of the host, in MiB.
fn host_memory(vm: &mut Vm) -> Result<(u64, u64)> {
    let info = vm.run("xl info")?;
    let number = |name: &str| -> Result<u64> {
        let line = info.lines().find(|line| line.starts_with(name));
        let value = line
            .and_then(|line| line.split(':').nth(1))
            .with_context(|| format!("no {name} in {info}"))?;
        Ok(value.trim().parse()?)
    };
    Ok((number("total_memory")?, number("free_memory")?))
}

/// Checks how PV guests have the ranges mapped, as Xen's debug key shows it.
fn ensure_mappings(vm: &mut Vm) -> Result<()> {
    vm.run("xl dmesg -c")?;
    vm.run("xl debug-keys y")?;
    let log = vm.run("xl dmesg")?;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("data mapped")).collect();
    ensure!(lines.len() == 2, "Xen says {log}");
    for line in lines {
        // "data mapped A WB B UC C other (D r/w), reserved mapped E r/o F r/w G not WB"
        let numbers: Vec<u64> = line
            .split_once("data mapped")
            .map(|(_, counts)| counts)
            .unwrap_or_default()
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        let [write_back, uncached, other, _, _, writable, alias] = numbers.as_slice() else {
            anyhow::bail!("Xen says {line}");
        };
        ensure!(
            *write_back > 0 && [uncached, other, writable, alias].iter().all(|count| **count == 0),
            "Xen says {line}"
        );
    }
    Ok(())
}

/// Checks the files on all partitions, and the file systems.
fn check_files(vm: &mut Vm, devices: &[String]) -> Result<()> {
    for device in devices {
        vm.wait_for(&format!("{device}p1"))?;
        vm.run(&format!("mount -t ext4 {device}p1 /mnt"))?;
        for (file, text) in [("greeting", GREETING), ("answer", ANSWER)] {
            ensure!(
                vm.run(&format!("cat /mnt/{file}"))? == text,
                "{device}: {file} has another content"
            );
        }
        vm.script("cd /mnt && sum=$(md5sum < bulk) && grep -q \"^${sum%% *} \" sum")?;
        vm.run("umount /mnt")?;
        vm.run(&format!("e2fsck -f -n {device}p1"))?;
    }
    Ok(())
}
