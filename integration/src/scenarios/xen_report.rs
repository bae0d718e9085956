//! An NVDIMM that bare Linux prepared, under Xen: discovered, published, withdrawn.

use super::{NVDIMM_SIZE, Run, bare_provision};
use crate::image::MIB;
use crate::layout::Layout;
use crate::machine::Kind;
use crate::manifest::Hypervisor;
use crate::vm::Vm;
use crate::{image, xenstore};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;

/// What the host writes where the reserved area begins and ends.
const MARKERS: [&[u8; 16]; 2] = [b"<reserved begins", b"reserved ends>>>"];

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let (nvdimm, layout) = bare_provision::prepare(run)?;
    mark(&nvdimm, &layout)?;
    let mut vm = run.boot_with_pmem(Kind::Xen, &nvdimm)?;

    run.step("Dom0 finds the file that bare Linux wrote");
    vm.wait_for("/dev/pmem0p1")?;
    vm.run("mount -t ext4 -o ro /dev/pmem0p1 /mnt")?;
    let (name, content) = bare_provision::FILE;
    ensure!(
        vm.run(&format!("cat /mnt/{name}"))? == content,
        "the file has another content"
    );
    vm.run("umount /mnt")?;

    run.step("scan gives the physical addresses");
    let scan = vm.json(0, "xen-pmem-discover scan --json")?;
    let nodes = check_scan(&mut vm, &scan, &layout, run.hypervisor)?;

    run.step("a dry run publishes nothing");
    vm.run("xen-pmem-report apply --all --dry-run")?;
    ensure!(xenstore::nodes(&mut vm)?.is_empty(), "the dry run published something");

    run.step("apply publishes, and says what the hypervisor says");
    let applied = vm.run_for(0, "xen-pmem-report apply --all")?;
    let words = match run.hypervisor {
        Hypervisor::Stock => "hypercall: unsupported: hypervisor has no pmem support",
        _ => "hypercall: unchanged: it uses 6 MiB of the reserved area",
    };
    ensure!(
        format!("{}{}", applied.stdout, applied.stderr).contains(words),
        "apply says\n{}{}",
        applied.stdout,
        applied.stderr
    );
    xenstore::ensure_exactly(&mut vm, &nodes)?;

    run.step("a second apply changes nothing");
    let watch = xenstore::Watch::start(&mut vm)?;
    let again = vm.json(0, "xen-pmem-report apply --all --json")?;
    ensure!(again["schema"] == 1, "apply's document is {again}");
    watch.ensure_silent(&mut vm)?;
    xenstore::ensure_exactly(&mut vm, &nodes)?;

    run.step("status shows all sides");
    vm.run("xen-pmem-report status")?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    let reservation = &status["reservations"][0];
    let registered = run.hypervisor.knows_pmem();
    let hypervisor = if registered { "registered" } else { "unsupported" };
    ensure!(
        reservation["hypervisor"] == hypervisor
            && reservation["xenstore"] == "ready"
            && reservation["disagreement"].is_null()
            && reservation["used"] == if registered { json!(6 * MIB) } else { Value::Null },
        "status says {status}"
    );

    run.step("the hypercall alone");
    let unsupported = 6;
    let code = if registered { 0 } else { unsupported };
    vm.run_for(code, "xen-pmem-report apply --all --sink hypercall")?;

    run.step("what the hypervisor said is not forgotten when only XenStore is asked");
    vm.run("xen-pmem-report apply --all --sink xenstore")?;
    xenstore::ensure_exactly(&mut vm, &nodes)?;

    run.step("a document that contradicts what is published is refused");
    let forged = scan
        .to_string()
        .replace(&layout.uuid, "00000000-0000-4000-8000-000000000000");
    let argv = ["xen-pmem-report", "apply", "--from", "-", "--sink", "xenstore"];
    let refused = vm.exec(&argv, &forged)?;
    ensure!(
        refused.code == Some(3) && refused.stdout.contains("withdraw that one first"),
        "{refused:?}"
    );
    xenstore::ensure_exactly(&mut vm, &nodes)?;

    run.step("withdraw removes all");
    vm.run_for(4, "xen-pmem-report withdraw 00000000-0000-4000-8000-000000000000")?;
    xenstore::ensure_exactly(&mut vm, &nodes)?;
    vm.run(&format!("xen-pmem-report withdraw {}", layout.uuid))?;
    ensure!(
        xenstore::nodes(&mut vm)?.is_empty(),
        "withdraw left {:?}",
        xenstore::nodes(&mut vm)?
    );

    run.power_off(vm)?;
    ensure!(
        Layout::read(&nvdimm, 0, NVDIMM_SIZE)? == layout,
        "discovering or reporting changed the layout"
    );
    Ok(())
}

