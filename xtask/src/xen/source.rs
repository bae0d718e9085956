//! Debian's source packages of Xen: where they are, and fetching them.
//!
//! A file of `xen/sources` names the tarballs of a release. They come from the mirror that the machine's own sources name.

use crate::command;
use crate::packages::{self, Apt};
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release that the patches are made for.
pub(crate) const RELEASE: &str = "4.20.3";

/// Downloads a file and compares its checksum; part of apt, though not on the path.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// The two tarballs of a source package.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) upstream: PathBuf,
    pub(crate) debian: PathBuf,
}

/// A file of a source package.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    address: String,
    name: String,
    checksum: String,
}

/// Fetches a release's source package, unless it is there.
///
/// If the mirror does not have the release that the patches are made for, the newest source of the suite replaces it: a mirror keeps only
/// what its suites refer to. Other releases are not replaced: a caller that names one wants that one.
///
/// The `.dsc`, which mirrors may lack, is not needed: its only use would be the checksums, and these are known.
///
/// # Errors
///
/// If the release does not exist, or the mirror has no source.
pub(crate) fn source(release: &str) -> Result<Source> {
    let wanted = own(release, &packages::mirror()?)?;
    let folder = workspace::target().join("xen").join(release).join("source");
    let known = folder.join("files");
    if let Ok(names) = fs::read_to_string(&known)
        && let Some(source) = Source::among(&folder, names.lines())
        && source.upstream.is_file()
        && source.debian.is_file()
    {
        return Ok(source);
    }

    step(&format!("fetching Debian's source of Xen {release}"));
    fs::create_dir_all(&folder)?;
    let apt = Apt::with_sources(&folder, super::SUITE)?;
    let fetched = match fetch(&apt, &wanted, &folder) {
        Err(error) if release == RELEASE => {
            step(&format!("trying the newest source instead ({error:#})"));
            let newest = newest(&apt)?;
            fetch(&apt, &newest, &folder)
                .context("the mirror's index names a source that the mirror does not have; a few hours later, or with another mirror in the machine's apt sources, it may")?
        }
        Err(error) => {
            return Err(error.context(format!(
                "the mirror does not have Debian's source of Xen {release}: it keeps what its suites refer to, and gets what their index names \
                later than the index; `cargo xtask xen` builds {RELEASE}"
            )));
        }
        Ok(fetched) => fetched,
    };
    let names: Vec<String> = fetched.iter().map(|file| file.name.clone()).collect();
    let source =
        Source::among(&folder, names.iter().map(String::as_str)).context("these are not the tarballs of a source")?;
    fs::write(&known, names.join("\n"))?;
    Ok(source)
}

/// Returns the releases that `xen/sources` names.
///
/// # Errors
///
/// If the folder cannot be read.
pub(crate) fn releases() -> Result<Vec<String>> {
    let folder = workspace::root().join("xen/sources");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut releases = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    releases.sort();
    Ok(releases)
}

/// Returns the tarballs of a release, on this mirror.
fn own(release: &str, mirror: &str) -> Result<Vec<Listed>> {
    let releases = releases()?;
    ensure!(
        releases.iter().any(|known| known == release),
        "xen/sources has no release {release}; there are: {}",
        releases.join(", ")
    );
    let file = workspace::root().join("xen/sources").join(release);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let Some((checksum, name)) = line.split_once(' ') else {
                bail!("{}: a line has a checksum and a name", file.display());
            };
            let escaped = name.replace('+', "%2b");
            Ok(Listed {
                address: format!("{}/pool/main/x/xen/{escaped}", mirror.trim_end_matches('/')),
                name: name.to_owned(),
                checksum: checksum.to_owned(),
            })
        })
        .collect()
}

/// Returns the tarballs that the suite's signed index has.
fn newest(apt: &Apt) -> Result<Vec<Listed>> {
    command::output(apt.get().arg("update"))?;
    let listing = command::text(apt.get().args(["--print-uris", "source", "xen"]))?;
    let listed: Vec<Listed> = listing.lines().filter_map(listed).collect();
    Ok(listed
        .into_iter()
        .filter(|file| file.name.ends_with(".tar.xz"))
        .collect())
}

