//! Debian's Xen with the project's patches, built from Debian's source package.
//!
//! Neither sources nor binaries are ever committed. The source tarballs come from the mirror that the machine's own sources name; their
//! checksums are `xen/patches/source`'s, or the archive's signed index's. Nothing is built again while source version, patches and configuration are the same.

use crate::command;
use crate::host::{self, Need};
use crate::packages::{self, Apt};
use crate::progress::step;
use crate::suite::Suite;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suite whose Xen the patches are for.
pub(crate) const SUITE: Suite = Suite::Trixie;

/// Downloads a file and compares its checksum; part of apt, though not on the path.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// What building takes.
const NEEDS: &[Need] = &[
    Need {
        program: "gcc",
        package: "build-essential",
    },
    Need {
        program: "make",
        package: "build-essential",
    },
    Need {
        program: "bison",
        package: "bison",
    },
    Need {
        program: "flex",
        package: "flex",
    },
    Need {
        program: "python3",
        package: "python3",
    },
    Need {
        program: "patch",
        package: "patch",
    },
    Need {
        program: "xz",
        package: "xz-utils",
    },
];

/// Which Xen to build.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build with assertions and debug output (CONFIG_DEBUG=y), which Debian's build is without
    #[arg(long)]
    debug: bool,
}

/// Builds and prints the path of the hypervisor.
///
/// # Errors
///
/// As [`build`].
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("{}", build(options.debug)?.display());
    Ok(())
}

/// Builds the patched hypervisor and returns the path of the ELF file that boots.
///
/// # Errors
///
/// If the source cannot be fetched, a patch does not apply, or the build fails.
pub(crate) fn build(debug: bool) -> Result<PathBuf> {
    host::install(NEEDS)?;
    let source = source()?;
    let patches = patches()?;
    let folder = workspace::target()
        .join("xen")
        .join(if debug { "debug" } else { "release" });
    let hypervisor = folder.join("xen");
    let stamp_file = folder.join("stamp");
    let stamp = stamp(&source, &patches, debug)?;
    if hypervisor.is_file() && fs::read_to_string(&stamp_file).is_ok_and(|text| text == stamp) {
        return Ok(hypervisor);
    }

    workspace::discard(&folder)?;
    let tree = folder.join("tree");
    unpack(&source, &patches, &tree)?;
    make(&tree, debug, &folder.join("build.log"))?;
    fs::copy(tree.join("xen/xen"), &hypervisor).context("the build made no hypervisor")?;
    fs::remove_dir_all(&tree)?;
    // Last: without it, all is done again.
    fs::write(&stamp_file, &stamp)?;
    Ok(hypervisor)
}

/// The two tarballs of a source package.
struct Source {
    upstream: PathBuf,
    debian: PathBuf,
}

/// A file of a source package.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    address: String,
    name: String,
    checksum: String,
}

/// Fetches the source package, unless it is there: the one that the series is made for, or, when the mirror has that no more, the
/// suite's newest.
///
/// The `.dsc`, which mirrors may lack, is not needed: its only use would be the checksums, and these are known.
fn source() -> Result<Source> {
    let folder = workspace::target().join("xen").join("source");
    let known = folder.join("files");
    if let Ok(names) = fs::read_to_string(&known)
        && let Some(source) = Source::among(&folder, names.lines())
        && source.upstream.is_file()
        && source.debian.is_file()
    {
        return Ok(source);
    }

    step(&format!("fetching the source of Debian {}'s Xen", SUITE.name()));
    fs::create_dir_all(&folder)?;
    let apt = Apt::with_sources(&folder, SUITE)?;
    let own = own(&packages::mirror()?)?;
    let fetched = fetch(&apt, &own, &folder).or_else(|error| {
        step(&format!("trying the newest source instead ({error:#})"));
        let newest = newest(&apt)?;
        fetch(&apt, &newest, &folder)
    })?;
    let names: Vec<String> = fetched.iter().map(|file| file.name.clone()).collect();
    let source =
        Source::among(&folder, names.iter().map(String::as_str)).context("these are not the tarballs of a source")?;
    fs::write(&known, names.join("\n"))?;
    Ok(source)
}

