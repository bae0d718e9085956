//! The firmware's persistent memory as namespaces: what there is before libnvdimm has looked.
//!
//! Right for NVDIMMs without labels, where libnvdimm makes one namespace of each range. With labels a namespace is a part of a
//! range; what is found of it then does not fit the range, and is not believed.

use crate::cedt;
use crate::mode::Mode;
use crate::namespace::{Namespace, Presented};
use crate::nfit::{self, Nfit};
use crate::platform::Platform;
use crate::sysfs::SysfsRoot;
use crate::unbound::Unbound;
use std::io;
use std::path::PathBuf;
use xen_pmem_format::units::PhysRange;

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
    /// It does not have the form that it should have.
    #[error("{} {invalid}", .path.display())]
    Invalid {
        /// The table's file.
        path: PathBuf,
        /// What is wrong with it.
        invalid: nfit::NotAnNfit,
    },
    /// The firmware's CEDT is not one.
    #[error("{} {invalid}", .path.display())]
    InvalidCedt {
        /// The table's file.
        path: PathBuf,
        /// What is wrong with it.
        invalid: cedt::NotACedt,
    },
}

/// Returns the bytes of a table; `None` if the machine has none.
fn table(root: &SysfsRoot, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    let path = root.path().join("firmware/acpi/tables").join(name);
    match std::fs::read(&path) {
        Ok(table) => Ok(Some((path, table))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::Io { path, error }),
    }
}

/// Returns the windows of addresses at which CXL devices may have persistent memory; none if the machine has no CEDT.
///
/// # Errors
///
/// If the table is there and cannot be read or understood.
pub fn cxl_windows(root: &SysfsRoot) -> Result<Vec<PhysRange>, Error> {
    match table(root, "CEDT")? {
        None => Ok(Vec::new()),
        Some((path, table)) => cedt::windows(&table).map_err(|invalid| Error::InvalidCedt { path, invalid }),
    }
}

/// Returns the firmware's NFIT; `None` if the machine has none.
///
/// # Errors
///
/// If the table is there and cannot be read or understood.
pub fn nfit(root: &SysfsRoot) -> Result<Option<Nfit>, Error> {
    let Some((path, table)) = table(root, "NFIT")? else {
        return Ok(None);
    };
    match nfit::parse(&table) {
        Ok(nfit) => Ok(Some(nfit)),
        Err(invalid) => Err(Error::Invalid { path, invalid }),
    }
}

/// Returns each range of the NFIT as a namespace that no driver is bound to; none if the machine has no NFIT.
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
