//! Where a block device lies in physical address space, from libnvdimm's attributes in sysfs.
//!
//! Sources: Linux `drivers/nvdimm/namespace_devs.c`, `drivers/nvdimm/pfn_devs.c` (the attributes `resource`, `size`, `mode`,
//! `namespace`).

use crate::geometry::Placement;
use std::path::{Path, PathBuf};
use std::{fs, io};
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};

/// What is known of a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Persistent memory that is the namespace itself.
    Raw(Placement),
    /// Persistent memory behind an info block and a memory map.
    Fsdax(Placement),
    /// Persistent memory whose blocks have no fixed address.
    Sector,
    /// Not persistent memory, or not libnvdimm's.
    Other,
}

/// Why sysfs does not say where a device lies.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell where it lies: {path}: {error}")]
pub struct Error {
    path: String,
    error: io::Error,
}

/// Finds out where the device whose sysfs folder is `block` (`/sys/dev/block/259:0`) lies.
///
/// # Errors
///
/// If an attribute that must be there cannot be read.
pub fn find(block: &Path) -> Result<Found, Error> {
    let Ok(device) = fs::canonicalize(block.join("device")) else {
        return Ok(Found::Other);
    };
    let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.starts_with("btt") {
        return Ok(Found::Sector);
    }
    if name.starts_with("pfn") {
        let namespace = device.with_file_name(text(&device.join("namespace"))?);
        let device_start = PhysAddr(number(&device.join("resource"))?);
        return Ok(Found::Fsdax(Placement {
            device_start,
            namespace: range(&namespace)?,
        }));
    }
    if name.starts_with("namespace") {
        let namespace = range(&device)?;
        return Ok(Found::Raw(Placement {
            device_start: namespace.base(),
            namespace,
        }));
    }
    Ok(Found::Other)
}

fn range(namespace: &Path) -> Result<PhysRange, Error> {
    let (base, size) = (number(&namespace.join("resource"))?, number(&namespace.join("size"))?);
    PhysRange::new(PhysAddr(base), Bytes(size)).ok_or_else(|| Error {
        path: namespace.display().to_string(),
        error: io::Error::other("it ends beyond 64 bits"),
    })
}

fn text(path: &PathBuf) -> Result<String, Error> {
    let read = fs::read_to_string(path);
    read.map(|text| text.trim().to_owned()).map_err(|error| Error {
        path: path.display().to_string(),
        error,
    })
}

fn number(path: &PathBuf) -> Result<u64, Error> {
    let text = text(path)?;
    let number = match text.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16),
        None => text.parse(),
    };
    number.map_err(|_| Error {
        path: path.display().to_string(),
        error: io::Error::other(format!("{text:?} is no number (only root can read it)")),
    })
}
