//! The firmware's persistent memory as namespaces: what there is before libnvdimm has looked.
//!
//! Right for NVDIMMs without labels, where libnvdimm makes one namespace of each range. With labels a namespace is a part of a
//! range; what is found of it then does not fit the range, and is not believed.

use crate::mode::Mode;
use crate::namespace::{Namespace, Presented};
use crate::nfit;
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
        invalid: nfit::Invalid,
    },
}

/// Each range of the NFIT as a namespace that no driver is bound to; none if the machine has no NFIT.
///
/// # Errors
///
/// If the table is there and cannot be read or understood.
pub fn namespaces(root: &SysfsRoot) -> Result<Vec<Namespace>, Error> {
    let path = root.path().join("firmware/acpi/tables/NFIT");
    let table = match std::fs::read(&path) {
        Ok(table) => table,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::Io { path, error }),
    };
    let ranges = nfit::ranges(&table).map_err(|invalid| Error::Invalid { path, invalid })?;
    Ok(ranges.into_iter().map(namespace).collect())
}

fn namespace(range: nfit::Range) -> Namespace {
    let presented = if range.state.is_sound() {
        Presented::Unbound(Unbound::default())
    } else {
        Presented::Unsupported {
            node: None,
            reason: format!(
                "the firmware says that its NVDIMMs failed or are not armed (state flags {:#x})",
                range.state.0
            ),
        }
    };
    Namespace {
        name: format!("NFIT range {}", range.index),
        mode: Mode::Raw,
        region: range.range,
        range: range.range,
        numa_node: None,
        presented,
    }
}
