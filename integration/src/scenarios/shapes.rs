//! Every shape that persistent memory comes in: labels with namespaces of all modes, many NVDIMMs, odd sizes, addresses that move,
//! and memory that the kernel's command line declares to be persistent.

use super::Run;
use super::recording::record;
use crate::image::{self, MIB};
use crate::machine::{Config, Kind, Nvdimm};
use crate::vm::Vm;
use crate::xenstore;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// The label area of an NVDIMM. With a smaller one the rest is not aligned as fsdax needs it.
const LABELS: u64 = 2 * MIB;

/// The namespaces of the NVDIMM with labels, as `ndctl create-namespace` makes them, and how many MiB each has.
const NAMESPACES: [(&str, u64); 5] = [
    ("--mode=raw", 64),
    ("--mode=fsdax --map=mem", 96),
    ("--mode=sector", 64),
    ("--mode=devdax --map=mem --align=4096", 64),
    // Of a whole memory section at least: the map of less than one goes to RAM even so, and works under Xen.
    ("--mode=fsdax --map=dev", 320),
];

/// Shows one NVDIMM with labels and a namespace of each mode.
pub(super) fn labels(run: &Run<'_>) -> Result<()> {
    let file = run.folder.join("labels");
    image::blank(&file, 1024 * MIB + LABELS)?;
    let nvdimm = || Nvdimm {
        label_size: Some(LABELS),
        ..Nvdimm::unlabelled(&file)
    };
    run.step("boot Linux with an NVDIMM that has labels");
    let mut vm = run.boot_as(Config::new(Kind::Bare, vec![nvdimm()]))?;
    load_all(&mut vm)?;
    vm.run("ndctl disable-region all")?;
    vm.run("ndctl init-labels nmem0")?;
    vm.run("ndctl enable-region all")?;
    run.step("a namespace of each mode in one region");
    for (mode, size) in NAMESPACES {
        vm.run(&format!(
            "ndctl create-namespace --type=pmem --region=region0 --size={size}M {mode}"
        ))?;
    }
    let scan = any_scan(&mut vm)?;
    let found = modes(&scan)?;
    let expected = [
        ("raw", "unprepared"),
        ("fsdax", "unprepared"),
        ("sector", "unsupported"),
        ("devdax", "unsupported"),
        ("fsdax", "unprepared"),
    ];
    ensure!(found == expected, "scan says {scan}");
    run.step("those that can be are prepared, each for its own namespace");
    for device in devices(&scan)? {
        if device["state"] == "unprepared" {
            let node = device["device"].as_str().context("no name")?;
            vm.run(&format!("xen-pmem-provision init {node}"))?;
        } else {
            let node = device["device"].as_str().context("no name")?;
            vm.run_for(3, &format!("xen-pmem-provision init {node} --force"))
                .or_else(|_| vm.run_for(2, &format!("xen-pmem-provision init {node} --force")))?;
        }
    }
    let scan = any_scan(&mut vm)?;
    let expected = [
        ("raw", "prepared"),
        ("fsdax", "prepared"),
        ("sector", "unsupported"),
        ("devdax", "unsupported"),
        ("fsdax", "prepared"),
    ];
    ensure!(modes(&scan)? == expected, "scan says {scan}");
    ensure_nested(&scan)?;
    record(run, &mut vm, "labels-bare", &scan)?;
    run.power_off(vm)?;

    run.step("the same under Xen");
    let mut vm = run.boot_as(Config::new(Kind::Xen, vec![nvdimm()]))?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    load_all(&mut vm)?;
    let under_xen = any_scan(&mut vm)?;
    let expected = [
        ("raw", "prepared"),
        ("fsdax", "prepared"),
        ("sector", "unsupported"),
        ("devdax", "unsupported"),
        ("fsdax", "unsupported"),
    ];
    ensure!(modes(&under_xen)? == expected, "scan says {under_xen}");
    let last = devices(&under_xen)?.last().context("no device")?;
    ensure!(
        last["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("--map=mem")),
        "scan says {under_xen}"
    );
    for (before, now) in devices(&scan)?.iter().zip(devices(&under_xen)?).take(2) {
        for member in ["uuid", "namespace", "device_range", "reserved", "partitions"] {
            ensure!(before[member] == now[member], "{member} differs: {before} and {now}");
        }
    }
    record(run, &mut vm, "labels-xen", &under_xen)?;
    vm.run("xen-pmem-report apply --all")?;
    ensure_published(&mut vm, devices(&under_xen)?.iter().take(2))?;
    run.leave(vm)
}

/// Shows eight NVDIMMs of odd sizes: what the host has prepared is right at whatever address it lies.
pub(super) fn many(run: &Run<'_>) -> Result<()> {
    const SIZES: [u64; 8] = [128, 194, 130, 256, 66, 128, 322, 128];
    run.step("prepare eight images on the host");
    let prepared = SIZES
        .into_iter()
        .enumerate()
        .map(|(index, size)| run.prepared_nvdimm(&format!("nvdimm-{index}"), size * MIB))
        .collect::<Result<Vec<_>>>()?;
    let uuids: Vec<&str> = prepared.iter().map(|one| one.layout.uuid.as_str()).collect();
    let mut bases = Vec::new();
    for memory_mib in [2048, 3072] {
        run.step(&format!("boot Xen with {memory_mib} MiB of memory"));
        let nvdimms = prepared.iter().map(|one| Nvdimm::unlabelled(&one.file)).collect();
        let mut vm = run.boot_as(Config {
            memory_mib,
            ..Config::new(Kind::Xen, nvdimms)
        })?;
        vm.start_xenstored(&run.manifest.xen_version)?;
        load_all(&mut vm)?;
        for index in 0..SIZES.len() {
            vm.wait_for(&format!("/dev/pmem{index}"))?;
        }
        if memory_mib == 2048 {
            run.step("partitions that begin and end off 2 MiB");
            let scan = any_scan(&mut vm)?;
            let device = devices(&scan)?.get(3).context("there are not eight")?;
            let node = device["device"].as_str().context("no name")?;
            vm.run(&format!(
                "sgdisk --delete=1 --set-alignment=8 --new=1:40008:100007 --new=2:100008:200023 {node}"
            ))?;
        }
        let scan = any_scan(&mut vm)?;
        let found: Vec<&str> = devices(&scan)?
            .iter()
            .filter_map(|device| device["uuid"].as_str())
            .collect();
        ensure!(
            found == uuids,
            "in the order of addresses there should be {uuids:?}: {scan}"
        );
        ensure_nested(&scan)?;
        let odd = devices(&scan)?.get(3).context("there are not eight")?;
        let start = odd["device_range"]["base"].as_u64().context("no address")?;
        let partition = |number: u64, first: u64, last: u64| json!({ "number": number, "base": start + first * 512, "size": (last - first + 1) * 512 });
        ensure!(
            odd["partitions"] == json!([partition(1, 40_008, 100_007), partition(2, 100_008, 200_023)]),
            "scan says {odd}"
        );
        vm.run("xen-pmem-report apply --all")?;
        ensure_published(&mut vm, devices(&scan)?.iter())?;
        bases.push(devices(&scan)?.first().context("no device")?["namespace"]["base"].clone());
        if memory_mib == 2048 {
            record(run, &mut vm, "eight-xen", &scan)?;
        }
        run.power_off(vm)?;
    }
    ensure!(bases.first() != bases.get(1), "the address did not move: {bases:?}");
    Ok(())
}

/// Shows RAM that Linux treats as persistent memory because its command line says so.
pub(super) fn legacy(run: &Run<'_>) -> Result<()> {
    run.step("boot Linux with memory declared persistent on its command line");
    let mut vm = run.boot_as(Config {
        linux: vec!["memmap=256M!1G".to_owned()],
        ..Config::new(Kind::Bare, Vec::new())
    })?;
    load_all(&mut vm)?;
    vm.run("modprobe nd_e820")?;
    vm.wait_for("/dev/pmem0")?;
    vm.run("xen-pmem-provision init /dev/pmem0")?;
    let scan = any_scan(&mut vm)?;
    ensure!(
        modes(&scan)? == [("raw", "prepared")]
            && devices(&scan)?[0]["namespace"] == json!({ "base": 1u64 << 30, "size": 256 * MIB }),
        "scan says {scan}"
    );
    record(run, &mut vm, "legacy-bare", &scan)?;
    run.leave(vm)
}

fn load_all(vm: &mut Vm) -> Result<()> {
    vm.run("modprobe --all device_dax dax_pmem")?;
    vm.load_nvdimm_drivers()?;
    // Drivers bind one after the other; this waits for all.
    vm.script("for bus in /sys/bus/nd/devices/ndbus*; do [ ! -e $bus ] || cat $bus/wait_probe > /dev/null; done")?;
    Ok(())
}

/// Returns a scan with every exit code.
fn any_scan(vm: &mut Vm) -> Result<Value> {
    let output = vm.exec(&["xen-pmem-discover", "scan", "--json"], "")?;
    serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
}

fn devices(scan: &Value) -> Result<&Vec<Value>> {
    scan["devices"].as_array().with_context(|| format!("scan says {scan}"))
}

fn modes(scan: &Value) -> Result<Vec<(&str, &str)>> {
    devices(scan)?
        .iter()
        .map(|device| device["mode"].as_str().zip(device["state"].as_str()).context("no mode"))
        .collect()
}

/// Checks that ranges nest and do not overlap.
fn ensure_nested(scan: &Value) -> Result<()> {
    let mut end = 0;
    for device in devices(scan)? {
        let range = |name: &str| {
            let (base, size) = (device[name]["base"].as_u64(), device[name]["size"].as_u64());
            base.zip(size).map(|(base, size)| base..base + size)
        };
        let namespace = range("namespace").context("no namespace")?;
        ensure!(namespace.start >= end, "namespaces overlap: {scan}");
        end = namespace.end;
        let inside = |inner: std::ops::Range<u64>| namespace.start <= inner.start && inner.end <= namespace.end;
        for name in ["device_range", "reserved"] {
            ensure!(
                range(name).is_none_or(inside),
                "{name} is not within the namespace: {device}"
            );
        }
    }
    Ok(())
}

/// Checks that exactly these devices are published, each with its own range.
fn ensure_published<'d>(vm: &mut Vm, devices: impl Iterator<Item = &'d Value>) -> Result<()> {
    let nodes = xenstore::nodes(vm)?;
    let mut expected = Vec::new();
    for device in devices {
        let directory = format!("{}/{}", xenstore::ROOT, device["uuid"].as_str().context("no UUID")?);
        for (node, value) in [
            ("range-base", &device["namespace"]["base"]),
            ("range-size", &device["namespace"]["size"]),
            ("reserved-base", &device["reserved"]["base"]),
        ] {
            expected.push((format!("{directory}/{node}"), value.to_string()));
        }
    }
    expected.sort();
    let found: Vec<_> = nodes
        .into_iter()
        .filter(|(path, _)| expected.iter().any(|(it, _)| it == path) || path.ends_with("/range-base"))
        .collect();
    ensure!(found == expected, "XenStore has {found:?}, not {expected:?}");
    Ok(())
}
