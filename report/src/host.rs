//! Whether this host is one to report on: Xen, Dom0, and not PVH.

use std::path::Path;
use std::{fs, io};
use xen_pmem_nvdimm::sysfs::{self, SysfsRoot};

/// Where xenfs is mounted.
pub const XENFS: &str = "/proc/xen";

/// Why this host cannot report anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// There is no Xen.
    #[error("this is not a Xen host ({0}): there is no hypervisor to report to")]
    NotXen(&'static str),
    /// This is a guest.
    #[error("this is a Xen guest, not Dom0: only Dom0 can report persistent memory")]
    NotDom0,
    /// Dom0's persistent memory is not what the hypervisor sees.
    #[error(
        "Dom0 runs as a PVH guest, which gets no NFIT and whose writes to persistent memory do not reach it: boot Dom0 as PV (without dom0=pvh)"
    )]
    Pvh,
    /// sysfs does not say.
    #[error(transparent)]
    Sysfs(#[from] sysfs::Error),
    /// xenfs does not say.
    #[error("cannot read {path}: {error}")]
    Io {
        /// What was read.
        path: String,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Checks the host with this sysfs, and with xenfs mounted at `xenfs` (`/proc/xen`), or not.
///
/// Sources: Linux `Documentation/ABI/stable/sysfs-hypervisor-xen` (`type`, `guest_type`, `uuid`: all zeros in Dom0) and xenfs
/// (`capabilities`: `control_d` in Dom0).
///
/// # Errors
///
/// The reason why nothing can be reported here.
pub fn check(sysfs: &SysfsRoot, xenfs: &Path) -> Result<(), Unfit> {
    let hypervisor = sysfs.directory("hypervisor");
    match hypervisor.text("type")?.as_deref() {
        None => return Err(Unfit::NotXen("/sys/hypervisor/type is absent")),
        Some("xen") => {}
        Some(_) => return Err(Unfit::NotXen("/sys/hypervisor/type names another hypervisor")),
    }
    let control = match capabilities(&xenfs.join("capabilities"))? {
        Some(capabilities) => capabilities.contains("control_d"),
        None => hypervisor
            .text("uuid")?
            .is_some_and(|uuid| uuid.chars().all(|c| c == '0' || c == '-')),
    };
    if !control {
        return Err(Unfit::NotDom0);
    }
    match hypervisor.text("guest_type")?.as_deref() {
        Some("PVH") => Err(Unfit::Pvh),
        _ => Ok(()),
    }
}

/// Returns what this domain may do; `None` if xenfs is not mounted, or says nothing.
fn capabilities(path: &Path) -> Result<Option<String>, Unfit> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unfit::Io {
            path: path.display().to_string(),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn hosts_are_told_apart() {
        let xen = ("sys/hypervisor/type", "xen\n");
        let pv = ("sys/hypervisor/guest_type", "PV\n");
        let pvh = ("sys/hypervisor/guest_type", "PVH\n");
        let control = ("proc/xen/capabilities", "control_d\n");
        let zero = ("sys/hypervisor/uuid", "00000000-0000-0000-0000-000000000000\n");
        let guest = ("sys/hypervisor/uuid", "0a000000-0000-0000-0000-000000000001\n");
        type Verdict = fn(&Result<(), Unfit>) -> bool;
        let table: &[(&[(&str, &str)], Verdict)] = &[
            (&[], |r| matches!(r, Err(Unfit::NotXen(_)))),
            (&[("sys/hypervisor/type", "other\n")], |r| {
                matches!(r, Err(Unfit::NotXen(_)))
            }),
            (&[xen, pv, control], |r| r.is_ok()),
            (&[xen, pv, zero], |r| r.is_ok()),
            (&[xen, zero, ("proc/xen/capabilities", "")], |r| r.is_ok()),
            (&[xen, pv, guest], |r| matches!(r, Err(Unfit::NotDom0))),
            (&[xen, pv], |r| matches!(r, Err(Unfit::NotDom0))),
            (&[xen, pvh, control], |r| matches!(r, Err(Unfit::Pvh))),
        ];
        for (files, verdict) in table {
            let root = host(files);
            let sysfs = SysfsRoot::new(root.path().join("sys"));
            let result = check(&sysfs, &root.path().join("proc/xen"));
            assert!(verdict(&result), "{files:?}: {result:?}");
        }
    }
}
