//! What the build machine itself must have.

use crate::command;
use crate::progress::step;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::process::Command;

/// A program, or a file by its path, and the Debian package that has it.
pub(crate) struct Need {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// What building the tools needs: the eBPF part, and libblkid.
pub(crate) const BUILD: &[Need] = &[
    Need {
        program: "clang",
        package: "clang",
    },
    Need {
        program: "pkg-config",
        package: "pkg-config",
    },
    Need {
        program: "make",
        package: "make",
    },
    Need {
        program: "/usr/include/libelf.h",
        package: "libelf-dev",
    },
    Need {
        program: "/usr/include/zlib.h",
        package: "zlib1g-dev",
    },
    Need {
        program: "/usr/include/blkid/blkid.h",
        package: "libblkid-dev",
    },
];

/// What the tests need: programs whose file systems and tables must be noticed, and `losetup`.
pub(crate) const TEST: &[Need] = &[
    Need {
        program: "mke2fs",
        package: "e2fsprogs",
    },
    Need {
        program: "mkswap",
        package: "util-linux",
    },
    Need {
        program: "mkfs.vfat",
        package: "dosfstools",
    },
    Need {
        program: "mkfs.xfs",
        package: "xfsprogs",
    },
    Need {
        program: "mkfs.btrfs",
        package: "btrfs-progs",
    },
    Need {
        program: "sgdisk",
        package: "gdisk",
    },
    // The tests follow advice that names it.
    Need {
        program: "sfdisk",
        package: "fdisk",
    },
    Need {
        program: "losetup",
        package: "mount",
    },
];

/// What the scenarios need.
pub(crate) const E2E: &[Need] = &[
    Need {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
    },
    Need {
        program: "depmod",
        package: "kmod",
    },
    Need {
        program: "apt-get",
        package: "apt",
    },
    Need {
        program: "dpkg-deb",
        package: "dpkg",
    },
    Need {
        program: "mke2fs",
        package: "e2fsprogs",
    },
];

/// Returns the packages of the missing programs.
fn missing(needs: &[&[Need]]) -> BTreeSet<&'static str> {
    needs
        .iter()
        .copied()
        .flatten()
        .filter(|need| !command::exists(need.program))
        .map(|need| need.package)
        .collect()
}

/// Checks that nothing is missing, and installs nothing.
///
/// # Errors
///
/// If something is missing: what, and the command that installs it.
pub(crate) fn require(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = missing(&[needs]).into_iter().collect();
    if !missing.is_empty() {
        bail!(
            "this machine lacks {}; run `cargo xtask setup` as root, which installs what all commands need",
            missing.join(", ")
        );
    }
    Ok(())
}

/// Installs what is missing, with root; otherwise says what to install.
///
/// # Errors
///
/// Without root, the one line to run; with root, apt's error.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    install_all(&[needs])
}

/// Installs several lists at once; see [`install`].
///
/// # Errors
///
/// As [`install`].
pub(crate) fn install_all(needs: &[&[Need]]) -> Result<()> {
    let missing: Vec<&str> = missing(needs).into_iter().collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "this machine lacks some programs; install them with\n\n    sudo apt-get install -y --no-install-recommends {}\n",
            missing.join(" ")
        );
    }
    step(&format!("installing on this machine: {}", missing.join(" ")));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("-q");
        apt
    };
    command::output(apt().arg("update"))?;
    command::output(apt().args(["install", "-y", "--no-install-recommends"]).args(&missing))?;
    let mut needs = needs.iter().copied().flatten();
    if let Some(need) = needs.find(|need| !command::exists(need.program)) {
        bail!("installed {}, but {} is still missing", need.package, need.program);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BUILD, TEST};
    use crate::workspace;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Programs of packages that every Debian system has: dash, coreutils, util-linux.
    const ESSENTIAL: &[&str] = &["sh", "sleep", "partx", "setpriv"];

    /// Collects the programs that the tests below a folder start by name.
    fn started(folder: &Path, programs: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                started(&path, programs);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let calls = text.split("Command::new(\"").skip(1);
                programs.extend(calls.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn what_the_tests_start_is_installed_for_them() {
        let mut programs = BTreeSet::new();
        for entry in fs::read_dir(workspace::root()).unwrap() {
            let tests = entry.unwrap().path().join("tests");
            if tests.is_dir() {
                started(&tests, &mut programs);
            }
        }
        assert!(programs.contains("sgdisk"), "found only {programs:?}");
        let known: BTreeSet<&str> = BUILD
            .iter()
            .chain(TEST)
            .map(|need| need.program)
            .chain(ESSENTIAL.iter().copied())
            .collect();
        let missing: Vec<&String> = programs
            .iter()
            .filter(|program| !known.contains(program.as_str()))
            .collect();
        assert!(missing.is_empty(), "nothing installs {missing:?}");
    }
}
