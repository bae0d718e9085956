//! Where a block device lies in physical address space, as far as a plan must know it.

use crate::geometry::Placement;
use std::path::Path;
use xen_pmem_nvdimm::mode::Mode;
use xen_pmem_nvdimm::namespace::{self, Presented};
use xen_pmem_nvdimm::obstacle::Obstacle;
use xen_pmem_nvdimm::sysfs::{self, SysfsRoot};

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
#[error("cannot tell where it lies: {0}")]
pub struct Error(#[from] sysfs::Error);

/// Finds out where the device whose sysfs folder is `block` (`/sys/dev/block/259:0`) lies.
///
/// # Errors
///
/// If sysfs does not say what it should of it.
pub fn find(block: &Path) -> Result<Found, Error> {
    let number = block.file_name().and_then(|number| number.to_str()).unwrap_or_default();
    let Some(disk) = SysfsRoot::default().block_device_numbered(number) else {
        return Ok(Found::Other);
    };
    let Some(namespace) = namespace::presented_by(&disk)? else {
        return Ok(Found::Other);
    };
    Ok(match namespace.presented {
        Presented::Block { start, .. } => {
            let placement = Placement {
                device_start: start,
                namespace: namespace.range,
            };
            match namespace.mode {
                Mode::Fsdax => Found::Fsdax(placement),
                _ => Found::Raw(placement),
            }
        }
        Presented::Unusable {
            obstacle: Obstacle::Sector,
            ..
        } => Found::Sector,
        Presented::Unusable { .. } | Presented::Unbound(_) => Found::Other,
    })
}
