//! A tree of sysfs whose attributes hold anything, or are missing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fs;
use xen_pmem_nvdimm::node::Nodes;
use xen_pmem_discover::scan::{Options, scan};
use xen_pmem_nvdimm::sysfs::SysfsRoot;

/// The attributes that a scan may read, of a region with a raw and a fsdax namespace.
const ATTRIBUTES: &[&str] = &[
    "region0/resource",
    "region0/size",
    "region0/numa_node",
    "region0/devtype",
    "region0/namespace0.0/resource",
    "region0/namespace0.0/size",
    "region0/namespace0.0/mode",
    "region0/namespace0.0/holder",
    "region0/namespace0.0/devtype",
    "region0/namespace0.0/block/pmem0/size",
    "region0/namespace0.0/block/pmem0/dev",
    "region0/namespace0.1/resource",
    "region0/namespace0.1/size",
    "region0/namespace0.1/holder",
    "region0/pfn0.1/resource",
    "region0/pfn0.1/size",
    "region0/pfn0.1/mode",
    "region0/pfn0.1/namespace",
    "region0/pfn0.1/block/pmem0.1/size",
    "region0/pfn0.1/block/pmem0.1/dev",
    "region0/badblocks",
];

fuzz_target!(|input: &[u8]| {
    let root = tempfile::tempdir().unwrap();
    let bus = root.path().join("devices/ndbus0");
    // Each attribute is the input up to the next 0xff; an empty one is missing.
    for (attribute, content) in ATTRIBUTES.iter().zip(input.split(|byte| *byte == 0xff)) {
        if !content.is_empty() {
            let path = bus.join(attribute);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }
    let links = root.path().join("bus/nd/devices");
    fs::create_dir_all(&links).unwrap();
    for name in [
        "region0",
        "region0/namespace0.0",
        "region0/namespace0.1",
        "region0/pfn0.1",
    ] {
        let target = bus.join(name);
        if target.exists() {
            std::os::unix::fs::symlink(&target, links.join(target.file_name().unwrap())).unwrap();
        }
    }
    let nodes = root.path().join("dev");
    fs::create_dir_all(&nodes).unwrap();
    let memory = root.path().join("mem");
    fs::File::create(&memory).unwrap().set_len(1 << 30).unwrap();
    // With and without physical memory, which holds nothing.
    for memory in [None, Some(memory)] {
        let options = Options {
            sysfs: SysfsRoot::new(root.path()),
            nodes: Nodes::Recorded(nodes.clone()),
            devices: Vec::new(),
            devices_only: false,
            memory,
        };
        // A tree that makes no sense is an error or a device with a reason, never a reservation: there are no bytes behind it.
        if let Ok(outcome) = scan(&options) {
            assert!(outcome.scan.devices.iter().all(|device| device.reserved.is_none()));
        }
    }
});
