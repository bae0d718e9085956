//! `wipe` and `fsdax`: what is written within a partition, and nowhere else.

use super::{Images, MIB, provision, sentence};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Where the partitions are that `two` makes: behind 8 MiB reserved at 2 MiB.
const PARTITIONS: [(u64, u64); 2] = [(10 * MIB, 16 * MIB), (26 * MIB, 32 * MIB)];

/// Returns an image with two partitions, full of bytes that are not zero.
fn two(images: &Images) -> PathBuf {
    let path = images.path("image");
    let arguments = [
        "init",
        "-q",
        "--size",
        "64M",
        "--partition",
        "16M:first",
        "--partition",
        "rest",
    ];
    provision(&arguments, &path).success();
    let file = File::options().write(true).open(&path).unwrap();
    let (first, _) = PARTITIONS[0];
    // What Xen has, too, up to the backup table.
    let full = vec![0xa5; (64 * MIB - 33 * 512 - first) as usize];
    file.write_all_at(&full, first).unwrap();
    path
}

fn zeros(path: &Path, offset: u64, size: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; size as usize], offset).unwrap();
}

/// Returns the first and the last byte that differ.
fn changed(before: &[u8], after: &[u8]) -> Option<(u64, u64)> {
    assert_eq!(before.len(), after.len());
    // Whole pages first: these are tens of MiB.
    let pages = (0..).zip(before.chunks(4096).zip(after.chunks(4096)));
    let mut differ = pages
        .filter(|(_, (before, after))| before != after)
        .flat_map(|(page, (before, after))| {
            let bytes = (page * 4096..).zip(before.iter().zip(after));
            bytes.filter(|(_, (before, after))| before != after).map(|(at, _)| at)
        });
    let first = differ.next()?;
    Some((first, differ.last().unwrap_or(first)))
}

#[test]
fn the_partitions_are_where_the_tests_take_them_to_be() {
    let images = Images::new();
    let shown = provision(&["show", "--json"], &two(&images)).success();
    let shown: Value = serde_json::from_slice(&shown.get_output().stdout).unwrap();
    for ((start, size), partition) in PARTITIONS.iter().zip(shown["partitions"].as_array().unwrap()) {
        assert_eq!(
            (partition["start"].as_u64(), partition["size"].as_u64()),
            (Some(*start), Some(*size))
        );
    }
}

#[test]
fn wiping_changes_the_partition_and_nothing_else() {
    let images = Images::new();
    let path = two(&images);
    for (number, (start, size)) in [("1", PARTITIONS[0]), ("2", PARTITIONS[1])] {
        let before = fs::read(&path).unwrap();
        let refused = provision(&["wipe", "--partition", number], &path).code(3);
        assert!(sentence(&refused, &path).contains("say --yes"));
        assert_eq!(fs::read(&path).unwrap(), before);
        let from = (4 * MIB).to_string();
        provision(&["wipe", "--yes", "--partition", number, "--from", &from], &path).success();
        let part = fs::read(&path).unwrap();
        assert_eq!(changed(&before, &part), Some((start + 4 * MIB, start + size - 1)));
        provision(&["wipe", "--yes", "--partition", number], &path).success();
        let after = fs::read(&path).unwrap();
        assert_eq!(changed(&before, &after), Some((start, start + size - 1)));
        let (start, end) = (start as usize, (start + size) as usize);
        assert!(after[start..end] == vec![0; end - start]);
    }
    provision(&["verify"], &path).success();
}

#[test]
fn what_is_not_a_partition_of_a_prepared_image_is_refused() {
    let images = Images::new();
    let path = two(&images);
    let blank = images.with("blank", 64 * MIB, &[]);
    let before = fs::read(&path).unwrap();
    for command in [&["wipe", "--yes"][..], &["fsdax"]] {
        let with = |arguments: &[&'static str]| [command, arguments].concat();
        for (target, arguments, code, words) in [
            (&path, &[][..], 2, "--partition"),
            (&path, &["--partition", "3"], 2, "no partition 3"),
            (&blank, &["--partition", "1"], 4, "not prepared"),
        ] {
            let refused = provision(&with(arguments), target).code(code);
            let said = sentence(&refused, target);
            assert!(said.contains(words), "{said}");
        }
    }
    for from in ["1", "16385K", "4095"] {
        provision(&["wipe", "--yes", "--partition", "1", "--from", from], &path).code(2);
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn fsdax_writes_an_info_block_over_zeros_only_and_once() {
    let images = Images::new();
    let path = two(&images);
    let (start, _) = PARTITIONS[1];
    let full = fs::read(&path).unwrap();
    let refused = provision(&["fsdax", "--partition", "2"], &path).code(3);
    assert!(sentence(&refused, &path).contains("is not blank"));
    assert_eq!(fs::read(&path).unwrap(), full);

    // The advice works. One byte within the hidden bytes leads to it; a byte behind them does not.
    zeros(&path, start, 2 * MIB - 1);
    provision(&["fsdax", "--partition", "2"], &path).code(3);
    provision(&["wipe", "--yes", "--partition", "2"], &path).success();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(&[1], start + 2 * MIB)
        .unwrap();
    let before = fs::read(&path).unwrap();
    provision(&["fsdax", "--partition", "2", "--dry-run"], &path).success();
    assert_eq!(fs::read(&path).unwrap(), before);
    provision(&["fsdax", "--partition", "2"], &path).success();
    let after = fs::read(&path).unwrap();
    let (first, last) = changed(&before, &after).unwrap();
    assert!(first == start + 4096 && last < start + 8192, "{first:#x} {last:#x}");
    assert!(after[first as usize..].starts_with(b"NVDIMM_PFN_INFO\0"));

    // What is there stays.
    let again = provision(&["fsdax", "--partition", "2", "--json"], &path).success();
    let again: Value = serde_json::from_slice(&again.get_output().stdout).unwrap();
    assert_eq!(
        (&again["written"], &again["data_offset"], &again["data_size"]),
        (&false.into(), &(2 * MIB).into(), &(30 * MIB).into())
    );
    assert_eq!(fs::read(&path).unwrap(), after);
}
