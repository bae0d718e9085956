//! The firmware's persistent memory as namespaces: what there is before libnvdimm has looked.
//!
//! Right for NVDIMMs without labels, where libnvdimm makes one namespace of each range. With labels a namespace is a part of a
//! range; what is found of it then does not fit the range, and is not believed.

use crate::mode::Mode;
use crate::namespace::{Namespace, Presented};
use crate::nfit::{self, Nfit};
use crate::platform::Platform;
use crate::sysfs::SysfsRoot;
use crate::unbound::Unbound;
use std::io;
use std::path::PathBuf;

/// Why the table says nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be read.
    #[error("{} cannot be read: {error}", .path.display())]
    Io {
        /// The table's file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("{} {invalid}", .path.display())]
    Invalid {
        /// The table's file.
        path: PathBuf,
        /// What is wrong with it.
        invalid: nfit::NotAnNfit,
    },
}

/// The firmware's NFIT; `None` if the machine has none.
///
/// # Errors
///
/// If the table is there and cannot be read or understood.
pub fn nfit(root: &SysfsRoot) -> Result<Option<Nfit>, Error> {
    let path = root.path().join("firmware/acpi/tables/NFIT");
    let table = match std::fs::read(&path) {
        Ok(table) => table,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Io { path, error }),
    };
    match nfit::parse(&table) {
        Ok(nfit) => Ok(Some(nfit)),
        Err(invalid) => Err(Error::Invalid { path, invalid }),
    }
}

/// Each range of the NFIT as a namespace that no driver is bound to; none if the machine has no NFIT.
///
/// # Errors
///
/// As [`nfit()`].
pub fn namespaces(root: &SysfsRoot) -> Result<Vec<Namespace>, Error> {
    let nfit = nfit(root)?.unwrap_or_default();
    for left_out in &nfit.left_out {
        tracing::warn!("the firmware's NFIT: {left_out}");
    }
    Ok(nfit.ranges.into_iter().map(namespace).collect())
}

fn namespace(range: nfit::Range) -> Namespace {
    if range.state.has_lost_data() {
        tracing::warn!(
            "NFIT range {}: the firmware says that its NVDIMMs may have lost data that was written earlier (state flags {:#x})",
            range.index,
            range.state.0
        );
    }
    Namespace {
        name: format!("NFIT range {}", range.index),
        mode: Mode::Raw,
        region: range.range,
        range: range.range,
        numa_node: None,
        platform: Platform::default(),
        presented: match range.obstacle() {
            None => Presented::Unbound(Unbound::default()),
            Some(obstacle) => Presented::Unusable { node: None, obstacle },
        },
        obstacle: None,
    }
}
