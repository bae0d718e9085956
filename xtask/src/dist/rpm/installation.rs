//! Installs the RPMs into a folder with Debian's rpm, upgrades them and removes them, scripts and all.

use super::among;
use crate::command;
use crate::host::{self, Need};
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the check takes: the scripts run in the folder, which has no program but busybox.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        program: "rpm",
        package: "rpm",
    },
    Need {
        program: "/bin/busybox",
        package: "busybox-static",
    },
];

/// What the scripts may start in the folder. There is neither systemd nor dracut: they must do without.
const APPLETS: [&str; 2] = ["sh", "rmdir"];

/// The shell that the scripts require. No package in the folder provides it.
const SHELL: &str = "/bin/sh";

/// Installs, verifies, installs once more and removes.
///
/// # Errors
///
/// If a package requires what nothing provides, if a script fails, if files differ from what the packages list, or if something is left
/// after removal.
pub(in crate::dist) fn check(made: &[PathBuf]) -> Result<()> {
    host::install(NEEDS)?;
    step("installing the RPMs into a folder");
    let rpms = among(made);
    ensure!(!rpms.is_empty(), "no RPM was made");
    let names: BTreeSet<String> = query(&rpms, &["--queryformat", "%{NAME}\n"])?;
    for required in query(&rpms, &["--requires"])? {
        let name = required.split(' ').next().unwrap_or_default();
        let is_provided = name == SHELL || name.starts_with("rpmlib(") || names.contains(name);
        ensure!(
            is_provided,
            "the RPMs require {required}, which no system needs to have"
        );
    }
    let root = workspace::target().join("dist-rpm-root");
    prepare(&root)?;
    let before = files(&root)?;
    let listed: BTreeSet<PathBuf> = query(&rpms, &["--list"])?
        .into_iter()
        .map(|path| PathBuf::from(path.trim_start_matches('/')))
        .collect();
    // The second time is an upgrade: to the same version, for which all scripts of an upgrade run.
    for options in [&["--install"][..], &["--upgrade", "--replacepkgs"]] {
        // Nothing provides the shell; all else that is required was looked at above.
        let mut rpm = rpm(&root);
        rpm.args(options).arg("--nodeps").args(&rpms);
        said_nothing(&mut rpm)?;
        command::output(self::rpm(&root).args(["--verify", "--all", "--nodeps"]))?;
        let added: BTreeSet<PathBuf> = files(&root)?.difference(&before).cloned().collect();
        if added != listed {
            let differ: Vec<String> = added
                .symmetric_difference(&listed)
                .map(|path| path.display().to_string())
                .collect();
            bail!("installed and listed files differ:\n{}", differ.join("\n"));
        }
    }
    said_nothing(rpm(&root).arg("--erase").args(&names))?;
    let left: Vec<String> = everything(&root)?
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("xen-pmem"))
        .map(|path| path.display().to_string())
        .collect();
    ensure!(left.is_empty(), "removing the RPMs leaves\n{}", left.join("\n"));
    fs::remove_dir_all(&root)?;
    println!(
        "{} RPMs with {} files install, upgrade and go",
        rpms.len(),
        listed.len()
    );
    Ok(())
}

/// Returns the lines that `rpm --query` prints of the packages' files.
fn query(rpms: &[&PathBuf], options: &[&str]) -> Result<BTreeSet<String>> {
    let text = command::text(
        Command::new("rpm")
            .args(["--query", "--package"])
            .args(options)
            .args(rpms),
    )?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Makes a folder with the programs that scripts need, and with a file that replaces `/dev/null`.
fn prepare(root: &Path) -> Result<()> {
    workspace::discard(root)?;
    for folder in ["bin", "dev"] {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {}", root.display()))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("cannot copy busybox")?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("dev/null"), "")?;
    Ok(())
}

/// Returns the command `rpm` for the folder. Without root it runs as root of its own namespace: it has to change its root folder for the
/// scripts.
fn rpm(root: &Path) -> Command {
    let mut rpm = if rustix::process::geteuid().is_root() {
        Command::new("rpm")
    } else {
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "rpm"]);
        unshare
    };
    // Debian's advises against itself otherwise.
    rpm.args(["--force-debian", "--dbpath", "/db", "--root"]).arg(root);
    rpm
}

/// Runs rpm, which prints what scripts print, and warns where one fails.
fn said_nothing(rpm: &mut Command) -> Result<()> {
    let said = command::output_of_both(rpm)?;
    ensure!(said.trim().is_empty(), "rpm or a script of a package says\n{said}");
    Ok(())
}

/// Returns the files below the folder, without rpm's own.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = everything(root)?;
    found.retain(|path| !path.starts_with("db") && !root.join(path).is_dir());
    Ok(found)
}

/// Returns all files and folders below the folder, relative to it.
fn everything(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            found.insert(path.strip_prefix(root)?.to_owned());
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    Ok(found)
}
