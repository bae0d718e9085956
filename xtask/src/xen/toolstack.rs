//! The toolstack with the series: one program, `xl`.
//!
//! `libxenlight` and `libxlutil` are linked into it, and what the series adds to `libxenctrl`. All other libraries are those of Debian's
//! packages. A `libxenlight` of the series could not take the place of Debian's: its structures are larger, and other programs, libvirt
//! for one, allocate them.

use super::source::{RELEASE, Source};
use super::{kept, patches, source, stamp};
use crate::command;
use crate::host::{self, Need};
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What building takes, beside what the hypervisor takes.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        program: "autoconf",
        package: "autoconf",
    },
    Need {
        program: "iasl",
        package: "acpica-tools",
    },
    Need {
        program: "pkg-config",
        package: "pkg-config",
    },
    Need {
        program: "/usr/include/yajl/yajl_common.h",
        package: "libyajl-dev",
    },
    Need {
        program: "/usr/include/zlib.h",
        package: "zlib1g-dev",
    },
    Need {
        program: "/usr/include/uuid/uuid.h",
        package: "uuid-dev",
    },
    Need {
        program: "python3-config",
        package: "python3-dev",
    },
];

/// Paths are compiled in: they are those of Debian's packages (`debian/rules`). What `xl` does not need is left out.
const CONFIGURE: &[&str] = &[
    "--disable-xen",
    "--disable-docs",
    "--disable-stubdom",
    "--prefix=/usr",
    "--includedir=/usr/include",
    "--libdir=/usr/lib/x86_64-linux-gnu",
    "--with-libexec-libdir-suffix=/x86_64-linux-gnu",
    "--with-libexec-leaf-dir=xen-4.20",
    "--sysconfdir=/etc",
    "--localstatedir=/var",
    "--disable-qemu-traditional",
    "--disable-rombios",
    "--disable-pvshim",
    "--disable-seabios",
    "--disable-pygrub",
    "--disable-ocamltools",
    "--disable-golang",
    "--disable-xsmpolicy",
    "--disable-monitors",
    "--with-system-qemu=/usr/libexec/xen-qemu-system-i386",
    "--with-system-ovmf=/usr/share/ovmf/OVMF.fd",
    "--with-system-seabios=/usr/share/seabios/bios-256k.bin",
];
/// The libraries that are built to be linked with, in order.
const LIBRARIES: [&str; 11] = [
    "toolcore",
    "toollog",
    "evtchn",
    "gnttab",
    "call",
    "foreignmemory",
    "devicemodel",
    "ctrl",
    "guest",
    "hypfs",
    "store",
];
/// What is linked, as `tools/xl` sees it: the series' own first, then what Debian's packages have at run time.
const LINKED: &str = "../libs/ctrl/xc_pmem.o ../libs/light/libxenlight.a ../libs/guest/libxenguest.so ../libs/ctrl/libxenctrl.so \
    ../libs/store/libxenstore.so ../libs/hypfs/libxenhypfs.so ../libs/evtchn/libxenevtchn.so ../libs/toolcore/libxentoolcore.so \
    ../libs/devicemodel/libxendevicemodel.so ../libs/foreignmemory/libxenforeignmemory.so ../libs/call/libxencall.so \
    -Wl,-rpath-link,../libs/call:../libs/gnttab:../libs/foreignmemory:../libs/devicemodel:../libs/evtchn:../libs/toolcore:\
../libs/toollog:../libs/ctrl -luuid -lrt -lutil -lpthread";

/// Builds `xl` and returns its path.
///
/// # Errors
///
/// If the source cannot be fetched, a patch does not apply, or the build fails.
pub(crate) fn build() -> Result<PathBuf> {
    made(RELEASE, &source::source(RELEASE)?)
}

/// Does so from this source.
pub(crate) fn made(release: &str, source: &Source) -> Result<PathBuf> {
    host::install(super::NEEDS)?;
    host::install(NEEDS)?;
    let patches = patches()?;
    let folder = workspace::target().join("xen").join(release).join("toolstack");
    let stamp = format!(
        "{}{}\n{LINKED}\n",
        stamp(source, &patches, false)?,
        CONFIGURE.join("\n")
    );
    kept(&folder, "xl", &stamp, source, &patches, |tree, log| {
        step("building xl");
        compile(tree, log)?;
        let xl = tree.join("tools/xl/xl");
        command::output(Command::new("strip").arg(&xl))?;
        Ok(xl)
    })
}

/// Configures the tree and builds `tools/xl/xl`.
fn compile(tree: &Path, log: &Path) -> Result<()> {
    let tools = tree.join("tools");
    // Debian's source has no `configure`, and not what that needs.
    logged(log, Command::new("autoconf").arg("-f").current_dir(tree))?;
    logged(log, Command::new("autoconf").arg("-f").current_dir(&tools))?;
    logged(log, Command::new("autoheader").current_dir(&tools))?;
    for file in ["config.sub", "config.guess"] {
        fs::copy(Path::new("/usr/share/autoconf/build-aux").join(file), tree.join(file))
            .with_context(|| format!("autoconf has no {file}"))?;
    }
    logged(log, Command::new("./configure").args(CONFIGURE).current_dir(tree))?;
    make(log, &tools.join("include"), &[])?;
    for library in LIBRARIES {
        make(log, &tools.join("libs").join(library), &[])?;
    }
    make(log, &tools.join("libs/light"), &["libxenlight.a"])?;
    let header = tools.join("include/libxlutil.h").display().to_string();
    make(log, &tools.join("libs/util"), &["libxlutil.a", &header])?;
    make(
        log,
        &tools.join("xl"),
        &[
            "xl",
            "LDLIBS_libxenutil=../libs/util/libxlutil.a",
            &format!("LDLIBS_libxenlight={LINKED}"),
        ],
    )
}

fn make(log: &Path, folder: &Path, arguments: &[&str]) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut make = Command::new("make");
    make.arg("-C").arg(folder).arg(format!("-j{jobs}"));
    make.args(["XEN_TARGET_ARCH=x86_64", "XEN_COMPILE_ARCH=x86_64", "debug=n"]);
    logged(log, make.args(arguments))
}

/// Runs a command whose output is only of interest if it fails.
fn logged(log: &Path, command: &mut Command) -> Result<()> {
    let output = fs::OpenOptions::new().create(true).append(true).open(log)?;
    command
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    command::run(command).with_context(|| format!("see {}", log.display()))
}
