//! Debian packages of a guest's suite, fetched with apt and unpacked, without root and without touching the machine's own.

use crate::command;
use crate::progress::step;
use crate::suite::Suite;
use crate::workspace;
use anyhow::{Context as _, Result, anyhow};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The keys that Debian signs its suites with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Dependencies that matter to an installed system and not to a guest that runs from memory.
const LEFT_OUT: &[&str] = &[
    "adduser",
    "coreutils",
    "cpio",
    "debconf",
    "dpkg",
    "dracut",
    "init-system-helpers",
    "initramfs-tools",
    "klibc",
    "libklibc",
    "libperl",
    "libpython3",
    "linux-base",
    "media-types",
    "netbase",
    "openssl",
    "perl",
    "procps",
    "python3",
    "readline-common",
    "sensible-utils",
    "systemd",
    "tar",
    "tzdata",
    "ucf",
    "udev",
    "xen-utils-common",
];

/// What makes apt take lists whose time is up. Signatures are checked as ever.
const EXPIRED_IS_FINE: [&str; 2] = ["--option", "Acquire::Check-Valid-Until=false"];

/// The unpacked packages of a suite.
pub(crate) struct Sysroot {
    /// The folder that they are unpacked in.
    pub(crate) root: PathBuf,
    /// What it was made of: changes with every package's version.
    pub(crate) stamp: String,
}

/// apt with its own configuration, lists and cache.
pub(crate) struct Apt {
    folder: PathBuf,
}

/// Fetches and unpacks what a guest of `suite` needs. What is there already is neither fetched nor unpacked again.
///
/// # Errors
///
/// If a package cannot be fetched or unpacked.
pub(crate) fn sysroot(suite: Suite) -> Result<Sysroot> {
    unpacked(&workspace::e2e(suite.name())?, suite, &suite.packages())
}

/// Fetches packages of `suite` and their dependencies and unpacks them in `folder`, once.
///
/// # Errors
///
/// If a package cannot be fetched or unpacked.
pub(crate) fn unpacked(folder: &Path, suite: Suite, packages: &[String]) -> Result<Sysroot> {
    let root = folder.join("root");
    let stamp_file = folder.join("root.stamp");
    let wanted = format!("{}\nwithout {}\n", packages.join(" "), LEFT_OUT.join(" "));
    if let Ok(stamp) = fs::read_to_string(&stamp_file)
        && stamp.starts_with(&wanted)
    {
        return Ok(Sysroot { root, stamp });
    }

    step(&format!("fetching the package lists of Debian {}", suite.name()));
    let apt = Apt::new(folder, suite)?;
    apt.update(suite)?;
    let packages = apt.resolve(packages)?;
    step(&format!("fetching {} packages", packages.len()));
    let archives = folder.join("archives");
    fs::create_dir_all(&archives)?;
    command::output(apt.get().current_dir(&archives).arg("download").args(&packages)).context("fetching packages")?;
    let mut files: Vec<PathBuf> = fs::read_dir(&archives)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "deb"));
    files.sort();

    step(&format!("unpacking {} packages", files.len()));
    workspace::discard(&root)?;
    merged_usr(&root)?;
    for file in &files {
        command::output(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&root))?;
        merge(&root, file)?;
    }
    let names: Vec<_> = files
        .iter()
        .filter_map(|file| file.file_name())
        .map(|name| name.to_string_lossy())
        .collect();
    let stamp = format!("{wanted}{}\n", names.join("\n"));
    // Unpacked, the packages are not needed any more; the stamp is written last: without it, all is done again.
    fs::remove_dir_all(&archives)?;
    fs::write(&stamp_file, &stamp)?;
    Ok(Sysroot { root, stamp })
}

/// Makes the links of a merged /usr, so that packages which still unpack into /bin, /sbin and /lib end up in /usr.
fn merged_usr(root: &Path) -> Result<()> {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(folder))?;
        std::os::unix::fs::symlink(format!("usr/{folder}"), root.join(folder))?;
    }
    Ok(())
}

/// Moves a folder's content where it belongs: `dpkg-deb --extract` replaces a link to a folder by the folder if the package has one.
fn merge(root: &Path, package: &Path) -> Result<()> {
    for folder in ["bin", "sbin", "lib", "lib64"] {
        let link = root.join(folder);
        if fs::symlink_metadata(&link)?.is_symlink() {
            continue;
        }
        let target = root.join("usr").join(folder);
        command::output(Command::new("cp").arg("-a").arg(link.join(".")).arg(&target))
            .with_context(|| format!("merging /{folder} of {}", package.display()))?;
        fs::remove_dir_all(&link)?;
        std::os::unix::fs::symlink(format!("usr/{folder}"), &link)?;
    }
    Ok(())
}

