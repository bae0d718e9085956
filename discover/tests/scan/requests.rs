//! Devices by name: the right ones are found, the wrong ones get a sentence that helps.

use crate::support::disk::{Disk, SIZE};
use crate::support::tree::Tree;
use crate::support::{OTHER, UUID, discover, scan};
use std::fs;

const BASE: u64 = 0x1_0000_0000;

fn two_devices() -> Tree {
    let tree = Tree::new();
    tree.region(0, BASE, SIZE).whole().raw("pmem0", &Disk::prepared(UUID));
    tree.region(1, BASE + SIZE, SIZE)
        .whole()
        .raw("pmem1", &Disk::prepared(OTHER));
    tree.other_disk("sda");
    tree
}

#[test]
fn a_device_is_found_by_node_by_name_and_by_namespace() {
    let tree = two_devices();
    let node = tree.node("pmem1");
    for asked in [node.to_str().unwrap(), "pmem1", "namespace1.0"] {
        let said = scan(&tree, &[asked, asked]);
        assert_eq!(said.device()["uuid"], OTHER.to_string(), "{asked}");
        assert_eq!(said.code, 0);
    }
}

#[test]
fn a_link_to_a_node_is_followed() {
    let tree = two_devices();
    let link = tree.sysfs().join("by-id");
    std::os::unix::fs::symlink(tree.node("pmem1"), &link).unwrap();
    assert_eq!(
        scan(&tree, &[link.to_str().unwrap()]).device()["uuid"],
        OTHER.to_string()
    );
}

#[test]
fn what_is_not_persistent_memory_is_refused_and_the_rest_is_listed() {
    let tree = two_devices();
    let file = tree.sysfs().join("file");
    fs::write(&file, "no device").unwrap();
    for (asked, code, words) in [
        ("pmem9", 1, "pmem9: there is no such device"),
        ("/nowhere/pmem0", 1, "/nowhere/pmem0: there is no such device"),
        ("sda", 2, "sda: is not persistent memory"),
        ("pmem0p1", 2, "pmem0p1: is a partition: give the whole disk"),
        (
            "/dev/null",
            2,
            "/dev/null: is not a device: for an image give --image FILE --base ADDRESS",
        ),
        (
            file.to_str().unwrap(),
            2,
            "is not a device: for an image give --image FILE --base ADDRESS",
        ),
    ] {
        let said = scan(&tree, &[asked, "pmem1"]);
        assert_eq!(said.code, code, "{asked}: {}", said.stderr);
        assert!(said.stderr.contains(words), "{asked}: {}", said.stderr);
        assert_eq!(said.device()["uuid"], OTHER.to_string(), "{asked}");
    }
}

#[test]
fn a_node_of_another_kind() {
    let tree = two_devices();
    let sysfs = tree.sysfs();
    // Without --dev the nodes are those of this machine.
    let said = discover(["scan".as_ref(), "--sysfs".as_ref(), sysfs.as_os_str(), "null".as_ref()]);
    assert_eq!(said.code, 2);
    assert!(
        said.stderr.contains("null: is not persistent memory"),
        "{}",
        said.stderr
    );
}

#[test]
fn what_stands_in_place_of_a_node_is_not_read() {
    let tree = Tree::new();
    tree.region(0, BASE, SIZE).whole().raw("null", &Disk::prepared(UUID));
    let sysfs = tree.sysfs();
    let said = discover([
        "scan".as_ref(),
        "--json".as_ref(),
        "--sysfs".as_ref(),
        sysfs.as_os_str(),
    ]);
    assert_eq!((said.code, said.devices().len()), (1, 0));
    assert!(
        said.stderr.contains("/dev/null: is not a block device"),
        "{}",
        said.stderr
    );
}

#[test]
fn text_for_people() {
    let tree = two_devices();
    let (sysfs, dev) = (tree.sysfs(), tree.dev());
    let with = |more: &[&str]| {
        let fixed = [
            "scan".as_ref(),
            "--sysfs".as_ref(),
            sysfs.as_os_str(),
            "--dev".as_ref(),
            dev.as_os_str(),
            "pmem0".as_ref(),
        ];
        discover(fixed.into_iter().chain(more.iter().map(AsRef::as_ref)))
    };
    let said = with(&[]);
    let expected = format!(
        "{}: prepared, raw, NUMA node 0\n  reservation   {UUID}\n  region        [0x100000000, 0x104000000) (64 MiB)\n  \
         namespace     [0x100000000, 0x104000000) (64 MiB)\n  device        [0x100000000, 0x104000000) (64 MiB)\n  \
         reserved      [0x100200000, 0x100800000) (6 MiB)\n  partition 1   [0x100800000, 0x103800000) (48 MiB)\n",
        tree.node("pmem0").display()
    );
    assert_eq!((said.code, said.stdout), (0, expected));
    assert_eq!(with(&["--quiet"]).stdout, "");
    assert_eq!(with(&["--quiet"]).code, 0);
}

#[test]
fn wrong_usage() {
    for args in [
        &["scan", "--image", "x"][..],
        &["scan", "--base", "0x1000"],
        &["scan", "--image", "x", "--base", "high"],
        &["scan", "--image", "x", "--base", "0", "pmem0"],
        &["look"],
        &["scan", "-q", "-v"],
        &[],
    ] {
        assert_eq!(discover(args).code, 2, "{args:?}");
    }
    let help = discover(["scan", "--help"]);
    assert_eq!(help.code, 0);
    assert!(help.stdout.contains("Exit codes:"));
    assert!(discover(["--version"]).stdout.starts_with("xen-pmem-discover 0."));
}
