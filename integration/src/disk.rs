//! The disk of an installed system: an ext4 file system without partitions.

use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Copies a disk. Holes stay holes.
///
/// # Errors
///
/// If it cannot be read, or not all of it written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp")
        .arg("--sparse=always")
        .args([from, to])
        .output()
        .context("cannot start cp")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Makes a folder on a disk that no machine uses.
///
/// # Errors
///
/// If it is there, or its parent is not.
pub fn make_folder(disk: &Path, folder: &str) -> Result<()> {
    debugfs(disk, &format!("mkdir {folder}"))
}

/// Writes a file onto a disk that no machine uses.
///
/// # Errors
///
/// If one of that name is there, its folder is not, or the file cannot be read.
pub fn put(disk: &Path, file: &Path, to: &str) -> Result<()> {
    // Spaces separate words there, and quotes keep them together.
    debugfs(disk, &format!("write \"{}\" {to}", file.display()))
}

fn debugfs(disk: &Path, request: &str) -> Result<()> {
    let output = Command::new("debugfs")
        .args(["-w", "-R", request])
        .arg(disk)
        .output()
        .context("cannot start debugfs, of e2fsprogs")?;
    // Its exit code is always 0. On success it prints its version, and the number of an inode.
    let said = String::from_utf8_lossy(&output.stderr);
    let bad = said.lines().find(|line| !line.starts_with("debugfs "));
    ensure!(
        output.status.success() && bad.is_none(),
        "debugfs: {request}: {}",
        bad.unwrap_or_default()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_put_onto_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a file"), "content").unwrap();
        let made = Command::new("mke2fs")
            .args(["-q", "-t", "ext4"])
            .arg(path("disk"))
            .arg("4M")
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        copy(&path("disk"), &path("own")).unwrap();
        make_folder(&path("own"), "/new").unwrap();
        put(&path("own"), &path("a file"), "/new/file").unwrap();
        let shown = Command::new("debugfs")
            .args(["-R", "cat /new/file"])
            .arg(path("own"))
            .output()
            .unwrap();
        assert_eq!(shown.stdout, b"content");
        put(&path("own"), &path("a file"), "/new/file").unwrap_err();
        put(&path("own"), &path("none"), "/none").unwrap_err();
        put(&path("own"), &path("a file"), "/nowhere/file").unwrap_err();
        make_folder(&path("own"), "/new").unwrap_err();
        copy(&path("none"), &path("other")).unwrap_err();
    }
}
