//! Where each mode's bytes lie.

use crate::support::disk::{DATA, Disk, MIB, RESERVED, SIZE};
use crate::support::tree::{Tree, write};
use crate::support::{OTHER, UUID, scan};
use serde_json::json;

const BASE: u64 = 0x1_0000_0000;

#[test]
fn a_raw_namespace_starts_where_the_region_does() {
    let tree = Tree::new();
    tree.region(0, BASE, SIZE).whole().raw("pmem0", &Disk::prepared(UUID));
    let said = scan(&tree, &[]);
    let whole = json!({"base": BASE, "size": SIZE});
    assert_eq!(
        said.device(),
        json!({
            "device": tree.node("pmem0"),
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
fn an_fsdax_device_starts_where_its_pfn_device_says() {
    let tree = Tree::new();
    let (region_size, offset) = (256 * MIB, 2 * MIB);
    let region = tree.region(3, BASE, region_size);
    let (base, size) = (BASE + 128 * MIB, SIZE + offset);
    region
        .namespace(1, base, size)
        .fsdax("pmem3.1", offset, &Disk::prepared(UUID));
    // The seeds that libnvdimm keeps.
    region.namespace(2, 0, 0);
    let device = scan(&tree, &[]).device();
    assert_eq!(device["mode"], "fsdax");
    assert_eq!(device["region"], json!({"base": BASE, "size": region_size}));
    assert_eq!(device["namespace"], json!({"base": base, "size": size}));
    assert_eq!(device["device_range"], json!({"base": base + offset, "size": SIZE}));
    assert_eq!(
        device["reserved"],
        json!({"base": base + offset + RESERVED.0, "size": RESERVED.1})
    );
    assert_eq!(device["partitions"][0]["base"], base + offset + DATA.0);
    assert_eq!(
        (&device["state"], &device["reason"]),
        (&json!("prepared"), &json!(null))
    );
}

#[test]
fn modes_without_fixed_addresses_are_listed_with_the_reason() {
    let tree = Tree::new();
    let region = tree.region(0, BASE, 512 * MIB);
    region.namespace(0, BASE, SIZE).sector("pmem0s", &Disk::prepared(UUID));
    region.namespace(1, BASE + SIZE, SIZE).devdax("dax0.0");
    region.namespace(2, BASE + 2 * SIZE, SIZE);
    write(&region.namespace(3, BASE + 3 * SIZE, SIZE).claim("pfn"), "mode", "pmem");
    let said = scan(&tree, &[]);
    let found: Vec<_> = said
        .devices()
        .into_iter()
        .map(|device| {
            assert_eq!(device["state"], "unsupported");
            assert_eq!(
                (&device["uuid"], &device["device_range"], &device["reserved"]),
                (&json!(null), &json!(null), &json!(null))
            );
            (
                device["device"].clone(),
                device["mode"].clone(),
                device["reason"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    for ((device, mode, reason), (expected_device, expected_mode, words)) in found.iter().zip([
        (json!(tree.node("pmem0s")), "sector", "BTT"),
        (json!(tree.node("dax0.0")), "devdax", "no block device"),
        (json!("namespace0.2"), "raw", "no driver is bound"),
        (json!("namespace0.3"), "fsdax", "--map=mem"),
    ]) {
        assert_eq!((device, mode), (&expected_device, &json!(expected_mode)));
        assert!(reason.contains(words), "{reason}");
    }
    assert_eq!((found.len(), said.code), (4, 4));
}

#[test]
fn devices_come_in_the_order_of_their_addresses() {
    let tree = Tree::new();
    tree.region(0, BASE + SIZE, SIZE)
        .whole()
        .raw("pmem0", &Disk::prepared(UUID));
    tree.region(1, BASE, SIZE).whole().raw("pmem1", &Disk::prepared(OTHER));
    let order: Vec<_> = scan(&tree, &[])
        .devices()
        .into_iter()
        .map(|device| device["uuid"].clone())
        .collect();
    assert_eq!(order, [json!(OTHER), json!(UUID)]);
}

#[test]
fn a_thousand_namespaces() {
    let tree = Tree::new();
    let region = tree.region(0, BASE, 1000 * SIZE);
    for number in 0..1000 {
        region
            .namespace(number, BASE + u64::from(number) * SIZE, SIZE)
            .devdax("dax0.0");
    }
    assert_eq!(scan(&tree, &[]).devices().len(), 1000);
}

/// A region's type, and whether it is read-only, count in every mode of its namespaces.
#[test]
fn a_region_that_is_volatile_or_read_only_is_never_prepared() {
    for (attribute, content, words) in [
        ("devtype", "nd_volatile", Some("volatile memory")),
        ("devtype", "nd_pmem", None),
        ("read_only", "1", Some("read-only")),
        ("read_only", "0", None),
    ] {
        let tree = Tree::new();
        let region = tree.region(0, BASE, SIZE);
        let namespace = region.whole();
        namespace.raw("pmem0", &Disk::prepared(UUID));
        write(namespace.directory.parent().unwrap(), attribute, content);
        let said = scan(&tree, &[]);
        let device = said.device();
        match words {
            None => assert_eq!((&device["state"], said.code), (&json!("prepared"), 0)),
            Some(words) => {
                assert_eq!((&device["state"], said.code), (&json!("unsupported"), 4));
                assert_eq!((&device["uuid"], &device["reserved"]), (&json!(null), &json!(null)));
                assert!(device["reason"].as_str().unwrap().contains(words), "{device}");
                assert_eq!(device["device"], json!(tree.node("pmem0")));
            }
        }
    }
}
