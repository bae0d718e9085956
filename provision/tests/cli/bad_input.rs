//! Each kind of bad input gets one clear sentence and its exit code, and leaves every byte as it was.

use super::{Images, MIB, provision, restore, sentence};
use std::os::unix::fs::PermissionsExt as _;

/// Returns an MBR partition table with one partition.
pub(super) fn mbr() -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[446..462].copy_from_slice(&[0, 0, 2, 0, 0x83, 0xff, 0xff, 0xff, 0, 8, 0, 0, 0, 0, 8, 0]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[test]
fn what_is_left_of_us_is_not_overwritten() {
    let images = Images::new();
    type Case<'c> = (&'c str, u64, &'c [(u64, &'c [u8])], &'c str);
    let cases: &[Case<'_>] = &[
        ("torn", 64 * MIB, &[(512, b"EFI PART")], "a damaged GPT at offset 0x200"),
        (
            "torn at the end",
            64 * MIB,
            &[(64 * MIB - 512, b"EFI PART")],
            "a damaged GPT at offset 0x3fffe00",
        ),
        (
            "super",
            64 * MIB,
            &[(0x8_0000, b"XenPmemP")],
            "a primary super block of xen-pmem at offset 0x80000",
        ),
    ];
    for (name, size, contents, words) in cases {
        let path = images.with(name, *size, contents);
        let before = std::fs::read(&path).unwrap();
        for arguments in [&["init"][..], &["init", "--dry-run"]] {
            let refused = provision(arguments, &path).code(3);
            let said = sentence(&refused, &path);
            assert!(said.contains(words) && said.contains("--force"), "{name}: {said}");
        }
        assert!(std::fs::read(&path).unwrap() == before, "{name} was changed");
        provision(&["init", "-q", "--force"], &path).success();
        provision(&["verify", "-q"], &path).success();
        // What was overwritten was saved beside it, and can be put back.
        let saved = images.only_backup_of(name);
        let saved = saved.to_str().unwrap();
        restore(&path, &[saved, "-q", "--force"]).success();
        assert!(std::fs::read(&path).unwrap() == before, "{name} is not as it was");
    }
}

#[test]
fn what_cannot_be_laid_out_is_refused() {
    let images = Images::new();
    type Case<'c> = (&'c [&'c str], u64, i32, &'c str);
    let cases: &[Case<'_>] = &[
        (&["init"], 0, 3, "too small"),
        (&["init"], 4096, 3, "too small"),
        (&["init"], 8 * MIB, 3, "too small"),
        (&["init"], 64 * MIB + 512, 2, "multiple of 4 KiB"),
        (&["init", "--reserve", "2M"], 64 * MIB, 2, "try --reserve 8M"),
        (&["init", "--reserve", "64M"], 64 * MIB, 3, "too small"),
        (&["init", "--reserve", "16777215T"], 64 * MIB, 3, "too small"),
        (&["init", "--partition", "60M"], 64 * MIB, 3, "too small"),
        (
            &["init", "--partition", "rest", "--partition", "1M"],
            64 * MIB,
            2,
            "must be the last one",
        ),
        (&["init", "--partition", "0"], 64 * MIB, 2, "partition 1 would be empty"),
        (
            &["init", "--base", "0x100000200"],
            64 * MIB,
            2,
            "not a multiple of 4 KiB",
        ),
        (
            &["init", "--base", "0xffffffffffff0000"],
            64 * MIB,
            2,
            "beyond the address space",
        ),
        (
            &["init", "--uuid", "00000000-0000-0000-0000-000000000000"],
            64 * MIB,
            2,
            "nil UUID",
        ),
        (&["remove"], 64 * MIB, 4, "no super block to remove"),
        (&["remove", "--dry-run"], 64 * MIB, 4, "no super block to remove"),
    ];
    for (index, (arguments, size, code, words)) in cases.iter().enumerate() {
        let path = images.with(&index.to_string(), *size, &[]);
        let before = std::fs::read(&path).unwrap();
        let refused = provision(arguments, &path).code(*code);
        let said = sentence(&refused, &path);
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(std::fs::read(&path).unwrap() == before, "{arguments:?} changed it");
    }
}

#[test]
fn what_is_no_target_is_named() {
    let images = Images::new();
    let folder = images.0.path().to_owned();
    for command in ["init", "show", "verify", "remove"] {
        let said = sentence(&provision(&[command], &folder).code(2), &folder);
        assert!(said.contains("is a directory"), "{said}");
        let null = std::path::Path::new("/dev/null");
        let said = sentence(&provision(&[command], null).code(2), null);
        assert!(said.contains("neither a block device nor an image file"), "{said}");
        let absent = images.path("absent");
        let said = sentence(&provision(&[command], &absent).code(1), &absent);
        assert!(said.contains("No such file"), "{said}");
    }
}

