//! The tarball with static binaries, and all that belongs to them.

use crate::command;
use crate::progress::step;
use crate::tools;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of the repository that the tarball has, at the same paths: those that belong to the binaries on every system.
const SHIPPED: &[&str] = &[
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "docs",
    "packaging/dracut",
    "packaging/early",
    "packaging/initramfs-tools",
    "packaging/rpm",
    "packaging/systemd",
    "packaging/udev",
    "report/LICENSE",
    "xen/LICENSE",
    "xen/include",
    "xen/patches",
];

/// Packs the static binaries with their manual pages and completions.
///
/// # Errors
///
/// If a file cannot be copied or packed.
pub(super) fn make(root: &Path, tools: &tools::Tools, manual: &Path, folder: &Path, epoch: &str) -> Result<PathBuf> {
    step("making the tarball");
    let name = format!("xen-pmem-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    let stage = folder.join(&name);
    fs::create_dir_all(stage.join("bin"))?;
    for program in tools::PROGRAMS {
        fs::copy(tools.path(program), stage.join("bin").join(program))?;
    }
    for part in ["man", "bash", "zsh", "fish"] {
        command::output(Command::new("cp").arg("-r").arg(manual.join(part)).arg(&stage))?;
    }
    // What is committed, and nothing that lies beside it.
    let files = command::text(
        Command::new("git")
            .arg("-C")
            .arg(root)
            .args(["ls-files", "--"])
            .args(SHIPPED),
    )?;
    for file in files.lines() {
        let to = stage.join(file);
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::copy(root.join(file), &to).with_context(|| format!("copying {file}"))?;
    }
    let tarball = folder.join(format!("{name}.tar.xz"));
    command::output(
        Command::new("tar")
            .arg("-C")
            .arg(folder)
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mode=u=rwX,go=rX",
            ])
            .arg(format!("--mtime=@{epoch}"))
            .args(["--use-compress-program", "xz -T1 -9", "-cf"])
            .arg(&tarball)
            .arg(&name),
    )?;
    fs::remove_dir_all(&stage)?;
    Ok(tarball)
}
