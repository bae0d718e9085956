//! Each kind of damage: what `show`, `verify` and `repair` make of it.

use super::{Images, MIB, provision, restore, sentence};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use xen_pmem_format::superblock::{COPY_SIZE, SuperBlock, Which};
use xen_pmem_format::units::{Bytes, DeviceRange};

/// The outcome for a damaged image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// `repair` makes it prepared again, to the byte.
    Heals,
    /// `repair` refuses, with this exit code, and changes nothing.
    Refuses(i32),
    /// It is an ordinary disk now.
    Unprepared,
}

const SIZE: u64 = 64 * MIB;
const PRIMARY: u64 = 512 << 10;
const BACKUP: u64 = 1536 << 10;
const BACKUP_GPT: u64 = SIZE - 512;

fn wipe(file: &File, offset: u64, size: usize) {
    file.write_all_at(&vec![0; size], offset).unwrap();
}

fn flip(file: &File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn swap(file: &File, one: u64, other: u64) {
    let mut pages = [[0; 4096]; 2];
    file.read_exact_at(&mut pages[0], one).unwrap();
    file.read_exact_at(&mut pages[1], other).unwrap();
    file.write_all_at(&pages[0], other).unwrap();
    file.write_all_at(&pages[1], one).unwrap();
}

/// Writes a copy of the super block anew with another content and a right checksum.
fn rewrite(file: &File, which: Which, change: fn(&mut SuperBlock)) {
    let offset = which.offset();
    let mut page = [0; COPY_SIZE];
    file.read_exact_at(&mut page, offset.0).unwrap();
    let (_, mut superblock) = SuperBlock::decode(&page, offset).unwrap();
    change(&mut superblock);
    file.write_all_at(&superblock.encode(which), offset.0).unwrap();
}

pub(super) type Damage = (&'static str, fn(&File), Outcome);

pub(super) const DAMAGES: &[Damage] = &[
    ("primary copy wiped", |f| wipe(f, PRIMARY, 4096), Outcome::Heals),
    ("primary copy, signature", |f| flip(f, PRIMARY), Outcome::Heals),
    ("primary copy, sequence", |f| flip(f, PRIMARY + 48), Outcome::Heals),
    ("primary copy, last byte", |f| flip(f, PRIMARY + 4095), Outcome::Heals),
    ("backup copy wiped", |f| wipe(f, BACKUP, 4096), Outcome::Heals),
    ("backup copy, reserved base", |f| flip(f, BACKUP + 104), Outcome::Heals),
    (
        "both copies wiped",
        |f| {
            wipe(f, PRIMARY, 4096);
            wipe(f, BACKUP, 4096);
        },
        Outcome::Unprepared,
    ),
    (
        "both copies corrupt",
        |f| {
            flip(f, PRIMARY + 48);
            flip(f, BACKUP + 48);
        },
        Outcome::Refuses(5),
    ),
    (
        "primary copy newer",
        |f| rewrite(f, Which::Primary, |s| s.sequence += 1),
        Outcome::Heals,
    ),
    (
        "backup copy newer",
        |f| rewrite(f, Which::Backup, |s| s.sequence += 1),
        Outcome::Heals,
    ),
    (
        "equal sequence, different content",
        |f| rewrite(f, Which::Backup, |s| s.updated.0 += 1),
        Outcome::Refuses(5),
    ),
    (
        "both copies of another disk",
        |f| {
            for which in Which::BOTH {
                rewrite(f, which, |s| s.disk_guid = uuid::Uuid::from_u128(9));
            }
        },
        Outcome::Unprepared,
    ),
    (
        "one copy of another disk",
        |f| rewrite(f, Which::Backup, |s| s.disk_guid = uuid::Uuid::from_u128(9)),
        Outcome::Heals,
    ),
    (
        "reserved area over the partition",
        |f| {
            for which in Which::BOTH {
                rewrite(f, which, |s| {
                    s.reserved = DeviceRange::new(s.reserved.base(), Bytes(s.reserved.size().0 + 2 * MIB)).unwrap();
                });
            }
        },
        Outcome::Refuses(5),
    ),
    ("copies swapped", |f| swap(f, PRIMARY, BACKUP), Outcome::Refuses(5)),
    (
        "primary copy moved into the gap",
        |f| swap(f, PRIMARY, 256 << 10),
        Outcome::Heals,
    ),
    ("primary GPT, header", |f| flip(f, 512 + 40), Outcome::Heals),
    ("primary GPT, entries", |f| flip(f, 1024 + 32), Outcome::Heals),
    ("first 8 KiB zeroed", |f| wipe(f, 0, 8192), Outcome::Heals),
    ("backup GPT, header", |f| flip(f, BACKUP_GPT + 24), Outcome::Heals),
    (
        "backup GPT wiped",
        |f| wipe(f, SIZE - 33 * 512, 33 * 512),
        Outcome::Heals,
    ),
    (
        "one half of each",
        |f| {
            wipe(f, 0, 8192);
            flip(f, BACKUP + 200);
        },
        Outcome::Heals,
    ),
    (
        "both GPTs corrupt",
        |f| {
            flip(f, 512 + 40);
            flip(f, BACKUP_GPT + 40);
        },
        Outcome::Refuses(5),
    ),
    (
        "both GPTs wiped",
        |f| {
            wipe(f, 0, 34 * 512);
            wipe(f, SIZE - 33 * 512, 33 * 512);
        },
        Outcome::Unprepared,
    ),
    ("truncated", |f| f.set_len(SIZE - MIB).unwrap(), Outcome::Refuses(5)),
    ("grown", |f| f.set_len(SIZE + MIB).unwrap(), Outcome::Refuses(5)),
    ("protective MBR zeroed", |f| wipe(f, 0, 512), Outcome::Heals),
    ("protective MBR, boot signature", |f| wipe(f, 510, 2), Outcome::Heals),
    ("protective MBR, type", |f| wipe(f, 450, 1), Outcome::Heals),
    (
        "a partition table in the MBR",
        |f| f.write_all_at(&[0x83], 450).unwrap(),
        Outcome::Refuses(3),
    ),
    (
        "a swap area on the whole disk",
        |f| {
            wipe(f, 0, 1024);
            // Version 1, 16000 pages.
            f.write_all_at(&[1, 0, 0, 0, 0x80, 0x3e, 0, 0], 1024).unwrap();
            f.write_all_at(b"SWAPSPACE2", 4086).unwrap();
        },
        Outcome::Refuses(3),
    ),
    (
        "a small ISO image on the whole disk",
        |f| {
            wipe(f, 0, 32 << 10);
            f.write_all_at(b"\x01CD001\x01", 32 << 10).unwrap();
        },
        Outcome::Refuses(3),
    ),
    (
        "something unknown in place of the table",
        |f| {
            wipe(f, 0, 8192);
            f.write_all_at(b"who am I", 0x4_0000).unwrap();
        },
        Outcome::Refuses(5),
    ),
    (
        "reconfigured to fsdax",
        |f| {
            wipe(f, 0, 8192);
            f.write_all_at(b"NVDIMM_PFN_INFO\0", 4096).unwrap();
        },
        Outcome::Refuses(3),
    ),
    (
        "reconfigured to sector mode",
        |f| {
            wipe(f, 0, 8192);
            f.write_all_at(b"BTT_ARENA_INFO\0", 4096).unwrap();
        },
        Outcome::Refuses(3),
    ),
    (
        "a LUKS container in place of the table",
        |f| {
            wipe(f, 0, 8192);
            f.write_all_at(b"LUKS\xba\xbe\0\x02", 0).unwrap();
        },
        Outcome::Refuses(3),
    ),
    (
        "an md member in place of the table",
        |f| {
            wipe(f, 0, 8192);
            // Version 1, in sector 8 (Linux include/uapi/linux/raid/md_p.h).
            f.write_all_at(&[0xfc, 0x4e, 0x2b, 0xa9, 1], 4096).unwrap();
            f.write_all_at(&[8], 4096 + 144).unwrap();
        },
        Outcome::Refuses(3),
    ),
    (
        "btrfs in the gap and a copy gone",
        |f| {
            wipe(f, PRIMARY, 4096);
            f.write_all_at(b"_BHRfS_M", 0x1_0040).unwrap();
        },
        Outcome::Refuses(3),
    ),
    (
        "ZFS in the gap and a copy gone",
        |f| {
            wipe(f, PRIMARY, 4096);
            for uberblock in 0..4 {
                f.write_all_at(&0x00ba_b10cu64.to_le_bytes(), 0x2_0000 + uberblock * 1024)
                    .unwrap();
            }
        },
        Outcome::Refuses(3),
    ),
    (
        "LVM in place of the table",
        |f| {
            wipe(f, 0, 8192);
            f.write_all_at(b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001", 512)
                .unwrap();
        },
        Outcome::Refuses(3),
    ),
    (
        "ext4 in place of the table",
        |f| {
            wipe(f, 0, 8192);
            f.write_all_at(&[0x53, 0xef], 0x438).unwrap();
        },
        Outcome::Refuses(3),
    ),
];

pub(super) fn image_of(images: &Images, name: &str) -> (std::path::PathBuf, File) {
    let path = images.path(name);
    provision(&["init", "-q", "--size", "64M"], &path).success();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    (path, file)
}

/// The reader that was written in C from the specification alone, compiled once.
static READER: LazyLock<PathBuf> = LazyLock::new(|| {
    let format = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("reader");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = std::process::Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-I"])
        .arg(format.join("../docs"))
        .arg(format.join("tests/specification/reader.c"))
        .arg("-o")
        .arg(&program)
        .status()
        .expect("a C compiler, as `cc` or named by CC");
    assert!(status.success(), "the reader compiles");
    program
});

/// Returns the state of an image, as the reader in C says it.
fn state_in_c(path: &Path) -> String {
    let output = std::process::Command::new(&*READER)
        .arg("device")
        .stdin(File::open(path).unwrap())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Returns the state of an image, as `show` says it.
fn state(path: &Path) -> String {
    let mut show = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    let output = show.args(["show", "--json"]).arg(path).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    document["state"].as_str().unwrap().to_owned()
}

fn verify(path: &Path) -> String {
    let output = assert_cmd::Command::cargo_bin("xen-pmem-provision")
        .unwrap()
        .arg("verify")
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_damage_has_its_outcome() {
    let images = Images::new();
    for (name, damage, outcome) in DAMAGES {
        let (path, file) = image_of(&images, name);
        let good = std::fs::read(&path).unwrap();
        damage(&file);
        let damaged = std::fs::read(&path).unwrap();
        assert_eq!(
            state_in_c(&path),
            state(&path),
            "{name}: a reader written from the specification agrees"
        );
        let verdict = provision(&["verify"], &path);
        let code = if *outcome == Outcome::Unprepared { 4 } else { 5 };
        verdict.code(code);
        assert!(verify(&path).contains("  - "), "{name}: verify says what is wrong");

        provision(&["repair", "--dry-run"], &path);
        assert!(
            std::fs::read(&path).unwrap() == damaged,
            "{name}: reading and planning write nothing"
        );
        let repaired = provision(&["repair"], &path);
        match outcome {
            Outcome::Heals => {
                repaired.code(0);
                provision(&["verify"], &path).code(0);
                assert_eq!(state_in_c(&path), "prepared", "{name}");
                let now = std::fs::read(&path).unwrap();
                // What was moved away stays where it was moved to, and is not looked at any more.
                let another = name.contains("moved") || name.contains("newer");
                assert!(now == good || another, "{name}: healed to the byte");
                provision(&["repair"], &path).code(0);
                assert!(
                    std::fs::read(&path).unwrap() == now,
                    "{name}: nothing is left to repair"
                );
            }
            Outcome::Refuses(code) => {
                sentence(&repaired.code(*code), &path);
                assert!(
                    std::fs::read(&path).unwrap() == damaged,
                    "{name}: a refused repair changes nothing"
                );
            }
            Outcome::Unprepared => {
                sentence(&repaired.code(4), &path);
                assert!(
                    std::fs::read(&path).unwrap() == damaged,
                    "{name}: a refused repair changes nothing"
                );
            }
        }
    }
}

#[test]
fn a_backup_heals_what_repair_cannot() {
    let images = Images::new();
    let (path, file) = image_of(&images, "image");
    let good = std::fs::read(&path).unwrap();
    let saved = images.path("saved");
    let saved = saved.to_str().unwrap();
    let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    backup.arg("backup").arg(&path).arg(saved).assert().success();
    wipe(&file, 0, 2 << 20);
    wipe(&file, SIZE - 33 * 512, 33 * 512);
    provision(&["repair"], &path).code(4);
    restore(&path, &[saved, "--dry-run"]).success();
    restore(&path, &[saved]).success();
    assert!(std::fs::read(&path).unwrap() == good);

    // Over another reservation only with --force, onto another device never.
    let (other, _) = image_of(&images, "other");
    restore(&other, &[saved]).code(3);
    file.set_len(SIZE + MIB).unwrap();
    restore(&path, &[saved]).code(3);
    for bad in [
        "{}",
        "not json",
        r#"{"schema":9,"target":"x","device_size":1,"pieces":[]}"#,
        r#"{"schema":1,"target":"x","device_size":1,"pieces":[{"offset":18446744073709551615,"bytes":"AAAA"}]}"#,
        r#"{"schema":1,"target":"x","device_size":1,"pieces":[{"offset":0,"bytes":"!"}]}"#,
    ] {
        std::fs::write(images.path("bad"), bad).unwrap();
        restore(&path, &[images.path("bad").to_str().unwrap()]).code(2);
    }
    let mut again = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    again.arg("backup").arg(&path).arg(saved).assert().code(1);
}

#[test]
fn resizing_stays_within_the_gap() {
    let images = Images::new();
    let (path, _) = image_of(&images, "image");
    let before = std::fs::read(&path).unwrap();
    for (size, code, words) in [("2M", 2, "try --reserve 8M"), ("10M", 3, "at most 8 MiB fits")] {
        let said = sentence(&provision(&["resize", "--reserve", size], &path).code(code), &path);
        assert!(said.contains(words), "{said}");
    }
    provision(&["resize", "--reserve", "8M"], &path).success();
    assert!(std::fs::read(&path).unwrap() == before, "it has that size already");
    let blank = images.with("blank", SIZE, &[]);
    provision(&["resize", "--reserve", "8M"], &blank).code(4);

    // Planned larger than needed, it can shrink and grow again.
    let large = images.path("large");
    provision(&["init", "-q", "--size", "64M", "--reserve", "16M"], &large).success();
    provision(&["resize", "-q", "--reserve", "8M"], &large).success();
    provision(&["verify", "-q"], &large).success();
    provision(&["resize", "-q", "--reserve", "16M"], &large).success();
    provision(&["verify", "-q"], &large).success();
    provision(&["resize", "-q", "--reserve", "18M"], &large).code(3);
}
