//! What a device's bytes, and where they lie, make of it.

use crate::support::disk::{Disk, MIB, SIZE};
use crate::support::tree::{Tree, write};
use crate::support::{OTHER, UUID, scan};
use serde_json::Value;

const BASE: u64 = 0x1_0000_0000;
const PRIMARY_SUPER_BLOCK: u64 = 512 << 10;
const BACKUP_SUPER_BLOCK: u64 = 1536 << 10;

/// Returns a raw namespace with this content, at `base`: the device found, and the exit code.
fn raw(base: u64, disk: &Disk) -> (Value, i32) {
    let tree = Tree::new();
    tree.region(0, base, SIZE).whole().raw("pmem0", disk);
    let said = scan(&tree, &[]);
    assert_eq!(said.stderr, "");
    (said.device(), said.code)
}

#[test]
fn each_content_has_its_state_and_exit_code() {
    let prepared = || Disk::prepared(UUID);
    for (what, base, disk, state, code, reason) in [
        ("prepared", BASE, prepared(), "prepared", 0, ""),
        ("blank", BASE, Disk::blank(), "unprepared", 4, "no GUID partition table"),
        (
            "no super block",
            BASE,
            Disk::partitioned(),
            "unprepared",
            4,
            "no super block",
        ),
        (
            "one copy",
            BASE,
            prepared().flipped(BACKUP_SUPER_BLOCK + 100),
            "degraded",
            0,
            "backup super block",
        ),
        (
            "no copy",
            BASE,
            prepared()
                .flipped(PRIMARY_SUPER_BLOCK + 100)
                .flipped(BACKUP_SUPER_BLOCK + 100),
            "damaged",
            5,
            "primary super block",
        ),
        ("one table", BASE, prepared().flipped(512 + 100), "prepared", 0, ""),
        (
            "one table's header",
            BASE,
            prepared().flipped(512 + 60),
            "degraded",
            0,
            "primary GPT",
        ),
        (
            "off 2 MiB in the device",
            BASE,
            Disk::prepared_at(UUID, 3 * MIB),
            "damaged",
            5,
            "not aligned to 2 MiB",
        ),
        (
            "off 2 MiB in the namespace",
            BASE + MIB,
            prepared(),
            "damaged",
            5,
            "not aligned to 2 MiB",
        ),
        (
            "both off, together right",
            BASE + MIB,
            Disk::prepared_at(UUID, 3 * MIB),
            "prepared",
            0,
            "",
        ),
        (
            "over a 1 GiB boundary: both tables need a chunk more",
            BASE - 32 * MIB,
            prepared(),
            "degraded",
            0,
            "8 MiB where it is now",
        ),
    ] {
        let (device, found) = raw(base, &disk);
        assert_eq!(
            (device["state"].as_str(), found),
            (Some(state), code),
            "{what}: {device}"
        );
        match device["reason"].as_str() {
            None => assert_eq!(reason, "", "{what}"),
            Some(given) => assert!(!reason.is_empty() && given.contains(reason), "{what}: {given}"),
        }
        assert_eq!(device["uuid"].is_null(), device["reserved"].is_null(), "{what}");
        assert_eq!(
            device["reserved"].is_null(),
            matches!(what, "blank" | "no super block" | "no copy"),
            "{what}"
        );
    }
}

#[test]
fn damage_wins_over_what_is_prepared_but_only_if_asked_for() {
    let tree = Tree::new();
    let damaged = Disk::prepared(OTHER)
        .flipped(PRIMARY_SUPER_BLOCK + 100)
        .flipped(BACKUP_SUPER_BLOCK + 100);
    tree.region(0, BASE, SIZE).whole().raw("pmem0", &damaged);
    tree.region(1, BASE + SIZE, SIZE)
        .whole()
        .raw("pmem1", &Disk::prepared(UUID));
    tree.region(2, BASE + 2 * SIZE, SIZE)
        .whole()
        .raw("pmem2", &Disk::blank());
    for (asked, code) in [
        (&[][..], 5),
        (&["pmem0"], 5),
        (&["pmem1"], 0),
        (&["pmem2"], 4),
        (&["pmem1", "pmem2"], 0),
        (&["pmem2", "pmem0"], 5),
    ] {
        let said = scan(&tree, asked);
        assert_eq!(said.code, code, "{asked:?}");
        assert_eq!(said.devices().len(), if asked.is_empty() { 3 } else { asked.len() });
    }
}

#[test]
fn ranges_that_do_not_nest_are_damage() {
    for (attribute, value, words) in [
        (
            "resource",
            format!("{:#x}", BASE - 2 * MIB),
            "does not lie within its region",
        ),
        ("size", (SIZE / 2).to_string(), "does not lie within its namespace"),
    ] {
        let tree = Tree::new();
        let region = tree.region(0, BASE, SIZE);
        let namespace = region.whole();
        namespace.raw("pmem0", &Disk::prepared(UUID));
        write(&namespace.directory, attribute, &value);
        let said = scan(&tree, &[]);
        let device = said.device();
        assert_eq!(
            (device["state"].as_str(), said.code),
            (Some("damaged"), 5),
            "{attribute}"
        );
        assert!(device["reason"].as_str().unwrap().contains(words), "{device}");
    }
}

#[test]
fn a_node_of_another_size_is_not_believed() {
    let tree = Tree::new();
    let region = tree.region(0, BASE, SIZE);
    let namespace = region.whole();
    namespace.raw("pmem0", &Disk::prepared(UUID));
    write(&namespace.directory.join("block/pmem0"), "size", "2048");
    let device = scan(&tree, &[]).device();
    assert_eq!(device["state"], "damaged");
    assert!(
        device["reason"].as_str().unwrap().contains("sysfs gives it 1 MiB"),
        "{device}"
    );
}
