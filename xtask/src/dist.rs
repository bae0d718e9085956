//! `cargo xtask dist`: what packagers ship. Debian packages, a tarball of static binaries, manual pages, completions.

use crate::command;
use crate::crates::{self, Package};
use crate::host::{self, Need};
use crate::mutants;
use crate::progress::step;
use crate::tools;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What packaging takes.
const NEEDS: &[Need] = &[
    Need {
        program: "dpkg-shlibdeps",
        package: "dpkg-dev",
    },
    Need {
        program: "xz",
        package: "xz-utils",
    },
];

/// What checking the packages takes.
const CHECK_NEEDS: &[Need] = &[Need {
    program: "lintian",
    package: "lintian",
}];

/// The crates that packages are made of; the last is the one that pulls in the others.
const PACKAGES: [&str; 4] = [
    "xen-pmem-provision",
    "xen-pmem-discover",
    "xen-pmem-report",
    "xen-pmem-packaging",
];

/// What the tarball has of the repository, at the same paths: all that belongs to the binaries wherever they are packaged.
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
    "packaging/systemd",
    "packaging/udev",
    "report/LICENSE",
    "xen/LICENSE",
    "xen/include",
    "xen/patches",
];

/// What makes manual pages and completions.
const MANUALS: &str = "xen-pmem-manuals";

/// Options of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build everything a second time, in another folder, compare the bytes; run lintian; package the crates
    #[arg(long)]
    check: bool,
}

/// Makes the packages and the tarball in `target/dist`.
///
/// # Errors
///
/// If something does not build; with `--check`, if two builds differ or lintian finds an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = workspace::target().join("dist");
    let made = make(workspace::root(), &workspace::target(), &folder, None)?;
    if options.check {
        lint(&made)?;
        check_reproducible(&made)?;
        check_complete(&made)?;
        check_crates()?;
    }
    for file in &made {
        println!("{}", file.display());
    }
    Ok(())
}

/// Makes the Debian packages in `folder`, of another version if one is given.
///
/// # Errors
///
/// If something does not build.
pub(crate) fn packages(folder: &Path, version: Option<&str>) -> Result<Vec<PathBuf>> {
    host::install(NEEDS)?;
    host::install(host::BUILD)?;
    let build = workspace::target().join("packages");
    let epoch = epoch(workspace::root())?;
    build_dynamic(workspace::root(), &build)?;
    workspace::discard(folder)?;
    debs(workspace::root(), &build, folder, &epoch, version)
}

/// Makes everything out of the workspace at `root`, with build artefacts below `target`, in `folder`.
fn make(root: &Path, target: &Path, folder: &Path, version: Option<&str>) -> Result<Vec<PathBuf>> {
    host::install(NEEDS)?;
    host::install(host::BUILD)?;
    workspace::discard(folder)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let epoch = epoch(root)?;
    let build = target.join("packages");
    step("building the tools for packages");
    let manual = build_dynamic(root, &build)?;
    let mut made = debs(root, &build, folder, &epoch, version)?;
    step("building the tools as static binaries");
    let tools = tools::build_in(root, &target.join("static"))?;
    made.push(tarball(root, &tools, &manual, folder, &epoch)?);
    made.push(checksums(&made, folder)?);
    Ok(made)
}

/// Builds the tools against the system's libraries, and their manual pages. Returns the folder of the latter.
fn build_dynamic(root: &Path, build: &Path) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo
        .current_dir(root)
        .env("CARGO_TARGET_DIR", build)
        .env("CARGO_ENCODED_RUSTFLAGS", tools::flags(root, build, &[]))
        .args(["build", "--quiet", "--release", "--locked", "--bins"]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    command::run(&mut cargo)?;
    // cargo-deb finds it there, wherever the folder of build artefacts is.
    let manual = build.join("release/manual");
    workspace::discard(&manual)?;
    command::run(Command::new(build.join("release").join(MANUALS)).arg(&manual))?;
    let pages = fs::read_dir(manual.join("man"))?.map(|entry| Ok(entry?.path()));
    let pages = pages.collect::<std::io::Result<Vec<PathBuf>>>()?;
    command::output(Command::new("gzip").args(["-9", "--no-name"]).args(pages))?;
    Ok(manual)
}

