//! Trees that are not as they should be: what is missing is named, what vanished is passed over, the rest is still found.

use crate::support::disk::{Disk, SIZE};
use crate::support::tree::{Tree, write};
use crate::support::{OTHER, UUID, discover, scan};
use std::fs;
use std::path::Path;

const BASE: u64 = 0x1_0000_0000;

/// Returns a tree with a sound device and one whose namespace, an fsdax one, `change` spoils.
fn spoilt(change: impl FnOnce(&Path)) -> (Tree, crate::support::Said) {
    let tree = Tree::new();
    tree.region(0, BASE, SIZE).whole().raw("pmem0", &Disk::prepared(UUID));
    let region = tree.region(1, BASE + SIZE, SIZE + 4096);
    let namespace = region.whole();
    namespace.fsdax("pmem1", 4096, &Disk::prepared(OTHER));
    change(&namespace.directory);
    let said = scan(&tree, &[]);
    (tree, said)
}

#[test]
fn each_spoilt_attribute_is_named_and_the_other_device_is_found() {
    for (attribute, content, words) in [
        ("resource", None, "namespace1.0/resource is missing"),
        ("resource", Some(""), "namespace1.0/resource is missing"),
        ("size", None, "namespace1.0/size is missing"),
        (
            "size",
            Some("many"),
            "namespace1.0/size contains \"many\", which is not a number",
        ),
        ("size", Some("18446744073709551615"), "a size that fits"),
        ("size", Some("99999999999999999999"), "which is not a number"),
        ("numa_node", Some("north"), "numa_node contains \"north\""),
        (
            "holder",
            Some("../../region0"),
            "which is not the name of a pfn, dax or btt device",
        ),
        ("holder", Some("pfn1.9"), "pfn1.9 is missing"),
        ("../resource", None, "region1/resource is missing"),
        ("../pfn1.1/resource", None, "pfn1.1/resource is missing"),
        ("../pfn1.1/block/pmem1/size", None, "pmem1/size is missing"),
        (
            "../pfn1.1/block/pmem1/size",
            Some("18446744073709551615"),
            "a number of 512-byte sectors",
        ),
        (
            "../pfn1.1/block/pmem1/queue/logical_block_size",
            Some("520"),
            "512 or 4096",
        ),
    ] {
        let (_tree, said) = spoilt(|namespace| match content {
            None => fs::remove_file(namespace.join(attribute)).unwrap(),
            Some(content) => write(namespace, attribute, content),
        });
        assert_eq!(said.device()["uuid"], UUID.to_string(), "{attribute}");
        assert_eq!(said.code, 1, "{attribute}");
        assert!(
            said.stderr.starts_with("xen-pmem-discover: namespace1.0: "),
            "{}",
            said.stderr
        );
        assert!(
            said.stderr.contains(words) && said.stderr.lines().count() == 1,
            "{}",
            said.stderr
        );
    }
}

#[test]
fn what_vanishes_during_the_scan_is_passed_over() {
    for vanishing in ["", "../pfn1.1/block/pmem1", "../pfn1.1/block"] {
        let (_tree, said) = spoilt(|namespace| fs::remove_dir_all(namespace.join(vanishing)).unwrap());
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{vanishing}");
        assert_eq!(said.devices()[0]["uuid"], UUID.to_string());
    }
}

#[test]
fn a_node_that_is_missing_is_an_error() {
    let tree = Tree::new();
    tree.region(0, BASE, SIZE).whole().raw("pmem0", &Disk::prepared(UUID));
    fs::remove_file(tree.node("pmem0")).unwrap();
    let said = scan(&tree, &[]);
    assert_eq!((said.code, said.devices().len()), (1, 0));
    assert!(
        said.stderr.contains("pmem0: cannot be opened: No such file"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_machine_without_persistent_memory() {
    let tree = Tree::new();
    let said = scan(&tree, &[]);
    assert_eq!((said.code, said.devices().len(), said.stderr.as_str()), (4, 0, ""));
    fs::remove_dir_all(tree.sysfs().join("bus/nd")).unwrap();
    let sysfs = tree.sysfs();
    let said = discover(["scan".as_ref(), "--sysfs".as_ref(), sysfs.as_os_str()]);
    assert_eq!((said.code, said.stdout.as_str()), (4, "no persistent memory found\n"));
}

#[test]
fn something_that_is_no_sysfs() {
    let said = discover(["scan", "--sysfs", "/dev/null"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.contains("/dev/null is not a sysfs tree"), "{}", said.stderr);
}