#[test]
fn what_may_not_be_read_is_said() {
    let images = Images::new();
    let path = images.with("locked", 64 * MIB, &[]);
    std::fs::set_permissions(images.0.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let program = assert_cmd::cargo::cargo_bin("xen-pmem-provision");
    // Root may read everything, so the test does not apply.
    let mut command = match rustix::process::geteuid().is_root() {
        false => assert_cmd::Command::new(program),
        true => {
            let copy = images.path("program");
            std::fs::copy(program, &copy).unwrap();
            let mut command = assert_cmd::Command::new("setpriv");
            command.args(["--reuid", "65534", "--clear-groups"]).arg(copy);
            command
        }
    };
    let said = sentence(&command.arg("show").arg(&path).assert().code(1), &path);
    assert!(said.contains("Permission denied"), "{said}");
}

#[test]
fn a_new_image_that_cannot_be_prepared_is_not_left_behind() {
    let images = Images::new();
    let path = images.path("new");
    sentence(&provision(&["init", "--size", "4M"], &path).code(3), &path);
    assert!(!path.exists());
    provision(&["init", "--size", "64M", "--dry-run"], &path).success();
    assert!(!path.exists());
    let there = images.with("there", MIB, &[]);
    let said = sentence(&provision(&["init", "--size", "64M"], &there).code(3), &there);
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(std::fs::metadata(&there).unwrap().len(), MIB);
}

#[test]
fn a_prepared_image_is_not_prepared_again() {
    let images = Images::new();
    let path = images.prepared("image");
    let before = std::fs::read(&path).unwrap();
    let said = sentence(&provision(&["init"], &path).code(3), &path);
    assert!(said.contains("prepared already"), "{said}");
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_truncated_or_grown_image_is_damaged() {
    let images = Images::new();
    for (name, size) in [("truncated", 63 * MIB), ("grown", 65 * MIB)] {
        let path = images.prepared(name);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(size)
            .unwrap();
        let shown = provision(&["show", "--json"], &path).code(5);
        let document: serde_json::Value = serde_json::from_slice(&shown.get_output().stdout).unwrap();
        assert_eq!(document["state"], "damaged", "{document}");
        provision(&["verify", "-q"], &path).code(5);
    }
}

#[test]
fn an_image_that_somebody_else_has_locked_is_in_use() {
    let images = Images::new();
    let path = images.prepared("image");
    let file = std::fs::File::open(&path).unwrap();
    file.lock_shared().unwrap();
    let said = sentence(&provision(&["remove"], &path).code(3), &path);
    assert!(said.contains("in use"), "{said}");
    provision(&["verify", "-q"], &path).success();
    drop(file);
    provision(&["remove", "-q"], &path).success();
}

#[test]
fn a_wrong_command_line_is_usage() {
    let images = Images::new();
    let path = images.with("image", 64 * MIB, &[]);
    for arguments in [
        &["init", "--reserve", "lots"][..],
        &["init", "--size", "-1"],
        &["init", "--partition", "1M:name:not-a-guid"],
        &["init", "--uuid", "x"],
        &["init", "--base", "4X"],
        &["format"],
        &["show", "-q", "-v"],
    ] {
        let failed = provision(arguments, &path).code(2);
        assert!(!failed.get_output().stderr.is_empty());
    }
}

#[test]
fn a_link_that_leads_nowhere_is_said_to_be_one() {
    let images = Images::new();
    let path = images.path("link");
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    for arguments in [&["init", "--size", "64M"][..], &["init", "--size", "64M", "--dry-run"]] {
        let said = sentence(&provision(arguments, &path).code(3), &path);
        assert!(said.contains("is a link to nowhere, which is not there"), "{said}");
    }
}

#[test]
fn an_address_is_given_as_a_size_is() {
    let images = Images::new();
    let path = images.with("image", 64 * MIB, &[]);
    let plan = |base: &str| {
        let shown = provision(
            &["init", "--dry-run", "--disk-guid", GUID, "--uuid", GUID, "--base", base],
            &path,
        )
        .success();
        String::from_utf8(shown.get_output().stdout.clone()).unwrap()
    };
    const GUID: &str = "11111111-2222-4333-8444-555555555555";
    assert!(plan("4G").contains("0x100200000"), "{}", plan("4G"));
    assert_eq!(plan("4G"), plan("0x100000000"));
}

#[test]
fn a_full_standard_error_is_no_reason_to_panic() {
    let images = Images::new();
    let path = images.with("image", 64 * MIB, &[(77, b"x")]);
    let program = assert_cmd::cargo::cargo_bin("xen-pmem-provision");
    for (arguments, code) in [
        (&["-vvv", "init"][..], 3),
        (&["-vvv", "init", "--force"], 0),
        (&["init"], 3),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(&program);
        let status = command
            .args(arguments)
            .arg(&path)
            .stderr(full)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
    // A failure of standard output is reported.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = std::process::Command::new(&program)
        .arg("show")
        .arg(&path)
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("cannot write to standard output")
    );
}
