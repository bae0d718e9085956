//! What a scan costs: of a host with eight NVDIMMs as it was recorded, and of one with a thousand namespaces.

#![allow(missing_docs, reason = "criterion's macros make functions without them")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up has to end")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;
use xen_pmem_discover::scan::{Options, scan};
use xen_pmem_nvdimm::node::Nodes;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

/// The tree that was recorded of a Dom0 with eight NVDIMMs: a line for each file (F) or link (L), its path and content.
const EIGHT: &str = include_str!("../tests/recorded/eight-xen.tree");

/// Measures a scan of the recorded host, with blank images in place of its devices.
fn recorded(root: &Path) {
    let sys = root.join("sys");
    for line in EIGHT.lines() {
        let parts: Vec<&str> = line.splitn(3, '\t').collect();
        let path = sys.join(parts[1]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if parts[0] == "F" {
            fs::write(&path, format!("{}\n", parts[2])).unwrap();
        } else {
            symlink(sys.join(parts[2]), &path).unwrap();
        }
    }
    for disk in fs::read_dir(sys.join("class/block")).unwrap() {
        let disk = disk.unwrap();
        let sectors = fs::read_to_string(disk.path().join("size")).unwrap();
        let image = File::create(root.join("dev").join(disk.file_name())).unwrap();
        image.set_len(sectors.trim().parse::<u64>().unwrap() * 512).unwrap();
    }
}

/// Makes a region with `count` namespaces in mode devdax.
fn synthetic(root: &Path, count: u64) {
    const SIZE: u64 = 64 << 20;
    let bus = root.join("sys/devices/ndbus0");
    let list = root.join("sys/bus/nd/devices");
    fs::create_dir_all(&list).unwrap();
    let device = |path: &Path, attributes: &[(&str, String)]| {
        fs::create_dir_all(path).unwrap();
        for (name, content) in attributes {
            fs::write(path.join(name), format!("{content}\n")).unwrap();
        }
        symlink(path, list.join(path.file_name().unwrap())).unwrap();
    };
    let region = bus.join("region0");
    let base = 4 << 30;
    device(
        &region,
        &[("resource", format!("{base:#x}")), ("size", (count * SIZE).to_string())],
    );
    for number in 0..count {
        let resource = ("resource", format!("{:#x}", base + number * SIZE));
        let dax = format!("dax0.{}", number + 1);
        device(
            &region.join(format!("namespace0.{number}")),
            &[resource, ("size", SIZE.to_string()), ("holder", dax.clone())],
        );
        device(&region.join(dax), &[("namespace", format!("namespace0.{number}"))]);
    }
}

fn options(root: &Path) -> Options {
    Options {
        sysfs: SysfsRoot::new(root.join("sys")),
        nodes: Nodes::Recorded(root.join("dev")),
        ..Options::default()
    }
}

fn scanning(criterion: &mut Criterion) {
    let make = || {
        let root = TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        root
    };
    let root = make();
    recorded(root.path());
    let eight = options(root.path());
    assert_eq!(scan(&eight).unwrap().scan.devices.len(), 8);
    criterion.bench_function("scan a recorded host with 8 NVDIMMs", |bencher| {
        bencher.iter(|| scan(&eight).unwrap());
    });
    let root = make();
    synthetic(root.path(), 1000);
    let thousand = options(root.path());
    assert_eq!(scan(&thousand).unwrap().scan.devices.len(), 1000);
    criterion.bench_function("scan a host with 1,000 namespaces", |bencher| {
        bencher.iter(|| scan(&thousand).unwrap());
    });
}

criterion_group!(benches, scanning);
criterion_main!(benches);
