//! Namespaces that no driver is bound to, read through physical memory.

use crate::support::disk::{DATA, Disk, MIB, RESERVED, SIZE};
use crate::support::tree::{Tree, write};
use crate::support::{OTHER, Said, UUID, discover};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
use xen_pmem_nvdimm::nfit::{State, Table};

const BASE: u64 = 0x1_0000_0000;

/// A tree and physical memory, a file with holes.
struct Host {
    tree: Tree,
    memory: tempfile::NamedTempFile,
}

impl Host {
    fn new() -> Self {
        let memory = tempfile::NamedTempFile::new().unwrap();
        memory.as_file().set_len(2 * BASE).unwrap();
        Self {
            tree: Tree::new(),
            memory,
        }
    }

    fn put(&self, address: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(self.memory.path()).unwrap();
        file.write_all_at(bytes, address).unwrap();
    }

    fn scan(&self, more: &[&str]) -> Said {
        let (sysfs, dev) = (self.tree.sysfs(), self.tree.dev());
        let fixed = [
            "scan".as_ref(),
            "--json".as_ref(),
            "--sysfs".as_ref(),
            sysfs.as_os_str(),
            "--dev".as_ref(),
            dev.as_os_str(),
        ];
        discover(fixed.into_iter().chain(more.iter().map(|word| word.as_ref())))
    }

    fn early(&self) -> Said {
        let memory = self.memory.path().to_str().unwrap().to_owned();
        self.scan(&["--early", "--mem", &memory])
    }

    /// Firmware's table with one range.
    fn firmware(&self, size: u64, state: u16) {
        let range = PhysRange::new(PhysAddr(BASE), Bytes(size)).unwrap();
        self.table(&Table::default().range(1, range).mapping(1, 1, State(state)));
    }

    fn table(&self, table: &Table) {
        let folder = self.tree.sysfs().join("firmware/acpi/tables");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("NFIT"), table.to_bytes().unwrap()).unwrap();
    }
}

#[test]
fn a_raw_namespace_is_judged_by_its_bytes() {
    let host = Host::new();
    host.tree.region(0, BASE, SIZE).whole();
    host.put(BASE, &Disk::prepared(UUID).bytes);
    let late = host.scan(&[]).device();
    assert_eq!(late["state"], "unsupported");
    let said = host.early();
    let whole = json!({"base": BASE, "size": SIZE});
    assert_eq!(
        said.device(),
        json!({
            "device": "namespace0.0",
            "state": "prepared",
            "uuid": UUID,
            "mode": "raw",
            "region": whole,
            "namespace": whole,
            "device_range": whole,
            "numa_node": 0,
            "reserved": {"base": BASE + RESERVED.0, "size": RESERVED.1},
            "partitions": [{"number": 1, "base": BASE + DATA.0, "size": DATA.1}],
            "reason": null,
        })
    );
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
}

#[test]
fn an_fsdax_namespace_starts_where_its_info_block_says() {
    let host = Host::new();
    let size = SIZE + 2 * MIB;
    let region = host.tree.region(0, BASE, size);
    let namespace = region.whole();
    write(&namespace.directory, "sector_size", "[512] 4096");
    host.put(BASE + 4096, &info_block(2 * MIB, 0));
    host.put(BASE + 2 * MIB, &Disk::prepared(UUID).bytes);
    let device = host.early().device();
    assert_eq!(
        (&device["mode"], &device["state"]),
        (&json!("fsdax"), &json!("prepared"))
    );
    assert_eq!(device["device_range"], json!({"base": BASE + 2 * MIB, "size": SIZE}));
    assert_eq!(device["reserved"]["base"], BASE + 2 * MIB + RESERVED.0);

    // The info block is of a namespace with labels, this one has none: the driver will not believe it.
    host.put(BASE + 4096, &info_block(2 * MIB, 9));
    assert_eq!(host.early().device()["mode"], "raw");
    write(&namespace.directory, "uuid", "09000000-0000-0000-0000-000000000000");
    assert_eq!(host.early().device()["mode"], "fsdax");
    write(&namespace.directory, "force_raw", "1");
    assert_eq!(host.early().device()["mode"], "raw");
}

