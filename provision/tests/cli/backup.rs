//! Backups of a device: what they hold, and that they are whole.

use super::{Images, SIZE, open, provision, restore, shell};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use uuid::Uuid;
use xen_pmem_format::inspect::inspect;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::UnixTime;
use xen_pmem_format::units::{Bytes, LbaSize};
use xen_pmem_provision::geometry::Geometry;
use xen_pmem_provision::init::{self, Request};
use xen_pmem_provision::layout::{PartitionRequest, Reserve};
use xen_pmem_provision::plan::Before;

#[test]
fn a_backup_is_there_whole_or_not_at_all() {
    let images = Images::new();
    let path = images.prepared("image");
    let folder = images.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("backup");
    let program = assert_cmd::cargo::cargo_bin("xen-pmem-provision");
    // As on a full file system: no file becomes larger than 8 blocks of 512 bytes.
    let limited = |arguments: &str| {
        let command = format!("trap '' XFSZ; ulimit -f 8; exec '{}' {arguments}", program.display());
        shell(&command)
    };
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let failed = limited(&format!("backup '{}' '{}'", path.display(), file.display()));
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(
        said.starts_with(&format!(
            "xen-pmem-provision: {}: cannot be written: File too large",
            file.display()
        )),
        "{said}"
    );
    assert_eq!(files(&folder), Vec::<std::ffi::OsString>::new());

    let before = (std::fs::read(&path).unwrap(), files(images.0.path()));
    let failed = limited(&format!("init --force '{}'", path.display()));
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.contains("no backup can be written there"), "{said}");
    assert!((std::fs::read(&path).unwrap(), files(images.0.path())) == before);

    // The next one succeeds; over a file that is there none is written.
    let backup = |file: &Path| {
        let mut command = assert_cmd::Command::new(&program);
        command.arg("backup").arg(&path).arg(file).assert()
    };
    backup(&file).success();
    let saved = std::fs::read(&file).unwrap();
    let said = String::from_utf8(backup(&file).code(1).get_output().stderr.clone()).unwrap();
    assert!(said.contains("File exists"), "{said}");
    assert!(std::fs::read(&file).unwrap() == saved);
    assert_eq!(files(&folder), ["backup"]);
}

/// Prepares an image with blocks of 4096 bytes, as `init` does a device that has such ones.
fn with_large_blocks(path: &Path) {
    let file = File::create_new(path).unwrap();
    file.set_len(SIZE).unwrap();
    let file = open(path);
    let lba_size = LbaSize::B4096;
    let geometry = Geometry {
        device_size: Bytes(SIZE),
        lba_size,
        placement: None,
    };
    let request = Request {
        reserve: Reserve::Auto,
        entries: EntrySizes::XEN_X86_64,
        partitions: vec![PartitionRequest::default().with_guid(Uuid::from_u128(3))],
        uuid: Uuid::from_u128(1),
        disk_guid: Uuid::from_u128(2),
        now: UnixTime(1),
    };
    let before = Before {
        device: &file,
        own_lba_size: Some(lba_size),
        inspection: &inspect(&file, Some(lba_size)).unwrap(),
        force: false,
    };
    let plan = init::plan(&before, &geometry, &request).unwrap();
    plan.plan.check(&before).unwrap().apply(&file).unwrap();
}

#[test]
fn the_block_size_of_an_image_is_in_its_backup() {
    let images = Images::new();
    let path = images.path("image");
    with_large_blocks(&path);
    provision(&["verify"], &path).success();
    let saved = images.path("saved");
    let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    backup.arg("backup").arg(&path).arg(&saved).assert().success();
    let good = std::fs::read(&path).unwrap();
    let file = open(&path);
    file.write_all_at(&[0; 4096], 4096).unwrap();
    file.write_all_at(&[0; 4096], SIZE - 4096).unwrap();
    provision(&["verify", "-q"], &path).code(4);
    restore(&path, &[saved.to_str().unwrap()]).success();
    assert!(std::fs::read(&path).unwrap() == good);
    // The whole head and tail, too.
    file.write_all_at(&vec![0; 2 << 20], 0).unwrap();
    file.write_all_at(&[0; 5 * 4096], SIZE - 5 * 4096).unwrap();
    restore(&path, &[saved.to_str().unwrap()]).success();
    assert!(std::fs::read(&path).unwrap() == good);
}

#[test]
fn a_backup_is_restored_to_the_byte_with_its_boot_code() {
    let images = Images::new();
    let path = images.prepared("image");
    let file = open(&path);
    file.write_all_at(b"\xeb\x63\x90boot", 0).unwrap();
    let saved = images.path("saved");
    let mut backup = assert_cmd::Command::cargo_bin("xen-pmem-provision").unwrap();
    backup.arg("backup").arg(&path).arg(&saved).assert().success();
    let good = std::fs::read(&path).unwrap();
    file.write_all_at(&[0; 34 * 512], 0).unwrap();
    file.write_all_at(&[0; 33 * 512], SIZE - 33 * 512).unwrap();
    restore(&path, &[saved.to_str().unwrap()]).success();
    assert!(std::fs::read(&path).unwrap() == good);
}
