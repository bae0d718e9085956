//! What is printed.

use super::{Images, MIB, provision};
use serde_json::{Value, json};
use std::path::Path;

fn document(arguments: &[&str], target: &Path, code: i32) -> Value {
    let assert = provision(arguments, target).code(code);
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

const GUIDS: [&str; 4] = [
    "--uuid",
    "11111111-2222-4333-8444-555555555555",
    "--disk-guid",
    "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
];

#[test]
fn show_prints_the_documented_fields() {
    let images = Images::new();
    let path = images.path("image");
    let arguments = [
        "init",
        "--json",
        "--size",
        "1G",
        "--partition",
        "100M:first",
        "--partition",
        "rest:second:E6D6D379-F507-44C2-A23C-238F2A3DF928",
    ];
    let made = document(&[&arguments[..], &GUIDS].concat(), &path, 0);
    let shown = document(&["show", "--json"], &path, 0);
    assert_eq!(made, shown);
    // 1 GiB at an unknown address: up to five groups of 256 MiB and two of 1 GiB, 2 MiB for each.
    let reserved = 14 * MIB;
    let first = 2 * MIB + reserved;
    let second = first + 100 * MIB;
    // What is left is 908 MiB, less the backup table.
    let rest = 896 * MIB;
    let expected = json!({
        "schema": 1,
        "target": path.display().to_string(),
        "device_size": 1 << 30,
        "state": "prepared",
        "reason": null,
        "disk_guid": GUIDS[3],
        "superblock": {"uuid": GUIDS[1], "sequence": 1, "copies": [
            {"which": "primary", "offset": 524_288, "status": "valid"},
            {"which": "backup", "offset": 1_572_864, "status": "valid"},
        ]},
        "reserved": {"base": 2 * MIB, "size": reserved},
        "partitions": [
            {"number": 1, "start": first, "size": 100 * MIB, "name": "first", "type_guid": "0fc63daf-8483-4772-8e79-3d69d8477de4", "guest": null},
            {"number": 2, "start": second, "size": rest, "name": "second", "type_guid": "e6d6d379-f507-44c2-a23c-238f2a3df928", "guest": null},
        ],
        "notes": ["partition 1 suits no guest that wants fsdax (DAX): its size of 104857600 bytes is not a multiple of 16 MiB"],
    });
    assert_eq!(shown, expected);
}

#[test]
fn what_is_rounded_left_over_or_unsuited_to_fsdax_is_said() {
    let images = Images::new();
    for (number, size, partitions, expected) in [
        (
            1,
            "64M",
            &["rest"][..],
            &["5.98 MiB at 0x3a00000 stay unused: the size of partition 1 is rounded down"][..],
        ),
        // Four superpages are left, less the backup table.
        (
            2,
            "16M",
            &["rest"],
            &[
                "1.98 MiB at 0xe00000 stay unused",
                "partition 1 suits no guest that wants fsdax",
            ],
        ),
        (
            3,
            "64M",
            &["16M", "16386K"],
            &[
                "partition 2 has 18 MiB: the 16779264 bytes asked for are not a multiple of 2 MiB",
                "partition 2 suits no guest that wants fsdax (DAX): its size of 18874368 bytes is not a multiple of 16 MiB",
            ],
        ),
        (4, "64M", &["16M", "32M"], &[]),
    ] {
        let path = images.path(&format!("image{number}"));
        let partitions = partitions.iter().flat_map(|partition| ["--partition", *partition]);
        let arguments: Vec<_> = ["init", "--size", size].into_iter().chain(partitions).collect();
        let said = |arguments: &[&str]| {
            let assert = provision(arguments, &path).success();
            let text = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
            let notes = text.lines().filter_map(|line| line.trim().strip_prefix("note: "));
            notes.map(str::to_owned).collect::<Vec<_>>()
        };
        let dry = said(&[&arguments[..], &["--dry-run"]].concat());
        let notes = said(&arguments);
        assert_eq!(dry, notes);
        assert_eq!(notes.len(), expected.len(), "{notes:?}");
        for (note, expected) in notes.iter().zip(expected) {
            assert!(note.starts_with(expected), "{note}");
        }
        // What stays so is noted by `verify`, too, and changes no state.
        let unsuited: Vec<_> = notes.into_iter().filter(|note| note.contains("fsdax (DAX)")).collect();
        assert_eq!(said(&["verify"]), unsuited);
        assert_eq!(said(&["show"]), unsuited);
    }
}

#[test]
fn a_document_is_printed_whatever_the_state() {
    let images = Images::new();
    let blank = images.with("blank", 64 * MIB, &[]);
    let shown = document(&["show", "--json"], &blank, 4);
    for (key, value) in [
        ("state", json!("unprepared")),
        ("disk_guid", Value::Null),
        ("superblock", Value::Null),
        ("reserved", Value::Null),
        ("partitions", json!([])),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }

    let absent = document(&["show", "--json"], &images.path("absent"), 1);
    assert_eq!(
        (&absent["schema"], &absent["state"], &absent["device_size"]),
        (&json!(1), &Value::Null, &Value::Null)
    );
    assert!(absent["reason"].as_str().unwrap().contains("No such file"), "{absent}");

    let path = images.prepared("image");
    let damage = |offset: u64| {
        use std::os::unix::fs::FileExt as _;
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(&[0xff; 8], offset + 100)
            .unwrap();
    };
    damage(0x8_0000);
    let shown = document(&["show", "--json"], &path, 0);
    assert_eq!(
        (&shown["state"], &shown["superblock"]["copies"][0]["status"]),
        (&json!("degraded"), &json!("corrupt"))
    );
    document(&["verify", "--json"], &path, 5);
    damage(0x18_0000);
    let shown = document(&["show", "--json"], &path, 5);
    assert_eq!(shown["state"], "damaged");
    assert_eq!(shown["superblock"]["uuid"], Value::Null);
    assert_eq!(shown["reserved"], Value::Null);
}

#[test]
fn a_dry_run_says_what_would_be_written_and_why() {
    let images = Images::new();
    let path = images.with("image", 512 * MIB, &[]);
    let base = ["init", "--dry-run", "--base", "0x100000000"];
    let text = String::from_utf8(provision(&base, &path).success().get_output().stdout.clone()).unwrap();
    for words in [
        "0x100200000",
        "reserved for Xen",
        "2 x 2 MiB, one for each 256 MiB touched",
        "1 x 2 MiB, one for each 1 GiB touched",
        "6 MiB  in all",
        "primary GPT: its signature",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    let plan = document(&[&base[..], &["--json"]].concat(), &path, 0);
    assert_eq!(plan["reserved"], json!({"base": 2 * MIB, "size": 6 * MIB}));
    assert_eq!(
        plan["writes"].as_array().unwrap().last().unwrap(),
        &json!({"offset": 512, "size": 8, "what": "primary GPT: its signature"})
    );
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn partitions_and_their_content_survive_removal() {
    let images = Images::new();
    let path = images.prepared("image");
    let before = document(&["show", "--json"], &path, 0);
    let start = before["partitions"][0]["start"].as_u64().unwrap();
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"user data", start).unwrap();
    provision(&["remove"], &path).success();
    let after = document(&["show", "--json"], &path, 4);
    assert_eq!(after["partitions"], before["partitions"]);
    assert_eq!(after["superblock"], Value::Null);
    let mut bytes = [0; 9];
    file.read_exact_at(&mut bytes, start).unwrap();
    assert_eq!(&bytes, b"user data");
    for header in [512, 64 * MIB - 512] {
        let mut first_usable = [0; 8];
        file.read_exact_at(&mut first_usable, header + 40).unwrap();
        assert_eq!(u64::from_le_bytes(first_usable), 34);
    }
}