#[test]
fn media_errors_are_not_touched() {
    let host = Host::new();
    let region = host.tree.region(0, BASE, SIZE);
    let namespace = region.whole();
    host.put(BASE, &Disk::prepared(UUID).bytes);
    let region = namespace.directory.parent().unwrap().to_owned();
    // The primary copy of the super block.
    write(&region, "badblocks", "1024 8");
    let device = host.early().device();
    assert_eq!(device["state"], "degraded", "{device}");
    assert!(device["reason"].as_str().unwrap().contains("error"), "{device}");
    write(&region, "badblocks", "what?");
    let said = host.early();
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("badblocks"), "{}", said.stderr);
}

#[test]
fn without_libnvdimm_the_firmware_is_asked() {
    let host = Host::new();
    host.put(BASE, &Disk::prepared(UUID).bytes);
    assert_eq!(
        host.early().devices(),
        Vec::<serde_json::Value>::new(),
        "there is no NFIT"
    );
    host.firmware(SIZE, 0);
    let device = host.early().device();
    assert_eq!(
        (&device["device"], &device["state"], &device["uuid"]),
        (&json!("NFIT range 1"), &json!("prepared"), &json!(UUID))
    );
    host.firmware(SIZE, 1 << 3);
    let device = host.early().device();
    assert_eq!(device["state"], "unsupported");
    assert!(device["reason"].as_str().unwrap().contains("not armed"));
    // Events of the past do not keep Xen away; the scan says which entries of the table it leaves out.
    let range = PhysRange::new(PhysAddr(BASE), Bytes(SIZE)).unwrap();
    let past = Table::default().range(1, range).mapping(1, 1, State(0x21));
    host.table(&past.structure(&[0; 4]));
    let said = host.early();
    assert_eq!(said.device()["state"], "prepared");
    for words in ["may have lost data", "the 4 bytes from there on are not read"] {
        assert!(said.stderr.contains(words), "{}", said.stderr);
    }
    // A namespace with labels is a part of the range: what is in it does not fit the range.
    host.firmware(2 * SIZE, 0);
    assert_ne!(host.early().device()["state"], "prepared");
    fs::write(host.tree.sysfs().join("firmware/acpi/tables/NFIT"), b"NFIT").unwrap();
    let said = host.early();
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("NFIT"), "{}", said.stderr);
    // As soon as libnvdimm has a region, its answer counts, even if the region has no namespace.
    host.firmware(SIZE, 0);
    host.tree.region(0, BASE, SIZE);
    assert_eq!(host.early().devices(), Vec::<serde_json::Value>::new());
}

#[test]
fn bound_and_unbound_namespaces_side_by_side() {
    let host = Host::new();
    let (first, second) = (host.tree.region(0, BASE, SIZE), host.tree.region(1, BASE + SIZE, SIZE));
    first.whole().raw("pmem0", &Disk::prepared(UUID));
    second.whole();
    host.put(BASE + SIZE, &Disk::prepared(OTHER).bytes);
    let devices = host.early().devices();
    let uuids: Vec<_> = devices.iter().map(|device| &device["uuid"]).collect();
    assert_eq!(uuids, [&json!(UUID), &json!(OTHER)]);
}

#[test]
fn memory_that_cannot_be_read() {
    let host = Host::new();
    host.tree.region(0, BASE, SIZE).whole();
    let said = host.scan(&["--early", "--mem", "/nonexistent"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("/nonexistent cannot be opened"), "{}", said.stderr);
    // Nothing is there to be read.
    let short = tempfile::NamedTempFile::new().unwrap();
    let said = host.scan(&["--early", "--mem", short.path().to_str().unwrap()]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("namespace0.0"), "{}", said.stderr);
}

/// Returns an info block of an fsdax device that starts at `offset`, of the namespace whose UUID begins with `parent`.
fn info_block(offset: u64, parent: u8) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..16].copy_from_slice(b"NVDIMM_PFN_INFO\0");
    bytes[32] = parent;
    (bytes[52], bytes[54], bytes[72]) = (1, 4, 1);
    bytes[56..64].copy_from_slice(&offset.to_le_bytes());
    let (mut low, mut high) = (0u32, 0u64);
    for word in bytes.chunks(4) {
        low = low.wrapping_add(u32::from_le_bytes(word.try_into().unwrap()));
        high = high.wrapping_add(u64::from(low));
    }
    bytes[4088..].copy_from_slice(&(high << 32 | u64::from(low)).to_le_bytes());
    bytes
}
