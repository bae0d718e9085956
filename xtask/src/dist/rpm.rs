//! The RPMs. One set is for Fedora, openSUSE, Qubes and XCP-ng alike, so they have the static binaries, and nothing newer in their format
//! than what old systems read.

pub(super) mod installation;

use super::debian;
use crate::cargo_tools;
use crate::command;
use crate::host::{self, Need};
use crate::progress::step;
use crate::tools;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What running rpmlint takes.
pub(crate) const LINT_NEEDS: &[Need] = &[
    Need {
        program: "/usr/lib/python3/dist-packages/rpm/__init__.py",
        package: "python3-rpm",
    },
    Need {
        program: "/usr/share/doc/python3-venv/copyright",
        package: "python3-venv",
    },
    Need {
        program: "/usr/lib/file/magic.mgc",
        package: "libmagic1",
    },
];

/// The version of rpmlint.
const RPMLINT: &str = "2.10.0";

/// The package that has documents only.
const DOCUMENTS: &str = "xen-pmem-packaging";

/// Makes the RPMs of the workspace at `root` in `folder`, with a copy of all that they have below `target`.
///
/// # Errors
///
/// If a file cannot be copied, or cargo-generate-rpm fails.
pub(super) fn make(
    root: &Path,
    tools: &tools::Tools,
    manual: &Path,
    target: &Path,
    folder: &Path,
    epoch: &str,
) -> Result<Vec<PathBuf>> {
    let generate = cargo_tools::install(&cargo_tools::RPM)?;
    step("making RPMs");
    let stage = target.join("rpm-stage");
    copy(root, tools, manual, &stage)?;
    let made = folder.join("rpm");
    fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
    for package in debian::CRATES {
        let mut command = Command::new(&generate);
        command
            .current_dir(&stage)
            .env("CARGO_TARGET_DIR", stage.join("target"))
            .env("SOURCE_DATE_EPOCH", epoch)
            // XCP-ng's rpm does not know zstd.
            .args(["--payload-compress", "gzip", "--package"])
            .arg(package.strip_prefix("xen-pmem-").unwrap_or(package))
            .arg("--output")
            .arg(&made);
        if package == DOCUMENTS {
            command.args(["--arch", "noarch"]);
        }
        command::output(&mut command)?;
    }
    fs::remove_dir_all(&stage)?;
    let mut rpms = Vec::new();
    for entry in fs::read_dir(&made)? {
        let from = entry?.path();
        let to = folder.join(from.file_name().context("an RPM without a name")?);
        fs::rename(&from, &to)?;
        rpms.push(to);
    }
    fs::remove_dir(&made)?;
    rpms.sort();
    Ok(rpms)
}

/// Copies what the RPMs are made of. Files in an RPM have the time of the last commit if they are newer: those of the copy all are,
/// whenever a file was checked out or built.
fn copy(root: &Path, tools: &tools::Tools, manual: &Path, stage: &Path) -> Result<()> {
    workspace::discard(stage)?;
    let release = stage.join("target/release");
    fs::create_dir_all(&release).with_context(|| format!("cannot make {}", release.display()))?;
    let files = command::output(Command::new("git").arg("-C").arg(root).args(["ls-files", "-z"]))?;
    let list = stage.join("target/files");
    fs::write(&list, files)?;
    let mut pack = Command::new("tar")
        .arg("-C")
        .arg(root)
        .args(["--null", "--create", "--file=-", "--files-from"])
        .arg(&list)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start `tar`")?;
    let packed = pack.stdout.take().context("tar without an output")?;
    let unpacked = Command::new("tar")
        .arg("-C")
        .arg(stage)
        .args(["--extract", "--touch", "--file=-"])
        .stdin(packed)
        .status()
        .context("cannot start `tar`")?;
    let status = pack.wait().context("waiting for `tar`")?;
    anyhow::ensure!(
        status.success() && unpacked.success(),
        "cannot copy the files of {} to {}: tar said {status} and {unpacked}",
        root.display(),
        stage.display()
    );
    for program in tools::PROGRAMS {
        fs::copy(tools.path(program), release.join(program)).with_context(|| format!("cannot copy {program}"))?;
    }
    command::output(Command::new("cp").arg("-r").arg(manual).arg(release.join("manual")))?;
    Ok(())
}

