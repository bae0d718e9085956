//! A tree of Xen's source: unpacking, patching, building.

use super::source::Source;
use crate::command;
use crate::progress::step;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// Whether with assertions and debug output.
    pub(crate) debug: bool,
    /// Which options differ from Debian's.
    pub(crate) options: &'static [&'static str],
    /// Whether the tree must know all of these options. The first patches of the series alone do not add `CONFIG_PMEM`.
    pub(crate) whole: bool,
}

/// The options that upstream leaves off: the feature, and its dependencies.
pub(crate) const ON: &[&str] = &["CONFIG_UNSUPPORTED=y", "CONFIG_PMEM=y"];
/// The same with Flask, which has its own permissions and hooks for the operations, and its policy.
pub(crate) const FLASK: &[&str] = &[
    "CONFIG_UNSUPPORTED=y",
    "CONFIG_PMEM=y",
    "CONFIG_XSM=y",
    "CONFIG_XSM_FLASK=y",
    "CONFIG_XSM_FLASK_POLICY=y",
];
/// Without the feature, as upstream builds it unless told otherwise.
pub(crate) const OFF: &[&str] = &["CONFIG_UNSUPPORTED=y", "# CONFIG_PMEM is not set"];

/// A tree of Xen's source.
pub(crate) struct Tree {
    folder: PathBuf,
}

impl Tree {
    /// Returns the tree in this folder without a look at it.
    pub(crate) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Unpacks the source and applies Debian's patches.
    pub(crate) fn unpack(&self, source: &Source) -> Result<()> {
        step("unpacking Xen");
        fs::create_dir_all(&self.folder)?;
        let tar = |file: &Path| {
            let mut tar = Command::new("tar");
            tar.arg("-xf").arg(file).arg("-C").arg(&self.folder);
            tar
        };
        command::output(tar(&source.upstream).arg("--strip-components=1"))?;
        command::output(&mut tar(&source.debian))?;
        for patch in series(&self.folder.join("debian").join("patches"))? {
            self.patch(&patch)?;
        }
        Ok(())
    }

    /// Applies a patch.
    pub(crate) fn patch(&self, patch: &Path) -> Result<()> {
        let mut command = Command::new("patch");
        command
            .args(["-p1", "--silent", "--batch", "-d"])
            .arg(&self.folder)
            .arg("-i")
            .arg(patch);
        command::output(&mut command)?;
        Ok(())
    }

    /// Makes the tree a repository whose only commit is what is there.
    pub(crate) fn commit(&self) -> Result<()> {
        command::output(self.git().args(["init", "--quiet"]))?;
        command::output(self.git().args(["add", "--all", "--force"]))?;
        command::output(self.git().args(["commit", "--quiet", "--message", "Debian's source"]))?;
        Ok(())
    }

    /// Applies a patch as a commit, as a maintainer does.
    pub(crate) fn am(&self, patch: &Path) -> Result<()> {
        let result = command::output(self.git().args(["am", "--quiet", "-3"]).arg(patch));
        if result.is_err() {
            // Leaves the tree as it was; what went wrong is known.
            let _ = command::output(self.git().args(["am", "--abort"]));
        }
        result.map(|_| ())
    }

    fn git(&self) -> Command {
        let mut git = Command::new("git");
        git.arg("-C").arg(&self.folder).args([
            "-c",
            "user.name=cargo xtask xen",
            "-c",
            "user.email=xtask@localhost",
            "-c",
            "commit.gpgsign=false",
            "-c",
            "core.hooksPath=/dev/null",
        ]);
        git
    }

    /// Builds with Debian's configuration, except for what `configuration` says, and returns the ELF file that boots.
    pub(crate) fn make(&self, configuration: Configuration, log: &Path) -> Result<PathBuf> {
        let debug = configuration.debug;
        step(&format!("building Xen{}", if debug { " with assertions" } else { "" }));
        let debians = self.folder.join("debian").join("xen-kconfig");
        let text =
            fs::read_to_string(&debians).with_context(|| format!("Debian's source has no {}", debians.display()))?;
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("CONFIG_DEBUG=")).collect();
        lines.push(if debug { "CONFIG_DEBUG=y" } else { "CONFIG_DEBUG=n" });
        lines.extend(configuration.options);
        let config = self.configuration();
        let before = fs::read_to_string(&config)
            .ok()
            .zip(fs::metadata(&config).and_then(|file| file.modified()).ok());
        fs::write(&config, lines.join("\n") + "\n")?;

        self.target("olddefconfig", log)?;
        let made = fs::read_to_string(&config)?;
        // Every file depends on the configuration's time: one that is as it was must not look new.
        if let Some((_, modified)) = before.filter(|(text, _)| *text == made) {
            fs::File::options().write(true).open(&config)?.set_modified(modified)?;
        }
        if let Some(missing) = configuration
            .options
            .iter()
            .find(|option| configuration.whole && !made.lines().any(|line| line == **option))
        {
            bail!(
                "the configuration has no line `{missing}`: what the option depends on is off, see {}",
                config.display()
            );
        }
        self.target("build", log)?;
        Ok(self.folder.join("xen/xen"))
    }

    /// Returns the file with the hypervisor's configuration.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.join("xen/.config")
    }

    /// Returns when Debian made this version of the source, as its changelog writes it.
    fn date(&self) -> Result<String> {
        let changelog = self.folder.join("debian/changelog");
        let text = fs::read_to_string(&changelog)
            .with_context(|| format!("Debian's source has no {}", changelog.display()))?;
        let line = text.lines().find(|line| line.starts_with(" -- "));
        let date = line
            .and_then(|line| line.split_once(">  "))
            .map(|(_, date)| date.to_owned());
        date.with_context(|| format!("{} has no date", changelog.display()))
    }

    fn target(&self, target: &str, log: &Path) -> Result<()> {
        // The version that Xen prints contains these: two builds must be the same.
        let date = self.date()?;
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let output = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let status = Command::new("make")
            .arg("-C")
            .arg(self.folder.join("xen"))
            .arg(format!("-j{jobs}"))
            .args(["XEN_TARGET_ARCH=x86_64", target])
            .env("XEN_WHOAMI", "")
            .env("XEN_DOMAIN", "")
            .env("XEN_BUILD_HOST", "")
            .env("XEN_BUILD_DATE", &date)
            .env("XEN_BUILD_TIME", "")
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .context("cannot start `make`")?;
        if !status.success() {
            bail!("`make {target}` of Xen failed: {status}; see {}", log.display());
        }
        Ok(())
    }
}

/// Returns the paths of a series' patches, in order.
pub(crate) fn series(folder: &Path) -> Result<Vec<PathBuf>> {
    let file = folder.join("series");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let names = text.lines().map(str::trim);
    Ok(names
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(|name| folder.join(name))
        .collect())
}