impl Apt {
    fn new(folder: &Path, suite: Suite) -> Result<Self> {
        let apt = Self {
            folder: folder.join("apt"),
        };
        for below in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.folder.join(below))?;
        }
        fs::write(apt.folder.join("sources.list"), source_line(suite)? + "\n")?;
        fs::write(apt.folder.join("status"), "")?;
        let at = apt.folder.display();
        let configuration = format!(
            r#"Dir::Etc::SourceList "{at}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{at}";
Dir::State::Lists "{at}/lists";
Dir::State::status "{at}/status";
Dir::Cache "{at}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
"#
        );
        fs::write(apt.folder.join("apt.conf"), configuration)?;
        Ok(apt)
    }

    /// Creates one like [`Apt::new`], for source packages.
    ///
    /// # Errors
    ///
    /// If its files cannot be written, or no mirror is known.
    pub(crate) fn with_sources(folder: &Path, suite: Suite) -> Result<Self> {
        let apt = Self::new(folder, suite)?;
        let list = apt.folder.join("sources.list");
        let sources = fs::read_to_string(&list)?.replacen("deb ", "deb-src ", 1);
        fs::write(&list, sources)?;
        Ok(apt)
    }

    /// Returns the file that tells apt's programs to use all this.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.join("apt.conf")
    }

    /// Returns the command `apt-get` with this configuration.
    pub(crate) fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", self.configuration()).args(["-q", "-y"]);
        command
    }

    /// Fetches the package lists. Those of a suite in the making may have expired on a mirror that is behind: they are used all the same,
    /// with a warning. They are signed, and what they name is checked against them; that a newer list may exist does no harm to a test.
    ///
    /// # Errors
    ///
    /// If a list cannot be fetched, is not signed, or has expired and the suite is not in the making.
    pub(crate) fn update(&self, suite: Suite) -> Result<()> {
        let strict = command::output(self.get().arg("update"));
        if strict.is_ok() || !suite.in_the_making() {
            return strict.map(drop);
        }
        command::output(self.get().args(EXPIRED_IS_FINE).arg("update"))?;
        step(&format!(
            "the mirror's lists of Debian {} have expired; their signatures hold, so they are used",
            suite.name()
        ));
        Ok(())
    }

    /// Returns the packages and their dependencies, as `name=version`, without those to be left out.
    fn resolve(&self, packages: &[String]) -> Result<Vec<String>> {
        let plan = command::text(
            self.get()
                .args(["--simulate", "--no-install-recommends", "install"])
                .args(packages),
        )
        .context("resolving packages")?;
        let resolved: Vec<String> = plan
            .lines()
            .filter_map(planned)
            .filter(|name| !left_out(name) || packages.iter().any(|package| is_of(name, package)))
            .collect();
        if resolved.is_empty() {
            return Err(anyhow!("apt resolved no package out of {}", packages.join(" ")));
        }
        Ok(resolved)
    }
}

/// Returns the line `Inst name (version suite [arch])` as `name=version`.
fn planned(line: &str) -> Option<String> {
    let mut words = line.strip_prefix("Inst ")?.split_whitespace();
    let name = words.next()?;
    let version = words.next()?.strip_prefix('(')?;
    Some(format!("{name}={version}"))
}

/// Returns whether `name=version` is a version of this package.
fn is_of(name: &str, package: &str) -> bool {
    name.split_once('=').is_some_and(|(name, _)| name == package)
}

fn left_out(name: &str) -> bool {
    // `linux-base` has scripts; `linux-base-VERSION` has the lists of a kernel's modules.
    let of_a_kernel = name
        .strip_prefix("linux-base-")
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    LEFT_OUT.iter().any(|prefix| name.starts_with(prefix)) && !name.starts_with("libsystemd") && !of_a_kernel
}

/// Returns the line of a `sources.list` for a suite.
///
/// # Errors
///
/// If no mirror is known.
pub(crate) fn source_line(suite: Suite) -> Result<String> {
    Ok(format!("deb [signed-by={KEYRING}] {} {} main", mirror()?, suite.name()))
}

/// Returns the mirror that the machine's own sources name.
///
/// # Errors
///
/// If they name none.
pub(crate) fn mirror() -> Result<String> {
    let folder = Path::new("/etc/apt");
    let mut files = vec![folder.join("sources.list")];
    if let Ok(parts) = fs::read_dir(folder.join("sources.list.d")) {
        let mut parts: Vec<_> = parts.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        parts.sort();
        files.extend(parts);
    }
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| mirror_in(&text))
        .context("no file of /etc/apt names a mirror of Debian's main archive")
}

/// Returns the first mirror of Debian's main archive in a list of either format.
fn mirror_in(text: &str) -> Option<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_read_from_both_formats() {
        let new = "# http://old.example/debian\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n";
        let old =
            "deb-src http://x.example/debian a main\ndeb [arch=amd64] http://mirror.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(new).unwrap(), "http://mirror.example/debian");
        assert_eq!(mirror_in(old).unwrap(), "http://mirror.example/debian/");
        assert_eq!(mirror_in("URIs: http://mirror.example/debian-security\n"), None);
    }

    #[test]
    fn simulated_installations_are_read() {
        assert_eq!(
            planned("Inst ndctl (81-1 Debian:13.2/stable [amd64])").unwrap(),
            "ndctl=81-1"
        );
        assert_eq!(planned("Conf ndctl (81-1 Debian:13.2/stable [amd64])"), None);
        assert!(left_out("python3-minimal=3.13.5-1"));
        assert!(left_out("systemd=257"));
        assert!(!left_out("libsystemd0=257"));
        assert!(is_of("coreutils=9.1-1", "coreutils") && !is_of("coreutils-doc=9.1-1", "coreutils"));
        assert!(left_out("linux-base=4.12"));
        assert!(!left_out("linux-base-7.2.12+deb14-amd64=7.2.12-1"));
    }
}
