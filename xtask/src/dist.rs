//! `cargo xtask dist`: what packagers ship. Debian packages, a tarball of static binaries, manual pages, completions.

use crate::command;
use crate::host::{self, Need};
use crate::mutants;
use crate::progress::step;
use crate::tools;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
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
    host::install(host::BPF)?;
    let build = workspace::target().join("packages");
    let epoch = epoch(workspace::root())?;
    build_dynamic(workspace::root(), &build)?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    debs(workspace::root(), &build, folder, &epoch, version)
}

/// Makes everything out of the workspace at `root`, with build artefacts below `target`, in `folder`.
fn make(root: &Path, target: &Path, folder: &Path, version: Option<&str>) -> Result<Vec<PathBuf>> {
    host::install(NEEDS)?;
    host::install(host::BPF)?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
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
    if manual.exists() {
        fs::remove_dir_all(&manual)?;
    }
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
    for file in ["LICENSE", "LICENSE-MIT", "LICENSE-APACHE", "README.md", "CHANGELOG.md"] {
        fs::copy(root.join(file), stage.join(file)).with_context(|| format!("copying {file}"))?;
    }
    fs::copy(root.join("report/LICENSE"), stage.join("LICENSE-GPL-3"))?;
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
    if again.exists() {
        fs::remove_dir_all(&again)?;
    }
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

/// Packages the crates for a registry, and builds each from its package alone.
fn check_crates() -> Result<()> {
    step("packaging the crates");
    let mut cargo = workspace::cargo();
    cargo.args(["package", "--quiet", "--locked", "--allow-dirty"]);
    for package in ["xen-pmem-format"].iter().chain(PACKAGES.iter().take(3)) {
        cargo.args(["--package", package]);
    }
    command::run(&mut cargo)
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
