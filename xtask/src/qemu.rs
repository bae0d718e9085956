//! The emulator: the machine's own or the one that the user names, and a newer one for CXL, unpacked in the project's folder.

use crate::command;
use crate::packages;
use crate::suite::Suite;
use crate::workspace;
use anyhow::{Context as _, Result, anyhow};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The emulator that is used if no other is named.
const QEMU: &str = "qemu-system-x86_64";
/// The environment variable that names another one: a program, or the path of one.
const VARIABLE: &str = "XEN_PMEM_QEMU";
/// The first major version whose CXL devices Linux's drivers accept. Version 7.2 lacks the interrupt of their events.
const FIRST_WITH_CXL: u32 = 9;
/// The suite whose emulator is unpacked where the machine's own is too old.
const SUITE: Suite = Suite::Trixie;
/// The packages of that emulator; their dependencies follow.
const PACKAGES: &[&str] = &["qemu-system-x86", "qemu-system-data", "seabios"];

/// Returns the path of the emulator: `named` on the command line, or by the environment, or the machine's own.
///
/// # Errors
///
/// If the program does not exist.
pub(crate) fn path(named: Option<&OsStr>) -> Result<PathBuf> {
    let name = named
        .map(OsStr::to_owned)
        .or_else(|| std::env::var_os(VARIABLE))
        .unwrap_or_else(|| OsString::from(QEMU));
    command::find(&name).with_context(|| format!("there is no program {}", name.display()))
}

/// Returns the emulator for machines with CXL memory: `own` if it is new enough, else Debian 13's, which is fetched and unpacked once.
///
/// # Errors
///
/// If `own` does not say its version, or the other cannot be fetched or unpacked.
pub(crate) fn for_cxl(own: &Path) -> Result<PathBuf> {
    let said = command::text(Command::new(own).arg("--version"))?;
    let version = major(&said).ok_or_else(|| anyhow!("{} says no version: {said}", own.display()))?;
    if version >= FIRST_WITH_CXL {
        return Ok(own.to_owned());
    }
    let folder = workspace::e2e("qemu")?;
    let packages: Vec<String> = PACKAGES.iter().map(ToString::to_string).collect();
    let sysroot = packages::unpacked(&folder, SUITE, &packages)?;
    let starter = folder.join(QEMU);
    let script = starter_of(&sysroot.root);
    if fs::read_to_string(&starter).ok().as_ref() != Some(&script) {
        fs::write(&starter, script)?;
        fs::set_permissions(&starter, fs::Permissions::from_mode(0o755))?;
    }
    Ok(starter)
}

/// Returns a script that starts the unpacked emulator by the loader, libraries and modules of its own suite, so that it runs on any
/// machine.
fn starter_of(root: &Path) -> String {
    let root = root.display();
    let libraries = format!("{root}/usr/lib/x86_64-linux-gnu");
    format!(
        "#!/bin/sh\nexport QEMU_MODULE_DIR={libraries}/qemu\n\
        exec {libraries}/ld-linux-x86-64.so.2 --library-path {libraries} {root}/usr/bin/{QEMU} \
        -L {root}/usr/share/qemu -L {root}/usr/share/seabios \"$@\"\n"
    )
}

/// Returns the major version in what `--version` prints: `QEMU emulator version 7.2.22 (...)`.
fn major(said: &str) -> Option<u32> {
    let (_, version) = said.split_once("version ")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (said, expected) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c)\n",
                Some(7),
            ),
            ("QEMU emulator version 10.0.2\n", Some(10)),
            ("QEMU emulator\n", None),
            ("version x.1", None),
        ] {
            assert_eq!(major(said), expected, "{said}");
        }
    }
}