fn mark(nvdimm: &Path, layout: &Layout) -> Result<()> {
    let end = layout.reserved_base + layout.reserved_size - 16;
    for (offset, marker) in [layout.reserved_base, end].into_iter().zip(MARKERS) {
        image::write(nvdimm, offset, marker)?;
    }
    Ok(())
}

/// Checks a scan against sysfs and against what is at these addresses, and returns the nodes that a report must have.
fn check_scan(vm: &mut Vm, scan: &Value, layout: &Layout, hypervisor: Hypervisor) -> Result<Vec<(String, String)>> {
    let device = scan["devices"]
        .as_array()
        .and_then(|devices| devices.first())
        .context("scan shows no device")?;
    ensure!(
        scan["schema"] == 1 && scan["devices"].as_array().map(Vec::len) == Some(1),
        "scan says {scan}"
    );
    let region = "/sys/bus/nd/devices/region0";
    let base = vm.number(&format!("{region}/resource"))?;
    ensure!(
        vm.number(&format!("{region}/size"))? == NVDIMM_SIZE,
        "the region has another size"
    );
    // Raw, without labels: region, namespace and block device are the same bytes.
    let whole = json!({ "base": base, "size": NVDIMM_SIZE });
    let partitions: Vec<Value> = (1..)
        .zip(&layout.partitions)
        .map(|(number, (start, size))| json!({ "number": number, "base": base + start, "size": size }))
        .collect();
    let reserved = base + layout.reserved_base;
    for (key, expected) in [
        ("device", json!("/dev/pmem0")),
        ("state", json!("prepared")),
        ("uuid", json!(layout.uuid)),
        ("mode", json!("raw")),
        ("region", whole.clone()),
        ("namespace", whole.clone()),
        ("device_range", whole),
        ("reserved", json!({ "base": reserved, "size": layout.reserved_size })),
        ("partitions", json!(partitions)),
        ("reason", Value::Null),
    ] {
        ensure!(
            device.get(key) == Some(&expected),
            "scan has {:?} as {key}, not {expected}: {scan}",
            device.get(key)
        );
    }
    let mut qmp = vm.qmp()?;
    for (address, marker) in [reserved, reserved + layout.reserved_size - 16]
        .into_iter()
        .zip(MARKERS)
    {
        let found = qmp.physical_memory(address, marker.len())?;
        // With the first report the hypervisor writes its structures there, from the first frame to the last.
        ensure!(
            (found == marker) != hypervisor.knows_pmem(),
            "at {address:#x} there is {found:x?}; the host's marker was {marker:x?}"
        );
    }

    let mut nodes = vec![
        ("schema".to_owned(), "1".to_owned()),
        ("device".to_owned(), "/dev/pmem0".to_owned()),
        ("range-base".to_owned(), base.to_string()),
        ("range-size".to_owned(), NVDIMM_SIZE.to_string()),
        ("reserved-base".to_owned(), reserved.to_string()),
        ("reserved-size".to_owned(), layout.reserved_size.to_string()),
        // Without an SRAT Linux has one node.
        ("numa-node".to_owned(), "0".to_owned()),
        ("data".to_owned(), String::new()),
        ("state".to_owned(), "ready".to_owned()),
    ];
    if hypervisor.knows_pmem() {
        nodes.push(("hypervisor".to_owned(), "registered".to_owned()));
        // 512 MiB: two chunks of frame table, one of M2P.
        nodes.push(("frames-used".to_owned(), "1536".to_owned()));
    } else {
        nodes.push(("hypervisor".to_owned(), "unsupported".to_owned()));
    }
    for (number, (start, size)) in (1..).zip(&layout.partitions) {
        nodes.push((format!("data/{number}"), String::new()));
        nodes.push((format!("data/{number}/base"), (base + start).to_string()));
        nodes.push((format!("data/{number}/size"), size.to_string()));
    }
    let directory = format!("{}/{}", xenstore::ROOT, layout.uuid);
    let mut paths: Vec<_> = nodes
        .into_iter()
        .map(|(path, value)| (format!("{directory}/{path}"), value))
        .collect();
    paths.push((directory, String::new()));
    paths.push((xenstore::ROOT.to_owned(), String::new()));
    paths.sort();
    Ok(paths)
}
