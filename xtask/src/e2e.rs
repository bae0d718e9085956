//! `cargo xtask e2e`: sets up what the scenarios need and runs them.

use crate::command;
use crate::dist;
use crate::host;
use crate::image::Image;
use crate::kernel::{self, Kernels};
use crate::packages::{self, Sysroot};
use crate::progress::step;
use crate::suite::{Suite, Suites};
use crate::tools::{self, Tools};
use crate::{libraries, modules, qemu, system, workspace, xen};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask e2e`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Debian release that guests are made of: trixie, bookworm, bullseye, forky, or all, one after the other
    #[arg(long, default_value = "trixie")]
    suite: Suites,
    /// List the scenarios and end
    #[arg(long)]
    list: bool,
    /// Keep each VM's files (disk images, console log) and say where they are
    #[arg(long)]
    keep: bool,
    /// Boot Dom0 with a blank NVDIMM, or one with this image's content, and give a shell in it, instead of running scenarios
    #[arg(long, value_name = "IMAGE", num_args = 0..=1, require_equals = true)]
    shell: Option<Option<PathBuf>>,
    /// Boot each VM instead of waking it up from a snapshot of one of the same make
    #[arg(long)]
    boot: bool,
    /// Leave out what needs a Xen other than Debian's own
    #[arg(long)]
    stock: bool,
    /// Give machines with Xen an IOMMU: `amd` or `intel`
    #[arg(long, value_name = "KIND")]
    iommu: Option<String>,
    /// Start machines with this QEMU, a program or the path of one [default: qemu-system-x86_64, or what XEN_PMEM_QEMU names]
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<OsString>,
    /// How many scenarios run at once [default: one more than there are processors, for some always wait]
    #[arg(long)]
    jobs: Option<usize>,
    /// Run these scenarios only
    scenarios: Vec<String>,
}

impl Options {
    /// Returns whether scenarios run on this suite.
    #[cfg(test)]
    pub(crate) fn is_for(&self, suite: Suite) -> bool {
        self.suite.0.contains(&suite)
    }

    /// Returns the options for these scenarios on this suite, with their files kept.
    pub(crate) fn keeping(suite: Suite, scenarios: &[&str]) -> Self {
        Self {
            suite: Suites(vec![suite]),
            list: false,
            keep: true,
            shell: None,
            boot: false,
            stock: false,
            iommu: None,
            qemu: None,
            jobs: None,
            scenarios: scenarios.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Programs that guests have, where the packages put them; `{xen}` stands for Xen's version.
const PROGRAMS: &[&str] = &[
    "usr/bin/kmod",
    "usr/bin/ndctl",
    "usr/sbin/sgdisk",
    "usr/sbin/sfdisk",
    "usr/sbin/parted",
    "usr/sbin/partprobe",
    "usr/sbin/mkswap",
    "usr/sbin/mke2fs",
    "usr/sbin/mkfs.ext4",
    "usr/sbin/e2fsck",
    "usr/sbin/blkid",
    "usr/bin/lsblk",
    "usr/bin/strace",
    "usr/bin/flock",
    "usr/bin/setpriv",
    "usr/sbin/dmidecode",
    "usr/bin/xenstore-ls",
    "usr/bin/xenstore-read",
    "usr/bin/xenstore-write",
    "usr/bin/xenstore-rm",
    "usr/bin/xenstore-watch",
    "usr/bin/xenstore",
    "usr/lib/xen-{xen}/bin/xenstored",
    "usr/lib/xen-{xen}/bin/xen-init-dom0",
    "usr/lib/xen-{xen}/bin/xl",
    "usr/lib/xen-{xen}/bin/xenconsoled",
];

/// What makes a suite's image: a change here makes it anew.
const RECIPE: [&str; 4] = [
    include_str!("e2e.rs"),
    include_str!("image.rs"),
    include_str!("libraries.rs"),
    include_str!("modules.rs"),
];

/// Runs the scenarios.
///
/// # Errors
///
/// If the set-up fails or a scenario does.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runner = runner("scenarios")?;
    for suite in &options.suite.0 {
        run_on(*suite, &runner, options)?;
    }
    Ok(())
}

/// Runs the scenarios on one suite.
fn run_on(suite: Suite, runner: &Path, options: &Options) -> Result<()> {
    let scenarios = || {
        let mut scenarios = Command::new(runner);
        // The patches are for one suite's Xen.
        if options.stock || suite != xen::SUITE {
            scenarios.arg("--stock-only");
        }
        if !suite.has_cxl() {
            scenarios.arg("--no-cxl");
        }
        scenarios
    };
    if options.list {
        return command::run(scenarios().arg("--list"));
    }
    // Report a wrong name before the set-up, not after it.
    let mut needs = scenarios();
    if let Some(iommu) = &options.iommu {
        needs.args(["--iommu", iommu]);
    }
    let needs = command::output(needs.arg("--needs").args(&options.scenarios))?;
    // A shell does not need what scenarios need.
    let needs = match options.shell {
        Some(_) => String::new(),
        None => String::from_utf8(needs)?,
    };
    let machines = set_up(suite, options.keep, &needs, options.qemu.as_deref())?;
    let mut scenarios = scenarios();
    scenarios.env(MANIFEST, &machines.manifest);
    if options.boot {
        scenarios.arg("--boot");
    }
    if let Some(iommu) = &options.iommu {
        scenarios.args(["--iommu", iommu]);
    }
    if let Some(image) = &options.shell {
        step("booting Dom0; leave its shell with `exit`");
        let mut shell = OsString::from("--shell");
        if let Some(image) = image {
            shell.push("=");
            shell.push(image);
        }
        return command::run(scenarios.arg(shell));
    }
    step(&format!("running the scenarios on {}", suite.name()));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = options.jobs.unwrap_or(processors + 1);
    scenarios.arg("--test-threads").arg(jobs.to_string());
    command::run(scenarios.args(&options.scenarios))
}

/// The environment variable that tells programs which boot machines where the manifest is.
pub(crate) const MANIFEST: &str = "XEN_PMEM_E2E";

/// All that it takes to boot machines, for as long as this lives.
pub(crate) struct Machines {
    /// Says where everything is.
    pub(crate) manifest: PathBuf,
    _turn: File,
}

/// Makes what machines need. `needs` has a word for each kind of hypervisor to start, `system` for an installed system, `toolstack` for
/// the series' own toolstack, and `cxl` for CXL memory. `qemu` names an emulator other than the usual one.
///
/// # Errors
///
/// If something cannot be fetched, built or made.
pub(crate) fn set_up(suite: Suite, keep: bool, needs: &str, qemu: Option<&OsStr>) -> Result<Machines> {
    let needs = |what: &str| needs.split_whitespace().any(|word| word == what);
    host::install(host::E2E)?;
    let turn = take_turn()?;
    let hypervisors = Hypervisors {
        patched: needs("patched").then(|| xen::build(false)).transpose()?,
        debug: needs("debug").then(|| xen::build(true)).transpose()?,
        xl: needs("toolstack").then(xen::toolstack::build).transpose()?,
    };
    // An installed system gets the patched Xen as operators do: by its packages.
    let xen_packages = (needs("system") && needs("toolstack"))
        .then(|| dist::xen_packages(&workspace::e2e(suite.name())?.join("xen-packages")))
        .transpose()?
        .unwrap_or_default();
    let own = qemu::path(qemu)?;
    let emulators = Emulators {
        cxl: needs("cxl").then(|| qemu::for_cxl(&own)).transpose()?,
        own,
    };
    let manifest = prepare(suite, keep, &emulators, &hypervisors, needs("system"), &xen_packages)?;
    Ok(Machines { manifest, _turn: turn })
}

/// Waits until no other run uses the images and the scenarios' folders, and keeps others out as long as the result lives.
fn take_turn() -> Result<File> {
    let path = workspace::e2e("")?.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        step("waiting for another `cargo xtask e2e` to end");
    }
    lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(lock)
}

/// Builds a program that boots machines.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn runner(name: &str) -> Result<PathBuf> {
    step(&format!("building the {name}"));
    command::run(workspace::cargo().args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "xen-pmem-integration",
        "--bin",
        name,
    ]))?;
    Ok(workspace::target().join("debug").join(name))
}

/// The emulator of machines, and that of machines with CXL memory, if there are any.
struct Emulators {
    own: PathBuf,
    cxl: Option<PathBuf>,
}

/// Builds of the patched Xen and of its toolstack, if they are needed.
struct Hypervisors {
    patched: Option<PathBuf>,
    debug: Option<PathBuf>,
    xl: Option<PathBuf>,
}

/// Makes all that guests need, and the manifest that says where it is.
fn prepare(
    suite: Suite,
    keep: bool,
    emulators: &Emulators,
    hypervisors: &Hypervisors,
    needs_system: bool,
    xen_packages: &[PathBuf],
) -> Result<PathBuf> {
    let folder = workspace::e2e(suite.name())?;
    let sysroot = packages::sysroot(suite)?;
    let base_stamp = folder.join("base.stamp");
    let mut recipe = DefaultHasher::new();
    RECIPE.hash(&mut recipe);
    let stamp = format!(
        "{}{}\nrecipe {:016x}\n",
        sysroot.stamp,
        PROGRAMS.join("\n"),
        recipe.finish()
    );
    let fresh = fs::read_to_string(&base_stamp).is_ok_and(|made| made == stamp);
    let kernels = kernel::prepare(suite, &sysroot.root, !fresh)?;
    let base = folder.join("base.cpio");
    if !fresh || !base.exists() {
        step("making the guest's image");
        make_base(suite, &sysroot, &kernels, &base)?;
        fs::write(&base_stamp, &stamp)?;
    }
    step("building the tools as static binaries");
    let tools = tools::build()?;
    let system = needs_system
        .then(|| system::prepare(suite, &tools.path(tools::AGENT), &tools.path(tools::STOPWATCH)))
        .transpose()?;
    let initramfs = folder.join("initramfs");
    make_initramfs(&base, &tools, &initramfs)?;
    let disk = folder.join("tools");
    make_tools_disk(&tools, hypervisors.xl.as_deref(), &disk)?;

    let manifest = json!({
        "qemu": emulators.own,
        "qemu_cxl": emulators.cxl,
        "suite": suite.name(),
        "xen_version": suite.xen_version(),
        "linux_version": kernels.version,
        "xen": kernels.xen,
        "xen_patched": hypervisors.patched,
        "xen_debug": hypervisors.debug,
        "xen_packages": xen_packages,
        "vmlinux": kernels.vmlinux,
        "vmlinuz": kernels.vmlinuz,
        "initramfs": initramfs,
        "tools": disk,
        "snapshots": folder.join("snapshots"),
        "system": system,
        "provision": tools.path("xen-pmem-provision"),
        "work": workspace::e2e("run")?,
        "keep": keep,
    });
    let path = folder.join("manifest.json");
    fs::write(&path, serde_json::to_string_pretty(&manifest)?)?;
    Ok(path)
}

/// Makes the suite's own part: programs, their libraries, kernel modules.
fn make_base(suite: Suite, sysroot: &Sysroot, kernels: &Kernels, base: &Path) -> Result<()> {
    let root = &sysroot.root;
    let stage = workspace::e2e(suite.name())?.join("modules");
    workspace::discard(&stage)?;
    modules::stage(root, &kernels.version, &stage)?;

    let mut image = Image::create(base)?;
    for folder in [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "mnt",
        "etc",
        "root",
        "var/lib/xenstored",
        "var/log",
        "usr/local/bin",
    ] {
        image.folder(Path::new(folder))?;
    }
    for folder in ["bin", "sbin", "lib", "lib64"] {
        image.link(Path::new(folder), &Path::new("usr").join(folder))?;
    }
    image.link(Path::new("var/run"), Path::new("/run"))?;
    image.link(Path::new("usr/bin/sh"), Path::new("busybox"))?;
    // Debian has wrappers there that pick the version of the Xen that runs.
    let xl = format!("/usr/lib/xen-{}/bin/xl", suite.xen_version());
    image.link(Path::new("usr/sbin/xl"), Path::new(&xl))?;
    for name in ["modprobe", "insmod", "rmmod", "lsmod"] {
        image.link(&Path::new("usr/sbin").join(name), Path::new("/usr/bin/kmod"))?;
    }
    let programs: Vec<PathBuf> = PROGRAMS
        .iter()
        .copied()
        .chain(suite.needs_dd().then_some("usr/bin/dd"))
        .chain(suite.has_cxl().then_some("usr/bin/cxl"))
        .map(|program| PathBuf::from(program.replace("{xen}", suite.xen_version())))
        .collect();
    let programs: Vec<PathBuf> = programs.into_iter().map(|program| merged(root, program)).collect();
    for file in programs.iter().chain(&libraries::of(root, &programs)?) {
        image.file_of(root, file)?;
    }
    let busybox = merged(root, PathBuf::from("usr/bin/busybox"));
    image.file(Path::new("usr/bin/busybox"), &root.join(busybox))?;
    image.tree(&stage, Path::new("usr/lib/modules"))?;
    image.finish()
}

/// Returns a program's path; older suites have some in the other of `bin` and `sbin`.
fn merged(root: &Path, program: PathBuf) -> PathBuf {
    let name = program.file_name().unwrap_or_default().to_owned();
    let elsewhere = ["usr/bin", "usr/sbin"].map(|folder| Path::new(folder).join(&name));
    if root.join(&program).exists() {
        return program;
    }
    elsewhere
        .into_iter()
        .find(|path| root.join(path).exists())
        .unwrap_or(program)
}

/// Makes the initramfs: the suite's part, then the agent, which is the guest's first process. Leaves a file alone that has this content
/// already, so that snapshots of machines that have booted from it stay valid.
fn make_initramfs(base: &Path, tools: &Tools, initramfs: &Path) -> Result<()> {
    let own = initramfs.with_extension("agent");
    let mut image = Image::create(&own)?;
    image.file(Path::new("init"), &tools.path(tools::AGENT))?;
    image.finish()?;
    let content = [fs::read(base)?, fs::read(&own)?].concat();
    if fs::read(initramfs).is_ok_and(|made| made == content) {
        return Ok(());
    }
    fs::write(initramfs, content).with_context(|| format!("cannot make {}", initramfs.display()))
}

/// The size of the tools' disk: always the same, so that a machine that is woken up finds the disk that it knows.
const TOOLS_DISK: &str = "64M";

/// The name of the series' `xl` on the tools' disk: Debian's is found by its own.
const XL: &str = "xl-pmem";

/// Makes a disk with the tools under test: guests mount it once they are up.
fn make_tools_disk(tools: &Tools, xl: Option<&Path>, disk: &Path) -> Result<()> {
    let folder = disk.with_extension("folder");
    workspace::discard(&folder)?;
    fs::create_dir(&folder)?;
    let programs = tools::PROGRAMS.iter().chain(&[tools::STOPWATCH]);
    for program in programs.chain(&tools::XEN_TESTS) {
        fs::copy(tools.path(program), folder.join(program))?;
    }
    if let Some(xl) = xl {
        fs::copy(xl, folder.join(XL))?;
    }
    command::output(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-F", "-O", "^has_journal", "-m", "0", "-d"])
            .arg(&folder)
            .arg(disk)
            .arg(TOOLS_DISK),
    )?;
    Ok(())
}
