//! The program as an operator runs it, on images.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test states what it expects by panicking"
)]

mod advice;
mod backup;
mod bad_input;
mod damage;
mod documents;
mod foreign;
mod in_use;
mod kept;
mod partition;
mod reproducible;

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// The size of prepared images.
const SIZE: u64 = 64 * MIB;

/// A folder for one test's images.
struct Images(TempDir);

impl Images {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns an image with these contents.
    fn with(&self, name: &str, size: u64, contents: &[(u64, &[u8])]) -> PathBuf {
        use std::os::unix::fs::FileExt as _;
        let path = self.path(name);
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in contents {
            file.write_all_at(bytes, *offset).unwrap();
        }
        path
    }

    /// Returns the one backup that was made of an image.
    fn only_backup_of(&self, name: &str) -> PathBuf {
        let prefix = format!("{name}.");
        let files = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut backups = files.filter(|file| {
            let file = file.file_name().unwrap().to_str().unwrap();
            file.starts_with(&prefix) && file.ends_with(".xen-pmem-backup")
        });
        let backup = backups.next().expect("a backup");
        assert_eq!(backups.next(), None, "one backup");
        backup
    }

    /// Returns an image that is prepared.
    fn prepared(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        provision(&["init", "-q", "--size", "64M"], &path).success();
        path
    }
}

/// Opens an image to read and write it.
fn open(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// Runs a command line in the shell.
fn shell(command: &str) -> std::process::Output {
    std::process::Command::new("sh")
        .arg("-c")
        .arg(command)
        .output()
        .unwrap()
}

/// Runs the program on a target.
fn provision(arguments: &[&str], target: &Path) -> assert_cmd::assert::Assert {
    Command::cargo_bin("xen-pmem-provision")
        .unwrap()
        .args(arguments)
        .arg(target)
        .assert()
}

/// Runs `restore` on a target.
fn restore(target: &Path, arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("xen-pmem-provision")
        .unwrap()
        .arg("restore")
        .arg(target)
        .args(arguments)
        .assert()
}

/// Returns what the program wrote to its standard error, which must be one sentence on one line that names the target.
fn sentence(assert: &assert_cmd::assert::Assert, target: &Path) -> String {
    let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with(&format!("xen-pmem-provision: {}: ", target.display())),
        "{said}"
    );
    said
}
