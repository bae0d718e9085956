//! What belongs to somebody else, or to a later version, and what each writing command does with it.

use super::{Images, MIB, SIZE, open, provision, restore, sentence, shell};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use xen_pmem_format::superblock::{COPY_SIZE, SuperBlock, Which};
use xen_pmem_format::units::{Bytes, DeviceOffset};

fn page(file: &File, offset: u64) -> [u8; COPY_SIZE] {
    let mut page = [0; COPY_SIZE];
    file.read_exact_at(&mut page, offset).unwrap();
    page
}

/// Changes the page of a copy at its fixed place, and makes its checksum right again.
fn forge(file: &File, which: Which, change: impl Fn(&mut [u8; COPY_SIZE])) {
    let mut bytes = page(file, which.offset().0);
    change(&mut bytes);
    bytes[16..20].fill(0);
    let checksum = crc32c::crc32c(&bytes);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    file.write_all_at(&bytes, which.offset().0).unwrap();
}

/// Returns the end of the last partition of an image.
fn partitions_end(path: &Path) -> u64 {
    let shown = provision(&["show", "--json"], path).success();
    let document: serde_json::Value = serde_json::from_slice(&shown.get_output().stdout).unwrap();
    let partitions = document["partitions"].as_array().unwrap().iter();
    let end =
        |partition: &serde_json::Value| partition["start"].as_u64().unwrap() + partition["size"].as_u64().unwrap();
    partitions.map(end).max().unwrap()
}