/// Downloads files, and compares their checksums.
fn fetch(apt: &Apt, files: &[Listed], folder: &Path) -> Result<Vec<Listed>> {
    for file in files {
        let mut helper = Command::new(APT_HELPER);
        helper
            .env("APT_CONFIG", apt.configuration())
            .arg("download-file")
            .arg(&file.address)
            .arg(folder.join(&file.name))
            .arg(&file.checksum);
        command::output(&mut helper).with_context(|| format!("fetching {}", file.name))?;
    }
    Ok(files.to_vec())
}

impl Source {
    /// Returns its name, which changes with its version.
    pub(crate) fn name(&self) -> String {
        let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{} {}", name(&self.upstream), name(&self.debian))
    }

    /// Returns the version of Debian's package, for example `4.20.3+127-gc42374a105-0+deb13u1`.
    ///
    /// # Errors
    ///
    /// If the tarball is not called as those of a source package are.
    pub(crate) fn version(&self) -> Result<String> {
        let name = self.debian.file_name().unwrap_or_default().to_string_lossy();
        let version = name
            .strip_prefix("xen_")
            .and_then(|name| name.strip_suffix(".debian.tar.xz"));
        Ok(version
            .with_context(|| format!("{name} is not a source of Xen"))?
            .to_owned())
    }

    fn among<'a>(folder: &Path, names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let find = |ending: &str| {
            names
                .clone()
                .find(|name| name.ends_with(ending))
                .map(|name| folder.join(name))
        };
        Some(Self {
            upstream: find(".orig.tar.xz")?,
            debian: find(".debian.tar.xz")?,
        })
    }
}

/// Parses `'address' name size SHA256:checksum`, as apt prints it. `None` for other lines, and for files without a SHA-256.
fn listed(line: &str) -> Option<Listed> {
    let mut words = line.split_whitespace();
    let address = words.next()?.strip_prefix('\'')?.strip_suffix('\'')?;
    let name = words.next()?;
    let checksum = words.nth(1)?;
    // The name becomes a path below.
    let plain = !name.contains('/') && !name.starts_with('.');
    (plain && checksum.starts_with("SHA256:")).then(|| Listed {
        address: address.to_owned(),
        name: name.to_owned(),
        checksum: checksum.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read() {
        let line = "'http://mirror.example/x/xen_4.20%2bg1.orig.tar.xz' xen_4.20+g1.orig.tar.xz 4961352 SHA256:df08";
        assert_eq!(
            listed(line).unwrap(),
            Listed {
                address: "http://mirror.example/x/xen_4.20%2bg1.orig.tar.xz".to_owned(),
                name: "xen_4.20+g1.orig.tar.xz".to_owned(),
                checksum: "SHA256:df08".to_owned(),
            }
        );
        assert_eq!(listed("Need to get 5105 kB of source archives."), None);
        assert_eq!(listed("'http://mirror.example/x' ../x.orig.tar.xz 1 SHA256:00"), None);
        assert_eq!(listed("'http://mirror.example/x' x.orig.tar.xz 1 MD5Sum:00"), None);
    }

    #[test]
    fn every_release_names_its_tarballs() {
        let releases = releases().unwrap();
        assert!(releases.iter().any(|release| release == RELEASE));
        for release in releases {
            let own = own(&release, "http://mirror.example/debian/").unwrap();
            let source = Source::among(Path::new("/f"), own.iter().map(|file| file.name.as_str())).unwrap();
            assert!(source.version().unwrap().starts_with(&release), "{source:?}");
            for file in own {
                let start = format!("http://mirror.example/debian/pool/main/x/xen/xen_{release}");
                assert!(file.address.starts_with(&start), "{file:?}");
                assert!(!file.address.contains('+'), "{file:?}");
                assert_eq!(file.checksum.len(), "SHA256:".len() + 64, "{file:?}");
            }
        }
        own("3.0", "http://mirror.example/debian/").unwrap_err();
    }

    #[test]
    fn both_tarballs_are_wanted() {
        let folder = Path::new("/f");
        let names = ["x.dsc", "x.orig.tar.xz", "x-1.debian.tar.xz"];
        let source = Source::among(folder, names.iter().copied()).unwrap();
        assert_eq!(source.upstream, folder.join("x.orig.tar.xz"));
        assert_eq!(source.debian, folder.join("x-1.debian.tar.xz"));
        assert!(Source::among(folder, names.iter().copied().take(2)).is_none());
    }
}