/// The tarballs that the series is made for, on this mirror.
fn own(mirror: &str) -> Result<Vec<Listed>> {
    let file = workspace::root().join("xen/patches/source");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (checksum, name) = line
                .split_once(' ')
                .context("xen/patches/source: a checksum and a name")?;
            let escaped = name.replace('+', "%2b");
            Ok(Listed {
                address: format!("{}/pool/main/x/xen/{escaped}", mirror.trim_end_matches('/')),
                name: name.to_owned(),
                checksum: checksum.to_owned(),
            })
        })
        .collect()
}

/// The tarballs that the suite's signed index has.
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

/// `'address' name size SHA256:checksum`, as apt prints it. Other lines, and files without a SHA-256, are none.
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

/// The paths of a series' patches, in order.
fn series(folder: &Path) -> Result<Vec<PathBuf>> {
    let file = folder.join("series");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let names = text.lines().map(str::trim);
    Ok(names
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(|name| folder.join(name))
        .collect())
}

/// Our own patches.
fn patches() -> Result<Vec<PathBuf>> {
    series(&workspace::root().join("xen").join("patches"))
}

/// All that the result depends on: the source's version, the whole text of our patches, and the configuration.
fn stamp(source: &Source, patches: &[PathBuf], debug: bool) -> Result<String> {
    let mut stamp = String::new();
    for file in [&source.upstream, &source.debian] {
        stamp.push_str(&file.file_name().unwrap_or_default().to_string_lossy());
        stamp.push('\n');
    }
    stamp.push_str(&format!("debug={debug}\n"));
    for patch in patches {
        let text = fs::read_to_string(patch).with_context(|| format!("cannot read {}", patch.display()))?;
        stamp.push_str(&text);
    }
    Ok(stamp)
}

/// Unpacks the source and applies Debian's patches, then ours.
fn unpack(source: &Source, patches: &[PathBuf], tree: &Path) -> Result<()> {
    step("unpacking and patching Xen");
    fs::create_dir_all(tree)?;
    let tar = |file: &Path| {
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(file).arg("-C").arg(tree);
        tar
    };
    command::output(tar(&source.upstream).arg("--strip-components=1"))?;
    command::output(&mut tar(&source.debian))?;
    let debian = series(&tree.join("debian").join("patches"))?;
    for patch in debian.iter().chain(patches) {
        let mut command = Command::new("patch");
        command
            .args(["-p1", "--silent", "--batch", "-d"])
            .arg(tree)
            .arg("-i")
            .arg(patch);
        command::output(&mut command)?;
    }
    Ok(())
}

/// Builds with Debian's configuration, but for assertions if asked for.
fn make(tree: &Path, debug: bool, log: &Path) -> Result<()> {
    step(&format!("building Xen{}", if debug { " with assertions" } else { "" }));
    let configuration = tree.join("debian").join("xen-kconfig");
    let text = fs::read_to_string(&configuration)
        .with_context(|| format!("Debian's source has no {}", configuration.display()))?;
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("CONFIG_DEBUG=")).collect();
    lines.push(if debug { "CONFIG_DEBUG=y" } else { "CONFIG_DEBUG=n" });
    fs::write(tree.join("xen/.config"), lines.join("\n") + "\n")?;

    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for target in ["olddefconfig", "build"] {
        let output = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let status = Command::new("make")
            .arg("-C")
            .arg(tree.join("xen"))
            .arg(format!("-j{jobs}"))
            .args(["XEN_TARGET_ARCH=x86_64", target])
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .context("cannot start `make`")?;
        if !status.success() {
            bail!("`make {target}` of Xen failed: {status}; see {}", log.display());
        }
    }
    Ok(())
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
    fn the_series_says_what_it_is_made_for() {
        let own = own("http://mirror.example/debian/").unwrap();
        assert!(Source::among(Path::new("/f"), own.iter().map(|file| file.name.as_str())).is_some());
        for file in own {
            assert!(
                file.address
                    .starts_with("http://mirror.example/debian/pool/main/x/xen/xen_4.20"),
                "{file:?}"
            );
            assert!(!file.address.contains('+'), "{file:?}");
            assert_eq!(file.checksum.len(), "SHA256:".len() + 64, "{file:?}");
        }
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

    #[test]
    fn every_patch_of_the_series_is_there() {
        let folder = workspace::root().join("xen/patches");
        let patches = patches().unwrap();
        assert!(!patches.is_empty());
        let there = fs::read_dir(folder).unwrap().filter_map(Result::ok);
        let there = there.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "patch"));
        assert_eq!(there.count(), patches.len());
        assert!(patches.iter().all(|patch| patch.is_file()));
    }
}