#[test]
fn a_shortened_device_keeps_its_partitions() {
    let images = Images::new();
    const DATA: [u8; 16 << 10] = [0xd1; 16 << 10];
    const BACKUP_TABLE: i64 = 33 * 512;
    // What is left behind the end of the partition.
    for left in [19968, BACKUP_TABLE, BACKUP_TABLE - 512, 12288, 4096, 512, 0, -4096] {
        for (command, arguments) in [("remove", &[][..]), ("repair", &[]), ("resize", &["--reserve", "8M"])] {
            let path = images.path("image");
            // The partition ends as near to the end of the image as it can.
            let size = (58 * MIB + (20 << 10)).to_string();
            provision(&["init", "-q", "--size", &size], &path).success();
            let file = open(&path);
            let end = partitions_end(&path);
            let data_at = end - DATA.len() as u64;
            file.write_all_at(&DATA, data_at).unwrap();
            file.set_len(end.checked_add_signed(left).unwrap()).unwrap();
            let before = std::fs::read(&path).unwrap();
            let ended = provision(&[&[command][..], arguments].concat(), &path);
            let code = ended.get_output().status.code().unwrap();
            let now = std::fs::read(&path).unwrap();
            let data = usize::try_from(data_at).unwrap()..before.len().min(usize::try_from(end).unwrap());
            assert!(
                now[data.clone()] == before[data],
                "{command} with {left} bytes left wrote over the partition"
            );
            assert!(code == 0 || now == before, "{command} refused with {code} and wrote");
            let expected = match (command, left) {
                // The table is gone, or its usable blocks are.
                (_, ..3584) => code,
                ("remove", BACKUP_TABLE..) => 0,
                ("remove", _) => 3,
                _ => 5,
            };
            assert_eq!(code, expected, "{command} with {left} bytes left");
            assert!(
                left >= 3584 || [4, 5].contains(&code),
                "{command} with {left} bytes left"
            );
            match (command, code) {
                ("remove", 0) => {
                    let said = provision(&["verify"], &path).code(4);
                    let said = String::from_utf8(said.get_output().stdout.clone()).unwrap();
                    assert!(said.contains("there is no super block"), "{said}");
                }
                ("remove", 3) => {
                    // The advice.
                    let said = sentence(&ended, &path);
                    let (_, advice) = said.split_once("truncate -s ").unwrap();
                    let size = advice.split(' ').next().unwrap().parse().unwrap();
                    file.set_len(size).unwrap();
                    provision(&["remove"], &path).success();
                }
                _ => {}
            }
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Returns every command that writes, with a backup of the image for `restore`.
fn writing(backup: &str) -> [Vec<&str>; 6] {
    [
        vec!["init", "--force"],
        vec!["remove"],
        vec!["remove", "--force"],
        vec!["repair"],
        vec!["resize", "--reserve", "10M"],
        vec!["restore", backup, "--force"],
    ]
}

fn run(arguments: &[&str], path: &Path) -> assert_cmd::assert::Assert {
    match arguments {
        ["restore", rest @ ..] => restore(path, rest),
        arguments => provision(arguments, path),
    }
}

#[test]
fn what_only_a_later_version_may_change_is_left_alone() {
    let images = Images::new();
    type Change = (&'static str, fn(&mut [u8; COPY_SIZE]));
    let changes: [Change; 3] = [
        ("an unknown read-only feature", |page| page[33] = 1),
        ("an unknown incompatible feature", |page| page[40] = 1),
        ("another major version", |page| page[8] = 2),
    ];
    for (name, change) in changes {
        for which in Which::BOTH {
            let path = images.prepared(&format!("{name}, {which}"));
            let saved = images.path(&format!("{name}, {which}, saved"));
            let saved = saved.to_str().unwrap();
            let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
            backup.arg("backup").arg(&path).arg(saved).assert().success();
            let file = open(&path);
            forge(&file, which, change);
            // The other copy is older, so that both are read.
            forge(&file, which.other(), |page| page[48] = 1);
            forge(&file, which, |page| page[48] = 2);
            let before = std::fs::read(&path).unwrap();
            let mut advice = String::new();
            for arguments in writing(saved) {
                for dry_run in [&[][..], &["--dry-run"]] {
                    let arguments = [&arguments[..], dry_run].concat();
                    let said = sentence(&run(&arguments, &path).code(3), &path);
                    assert!(
                        said.contains(&format!("the {which} super block")) && said.contains("newer version"),
                        "{arguments:?}: {said}"
                    );
                    assert!(std::fs::read(&path).unwrap() == before, "{name}: {arguments:?} wrote");
                    advice = said;
                }
            }
            let (_, command) = advice.trim().split_once("overwrite it: ").unwrap();
            let command = command.replace(path.to_str().unwrap(), &format!("'{}'", path.display()));
            let done = shell(&command);
            assert!(done.status.success(), "{command}: {done:?}");
            provision(&["repair"], &path).success();
            provision(&["verify"], &path).success();
        }
    }
}

#[test]
fn what_is_not_known_of_a_later_minor_version_is_kept() {
    let images = Images::new();
    let path = images.path("image");
    provision(&["init", "-q", "--size", "64M", "--reserve", "16M"], &path).success();
    let file = open(&path);
    for which in Which::BOTH {
        forge(&file, which, |page| {
            page[10] = 7;
            page[12..14].copy_from_slice(&300u16.to_le_bytes());
            page[208..300].fill(0x5a);
        });
    }
    provision(&["verify"], &path).success();
    let good = std::fs::read(&path).unwrap();
    file.write_all_at(&[0; COPY_SIZE], Which::Primary.offset().0).unwrap();
    provision(&["repair"], &path).success();
    assert!(std::fs::read(&path).unwrap() == good, "repaired to the byte");
    provision(&["resize", "--reserve", "8M"], &path).success();
    for which in Which::BOTH {
        let page = page(&file, which.offset().0);
        assert_eq!(page[10], 7);
        assert_eq!(page[12..14], 300u16.to_le_bytes());
        assert_eq!(page[208..300], [0x5a; 92]);
        let (_, superblock) = SuperBlock::decode(&page, which.offset()).unwrap();
        assert_eq!((superblock.reserved.size(), superblock.sequence), (Bytes(8 * MIB), 2));
    }
}

#[test]
fn a_swap_area_on_the_whole_disk_is_given_up_only_by_force_and_saved() {
    let images = Images::new();
    for command in ["remove", "repair"] {
        let path = images.prepared(command);
        let made = Command::new("mkswap").arg("-f").arg(&path).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let before = std::fs::read(&path).unwrap();
        for arguments in [&[command][..], &[command, "--dry-run"]] {
            let said = sentence(&provision(arguments, &path).code(3), &path);
            assert!(said.contains("swap") && said.contains("--force"), "{said}");
            assert!(std::fs::read(&path).unwrap() == before, "{arguments:?} wrote");
        }
        provision(&[command, "-q", "--force"], &path).success();
        let state = if command == "remove" { 4 } else { 0 };
        provision(&["verify", "-q"], &path).code(state);
        let saved = images.only_backup_of(command);
        restore(&path, &[saved.to_str().unwrap(), "-q", "--force"]).success();
        assert!(
            std::fs::read(&path).unwrap() == before,
            "{command}: the swap area is back"
        );
    }
}

/// Copies the bytes of a fixed place to another offset.
fn put_copy(file: &File, which: Which, at: u64, sequence: u64) {
    let bytes = page(file, which.offset().0);
    let (_, superblock) = SuperBlock::decode(&bytes, which.offset()).unwrap();
    let there = DeviceOffset(at);
    let stray = SuperBlock { sequence, ..superblock };
    file.write_all_at(&stray.encode_at(which, there), at).unwrap();
}

#[test]
fn copies_at_unusual_places_are_taken_along() {
    let images = Images::new();
    for repaired in [false, true] {
        let path = images.prepared(if repaired { "repaired" } else { "removed" });
        let file = open(&path);
        let strays = [0x2_0000, 0x3_0000, 0x4_0000, 0xf_f000, 0x19_0000];
        for (at, which) in strays.iter().zip(Which::BOTH.into_iter().cycle()) {
            put_copy(&file, which, *at, 1);
        }
        if repaired {
            file.write_all_at(&[0; COPY_SIZE], Which::Primary.offset().0).unwrap();
            provision(&["repair"], &path).success();
            for at in strays {
                assert_eq!(page(&file, at), [0; COPY_SIZE], "{at:#x} after repair");
            }
        }
        provision(&["remove"], &path).success();
        for at in strays.into_iter().chain(Which::BOTH.map(|which| which.offset().0)) {
            assert_eq!(page(&file, at), [0; COPY_SIZE], "{at:#x} after remove");
        }
        provision(&["verify", "-q"], &path).code(4);
        provision(&["remove"], &path).code(4);
    }
    // None at its fixed place, and each kind where the other one belongs.
    for repaired in [false, true] {
        let path = images.prepared(if repaired { "crossed-repaired" } else { "crossed" });
        let file = open(&path);
        let whole = Which::BOTH.map(|which| page(&file, which.offset().0));
        let decoded = |page, which: Which| SuperBlock::decode(page, which.offset()).unwrap().1;
        let [content, backup] = [0, 1].map(|copy| decoded(&whole[copy], Which::BOTH[copy]));
        assert_eq!(content, backup);
        for which in Which::BOTH {
            let place = which.other().offset();
            file.write_all_at(&content.encode_at(which, place), place.0).unwrap();
        }
        provision(&["verify", "-q"], &path).code(5);
        if repaired {
            provision(&["repair"], &path).success();
            provision(&["verify", "-q"], &path).success();
            for which in Which::BOTH {
                let (_, superblock) = SuperBlock::decode(&page(&file, which.offset().0), which.offset()).unwrap();
                assert_eq!(superblock.uuid, content.uuid, "{which} after repair");
            }
        }
        provision(&["remove"], &path).success();
        for which in Which::BOTH {
            assert_eq!(page(&file, which.offset().0), [0; COPY_SIZE]);
        }
        provision(&["verify", "-q"], &path).code(4);
    }
}

#[test]
fn the_last_sequence_number_is_said_plainly() {
    let images = Images::new();
    let path = images.path("image");
    provision(&["init", "-q", "--size", "64M", "--reserve", "16M"], &path).success();
    let file = open(&path);
    for which in Which::BOTH {
        forge(&file, which, |page| page[48..56].fill(0xff));
    }
    let before = std::fs::read(&path).unwrap();
    let said = sentence(&provision(&["resize", "--reserve", "8M"], &path).code(3), &path);
    assert!(
        said.contains("18446744073709551615, the last that there is") && said.contains("init --force"),
        "{said}"
    );
    assert!(std::fs::read(&path).unwrap() == before);
    provision(&["init", "-q", "--force"], &path).success();
    provision(&["resize", "-q", "--reserve", "8M"], &path).success();
    // What does not count on needs no number.
    for which in Which::BOTH {
        forge(&file, which, |page| page[48..56].fill(0xff));
    }
    file.write_all_at(&[0; COPY_SIZE], Which::Backup.offset().0).unwrap();
    provision(&["repair", "-q"], &path).success();
    provision(&["remove", "-q"], &path).success();
}

#[test]
fn tables_that_differ_are_not_written_over_each_other() {
    let images = Images::new();
    let path = images.prepared("image");
    let file = open(&path);
    // Another tool has changed the backup table alone: it has a partition where the copies stand.
    let other = images.path("other");
    std::fs::copy(&path, &other).unwrap();
    let made = Command::new("sgdisk")
        .args(["--clear", "--new=1:2048:8191"])
        .arg(&other)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut backup = vec![0; 33 * 512];
    open(&other).read_exact_at(&mut backup, SIZE - 33 * 512).unwrap();
    file.write_all_at(&backup, SIZE - 33 * 512).unwrap();
    file.write_all_at(&[0; COPY_SIZE], Which::Backup.offset().0).unwrap();
    let before = std::fs::read(&path).unwrap();
    let said = sentence(&provision(&["repair"], &path).code(3), &path);
    assert!(said.contains("partition 1 of the backup partition table"), "{said}");
    assert!(std::fs::read(&path).unwrap() == before);
    // The advice: the primary table is written to both places.
    let (_, advice) = said.split_once("write it to both places: ").unwrap();
    let (command, _) = advice.split_once(';').unwrap();
    let done = shell(&format!("cd '{}' && {command}", images.0.path().display()));
    assert!(done.status.success(), "{command}: {done:?}");
    provision(&["repair"], &path).success();
    provision(&["verify"], &path).success();
}

#[test]
fn a_hybrid_mbr_stays() {
    let images = Images::new();
    let path = images.prepared("image");
    let saved = images.path("saved");
    let saved = saved.to_str().unwrap();
    let backup = |file: &str| {
        let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
        backup.arg("backup").arg(&path).arg(file).assert().success();
    };
    backup(saved);
    let made = Command::new("sgdisk").arg("--hybrid=1").arg(&path).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let file = open(&path);
    let mbr = page(&file, 0)[..512].to_vec();
    assert_ne!(mbr[462 + 4], 0, "another record");
    provision(&["verify"], &path).success();
    let hybrid = images.path("hybrid");
    backup(hybrid.to_str().unwrap());

    // A backup that would replace it needs force, one that has it does not.
    let said = sentence(&restore(&path, &[saved]).code(3), &path);
    assert!(said.contains("a hybrid MBR"), "{said}");
    restore(&path, &[hybrid.to_str().unwrap()]).success();
    assert_eq!(page(&file, 0)[..512], mbr);

    file.write_all_at(&[0; 33 * 512], SIZE - 33 * 512).unwrap();
    for command in ["repair", "remove"] {
        let done = provision(&[command], &path).success();
        let said = String::from_utf8(done.get_output().stdout.clone()).unwrap();
        assert!(said.contains("the hybrid MBR stays as it is"), "{said}");
        assert_eq!(page(&file, 0)[..512], mbr, "{command}");
    }
    restore(&path, &[saved, "-q", "--force"]).success();
    assert_eq!(page(&file, 0)[462 + 4], 0);
    let before = images.only_backup_of("image");
    assert!(std::fs::read_to_string(before).unwrap().contains("\"offset\": 0"));
}

#[test]
fn unknown_data_before_the_super_blocks_is_not_cleared_silently() {
    let images = Images::new();
    let path = images.prepared("image");
    let saved = images.path("saved");
    let saved = saved.to_str().unwrap();
    let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    backup.arg("backup").arg(&path).arg(saved).assert().success();
    let good = std::fs::read(&path).unwrap();
    let file = open(&path);
    file.write_all_at(&[0; 34 * 512], 0).unwrap();
    file.write_all_at(&[0; 33 * 512], SIZE - 33 * 512).unwrap();
    file.write_all_at(b"somebody's", 0x2_3456).unwrap();
    let before = std::fs::read(&path).unwrap();
    let said = sentence(&restore(&path, &[saved]).code(3), &path);
    assert!(
        said.contains("data of an unknown kind at offset 0x23456, where only zeros are free"),
        "{said}"
    );
    assert!(std::fs::read(&path).unwrap() == before);
    restore(&path, &[saved, "-q", "--force"]).success();
    assert!(std::fs::read(&path).unwrap() == good);
    let saved = images.only_backup_of("image");
    restore(&path, &[saved.to_str().unwrap(), "-q", "--force"]).success();
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn xen_gets_no_data_of_somebody_elses_silently() {
    let images = Images::new();
    let path = images.path("image");
    provision(&["init", "-q", "--size", "64M", "--reserve", "16M"], &path).success();
    let saved = images.path("saved");
    let saved = saved.to_str().unwrap();
    let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    backup.arg("backup").arg(&path).arg(saved).assert().success();
    provision(&["resize", "-q", "--reserve", "8M"], &path).success();
    let file = open(&path);
    let refused = |ended: assert_cmd::assert::Assert| {
        let said = sentence(&ended.code(3), &path);
        assert!(said.contains("where only zeros are free"), "{said}");
    };
    // The area grows from 10 MiB to 18 MiB.
    for at in [10 * MIB, 18 * MIB - 1] {
        file.write_all_at(b"x", at).unwrap();
        let before = std::fs::read(&path).unwrap();
        refused(provision(&["resize", "-q", "--reserve", "16M"], &path));
        refused(provision(&["resize", "-q", "--reserve", "16M", "--dry-run"], &path));
        assert!(std::fs::read(&path).unwrap() == before);
        file.write_all_at(b"\0", at).unwrap();
    }
    for at in [10 * MIB - 1, 18 * MIB] {
        file.write_all_at(b"x", at).unwrap();
    }
    provision(&["resize", "-q", "--reserve", "16M", "--dry-run"], &path).success();
    file.write_all_at(b"x", 12 * MIB).unwrap();
    provision(&["resize", "-q", "--reserve", "16M", "--force"], &path).success();
    provision(&["verify", "-q"], &path).success();

    // What a copy on the device says to be Xen's is: only the tables are lost.
    let wipe = |offset, size| file.write_all_at(&vec![0; size], offset).unwrap();
    wipe(0, 34 * 512);
    wipe(SIZE - 33 * 512, 33 * 512);
    restore(&path, &[saved, "-q", "--dry-run"]).success();
    // Without any copy the owner of the bytes is unknown.
    wipe(0, usize::try_from(2 * MIB).unwrap());
    let before = std::fs::read(&path).unwrap();
    refused(restore(&path, &[saved, "-q"]));
    assert!(std::fs::read(&path).unwrap() == before);
    restore(&path, &[saved, "-q", "--force"]).success();
    provision(&["verify", "-q"], &path).success();
}

#[test]
fn what_lies_where_a_cut_device_gets_its_backup_table_is_not_lost_silently() {
    let images = Images::new();
    for command in ["remove", "repair"] {
        let path = images.prepared(command);
        let file = open(&path);
        let end = SIZE - 4096;
        file.write_all_at(&[0; 33 * 512], SIZE - 33 * 512).unwrap();
        file.write_all_at(b"x", end - 33 * 512).unwrap();
        file.set_len(end).unwrap();
        let before = std::fs::read(&path).unwrap();
        let ended = provision(&[command, "-q"], &path);
        assert!(std::fs::read(&path).unwrap() == before, "{command}");
        ended.code(if command == "remove" { 3 } else { 5 });
        // With one byte less, nothing is in the way.
        file.write_all_at(b"xx\0", end - 33 * 512 - 2).unwrap();
        file.write_all_at(&[0; 32 * 512], end - 32 * 512).unwrap();
        if command == "remove" {
            provision(&[command, "-q"], &path).success();
        }
    }
}