/// Returns the RPMs among all that is made.
fn among(made: &[PathBuf]) -> Vec<&PathBuf> {
    let is_rpm = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "rpm");
    made.iter().filter(is_rpm).collect()
}

/// Runs rpmlint, from its own Python environment.
///
/// # Errors
///
/// If it finds an error that `packaging/rpm/rpmlint.toml` does not explain.
pub(super) fn lint(made: &[PathBuf]) -> Result<()> {
    host::install(LINT_NEEDS)?;
    let environment = workspace::target().join("tools").join(format!("rpmlint-{RPMLINT}"));
    let rpmlint = environment.join("bin/rpmlint");
    if !rpmlint.is_file() {
        step(&format!("installing rpmlint {RPMLINT}"));
        command::output(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        command::output(
            Command::new(environment.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .arg(format!("rpmlint=={RPMLINT}")),
        )?;
    }
    step("running rpmlint");
    command::run(
        Command::new(rpmlint)
            .arg("--config")
            .arg(workspace::root().join("packaging/rpm/rpmlint.toml"))
            .args(among(made)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// What only Debian wants, and what only others want, by the beginnings of paths in the packages.
    const DEBIAN_ONLY: [&str; 2] = ["usr/share/lintian/", "usr/share/initramfs-tools/"];
    const RPM_ONLY: [&str; 2] = ["usr/share/licenses/", "usr/lib/systemd/system-preset/"];

    /// Returns the assets of a kind of package from the package's manifest: where each goes, and its mode.
    fn assets(manifest: &str, section: &str, words: fn(&str) -> Vec<&str>) -> BTreeMap<String, (String, String)> {
        let section = manifest
            .split_once(&format!("[package.metadata.{section}]"))
            .and_then(|(_, rest)| rest.split_once("\nassets = [\n"))
            .map(|(_, rest)| rest.split_once("\n]").map_or(rest, |(section, _)| section))
            .unwrap();
        let mut found = BTreeMap::new();
        for line in section.lines() {
            let [source, to, mode] = words(line)[..] else { continue };
            let source = source.trim_start_matches("../");
            let name = source.rsplit('/').next().unwrap();
            // A folder, or the file's new name.
            let to = to.trim_start_matches('/').to_owned();
            let to = if to.ends_with('/') { format!("{to}{name}") } else { to };
            // The one folder that they call by other names.
            let to = to.replace("zsh/vendor-completions", "zsh/site-functions");
            let there = found.insert(to, (source.to_owned(), mode.to_owned()));
            assert!(there.is_none(), "{line}");
        }
        found
    }

    fn quoted(line: &str) -> Vec<&str> {
        line.split('"').skip(1).step_by(2).collect()
    }

    #[test]
    fn rpms_have_what_debian_packages_have_at_the_same_places() {
        let mut seen = 0;
        for package in debian::CRATES {
            let folder = package.strip_prefix("xen-pmem-").unwrap();
            let manifest = fs::read_to_string(workspace::root().join(folder).join("Cargo.toml")).unwrap();
            let is_in = |only: [&str; 2], path: &str| only.iter().any(|beginning| path.starts_with(beginning));
            let mut debian = assets(&manifest, "deb", |line| match line.strip_prefix("    [") {
                Some(rest) => quoted(rest),
                None => Vec::new(),
            });
            debian.retain(|path, _| !is_in(DEBIAN_ONLY, path));
            // cargo-deb finds units by their folder.
            if package == "xen-pmem-report" {
                let hold = "packaging/systemd/enabled/xen-pmem-hold.service";
                let to = "usr/lib/systemd/system/xen-pmem-hold.service".to_owned();
                debian.insert(to, (hold.to_owned(), "644".to_owned()));
            }
            let mut rpm = assets(&manifest, "generate-rpm", |line| {
                match line.strip_prefix("    { source") {
                    Some(rest) => quoted(rest).into_iter().take(3).collect(),
                    None => Vec::new(),
                }
            });
            rpm.retain(|path, _| !is_in(RPM_ONLY, path));
            assert_eq!(debian, rpm, "{package}");
            seen += rpm.len();
        }
        assert!(seen > 25, "{seen} files only");
    }
}
