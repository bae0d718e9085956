//! Whether this host is one to report on: Xen, Dom0, and not PVH.

use std::path::Path;
use std::{fs, io};

/// Why nothing is reported here.
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
    /// The kernel does not say.
    #[error("cannot read {path}: {error}")]
    Io {
        /// What was read.
        path: String,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Checks the host whose file system is mounted at `root` (`/` but in tests).
///
/// Sources: Linux `Documentation/ABI/stable/sysfs-hypervisor-xen` (`type`, `guest_type`, `uuid`: all zeros in Dom0) and xenfs
/// (`capabilities`: `control_d` in Dom0), which may not be mounted.
///
/// # Errors
///
/// The reason why nothing can be reported here.
pub fn check(root: &Path) -> Result<(), Unfit> {
    let hypervisor = root.join("sys/hypervisor");
    match attribute(&hypervisor.join("type"))? {
        None => return Err(Unfit::NotXen("/sys/hypervisor/type is absent")),
        Some(kind) if kind != "xen" => return Err(Unfit::NotXen("/sys/hypervisor/type names another hypervisor")),
        Some(_) => {}
    }
    let control = match attribute(&root.join("proc/xen/capabilities"))? {
        Some(capabilities) if !capabilities.is_empty() => capabilities.contains("control_d"),
        _ => attribute(&hypervisor.join("uuid"))?.is_some_and(|uuid| uuid.chars().all(|c| c == '0' || c == '-')),
    };
    if !control {
        return Err(Unfit::NotDom0);
    }
    match attribute(&hypervisor.join("guest_type"))? {
        Some(kind) if kind == "PVH" => Err(Unfit::Pvh),
        _ => Ok(()),
    }
}

fn attribute(path: &Path) -> Result<Option<String>, Unfit> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
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
            let result = check(host(files).path());
            assert!(verdict(&result), "{files:?}: {result:?}");
        }
    }
}