/// The time that everything in a package has: that of the last commit.
fn epoch(root: &Path) -> Result<String> {
    let time = command::text(
        Command::new("git")
            .arg("-C")
            .arg(root)
            .args(["log", "-1", "--format=%ct"]),
    )
    .context("the time of the last commit, which packages are dated with")?;
    Ok(time.trim().to_owned())
}

fn debs(root: &Path, build: &Path, folder: &Path, epoch: &str, version: Option<&str>) -> Result<Vec<PathBuf>> {
    let cargo_deb = mutants::install("cargo-deb")?;
    step("making Debian packages");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    PACKAGES
        .iter()
        .map(|package| {
            let mut command = Command::new(&cargo_deb);
            command
                .current_dir(root)
                .env("CARGO_TARGET_DIR", build)
                .env("SOURCE_DATE_EPOCH", epoch)
                .args([
                    "deb",
                    "--quiet",
                    "--no-build",
                    "--locked",
                    "--package",
                    package,
                    "--output",
                ])
                .arg(folder);
            if let Some(version) = version {
                command.args(["--deb-version", version]);
            }
            let path = command::text(&mut command)?;
            Ok(PathBuf::from(path.trim()))
        })
        .collect()
}

/// The static binaries with their manual pages and completions.
fn tarball(root: &Path, tools: &tools::Tools, manual: &Path, folder: &Path, epoch: &str) -> Result<PathBuf> {
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

fn checksums(files: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let names: Vec<OsString> = files
        .iter()
        .filter_map(|file| file.file_name().map(OsString::from))
        .collect();
    let sums = command::text(Command::new("sha256sum").current_dir(folder).args(names))?;
    let path = folder.join("SHA256SUMS");
    fs::write(&path, sums)?;
    Ok(path)
}

/// Makes everything again, out of a clone in another folder, and compares.
fn check_reproducible(made: &[PathBuf]) -> Result<()> {
    step("making everything again in another folder");
    let again = workspace::target().join("dist-again");
    workspace::discard(&again)?;
    let root = again.join("another/place");
    command::output(
        Command::new("git")
            .args(["clone", "--quiet", "--no-hardlinks"])
            .arg(workspace::root())
            .arg(&root),
    )?;
    let other = make(&root, &again.join("target"), &again.join("dist"), None)?;
    let different: Vec<String> = made
        .iter()
        .zip(&other)
        .filter_map(|(one, other)| match (fs::read(one), fs::read(other)) {
            (Ok(a), Ok(b)) if a == b => None,
            _ => Some(format!("{} and {}", one.display(), other.display())),
        })
        .collect();
    if made.len() != other.len() || !different.is_empty() {
        bail!(
            "two builds differ (of committed changes only?):\n{}",
            different.join("\n")
        );
    }
    fs::remove_dir_all(&again)?;
    println!("{} files, the same bytes twice", made.len());
    Ok(())
}

/// Whether the tarball has all that the Debian packages have, but for what only Debian wants: a packager of another system finds
/// everything there.
fn check_complete(made: &[PathBuf]) -> Result<()> {
    step("comparing the tarball with the Debian packages");
    let folder = workspace::target().join("dist-unpacked");
    workspace::discard(&folder)?;
    let (debian, tarball) = (folder.join("debian"), folder.join("tarball"));
    fs::create_dir_all(&tarball)?;
    for file in made {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("deb") => command::output(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&debian))?,
            Some("xz") => command::output(Command::new("tar").arg("-C").arg(&tarball).arg("-xf").arg(file))?,
            _ => continue,
        };
    }
    let programs: BTreeSet<OsString> = tools::PROGRAMS.into_iter().map(OsString::from).collect();
    let mut shipped = BTreeSet::new();
    for path in files(&tarball)? {
        shipped.insert(fs::read(path)?);
    }
    let mut missing = Vec::new();
    for path in files(&debian)? {
        let name = path.file_name().unwrap_or_default();
        let only_debian = name == "copyright"
            || name.to_string_lossy().starts_with("changelog")
            || path
                .parent()
                .is_some_and(|folder| folder.ends_with("lintian/overrides"));
        // The binaries differ: those of the tarball are static.
        let is_program = programs.contains(name) && path.parent().is_some_and(|folder| folder.ends_with("usr/sbin"));
        if !only_debian && !is_program && !shipped.contains(&fs::read(&path)?) {
            missing.push(path.strip_prefix(&debian)?.display().to_string());
        }
    }
    if !missing.is_empty() {
        bail!("the packages have, and the tarball lacks\n{}", missing.join("\n"));
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else if entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Packages every crate as for a registry, those that never go there too, and builds each from its package alone.
fn check_crates() -> Result<()> {
    step("packaging the crates");
    // Cargo takes what it once unpacked or built of a version for that version for ever; ours change between two runs. So each
    // run begins with neither.
    let folder = workspace::target().join("crates");
    workspace::discard(&folder)?;
    forget_unpacked(&workspace::cargo_home().join("registry/src"), &crates::own()?)?;
    command::run(
        workspace::cargo()
            .args([
                "package",
                "--workspace",
                "--quiet",
                "--locked",
                "--allow-dirty",
                "--target-dir",
            ])
            .arg(&folder),
    )
}

/// Removes what Cargo unpacked of these packages from the folders of its registries, which are below `unpacked`.
fn forget_unpacked(unpacked: &Path, packages: &[Package]) -> Result<()> {
    if !unpacked.exists() {
        return Ok(());
    }
    for registry in fs::read_dir(unpacked).with_context(|| format!("cannot read {}", unpacked.display()))? {
        let registry = registry?.path();
        for Package { name, version, .. } in packages {
            workspace::discard(&registry.join(format!("{name}-{version}")))?;
        }
    }
    Ok(())
}

fn lint(made: &[PathBuf]) -> Result<()> {
    host::install(CHECK_NEEDS)?;
    step("running lintian");
    let debs = made
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "deb"));
    command::run(
        Command::new("lintian")
            .args(["--fail-on", "error", "--allow-root"])
            .args(debs),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_unpacked_earlier_are_forgotten_and_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let (ours, others) = ("xen-pmem-format-0.1.0", "xen-pmem-format-0.0.9");
        for folder in [ours, others] {
            fs::create_dir_all(home.path().join("registry").join(folder).join("src")).unwrap();
        }
        let packages = [Package {
            name: "xen-pmem-format".to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            links: None,
            rust_version: None,
            dependencies: Vec::new(),
        }];
        forget_unpacked(home.path(), &packages).unwrap();
        assert!(!home.path().join("registry").join(ours).exists());
        assert!(home.path().join("registry").join(others).exists());
        forget_unpacked(&home.path().join("nothing"), &packages).unwrap();
    }

    /// The files of the repository that the Debian packages have, and where they put them, stand in the document for other packagers.
    #[test]
    fn the_document_says_where_everything_goes() {
        let document = fs::read_to_string(workspace::root().join("docs/packaging.md")).unwrap();
        let mut seen = 0;
        for package in ["provision", "discover", "report", "packaging"] {
            let manifest = fs::read_to_string(workspace::root().join(package).join("Cargo.toml")).unwrap();
            for line in manifest.lines().filter(|line| line.starts_with("    [\"")) {
                let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
                let [from, to, _] = words.as_slice() else {
                    panic!("{line}")
                };
                // What is made is named by program there.
                let Some(from) = from.strip_prefix("../") else { continue };
                if from.ends_with("lintian-overrides") {
                    continue;
                }
                let row = document.lines().find(|row| row.contains(&format!("`{from}`")));
                let row = row.unwrap_or_else(|| panic!("{from} is not in the document"));
                // The second of the vectors and the headers stands with the documents.
                let folder = to.trim_end_matches('/').trim_end_matches("/vectors");
                let is_there = row.contains(&format!("`/{folder}`")) || row.contains("| the same |");
                assert!(is_there, "{from} goes to {to}: {row}");
                seen += 1;
            }
        }
        assert!(seen >= 10, "{seen} files only");
    }
}
