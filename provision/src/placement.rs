//! Where a block device lies in physical address space, as far as a plan must know it.

use crate::geometry::Placement;
use xen_pmem_nvdimm::mode::Mode;
use xen_pmem_nvdimm::namespace::{self, Namespace, Presented};
use xen_pmem_nvdimm::obstacle::Obstacle;
use xen_pmem_nvdimm::sysfs::{self, Directory};

/// The facts about a block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// Persistent memory that is the namespace itself.
    Raw(Placement),
    /// Persistent memory behind an info block and a memory map.
    Fsdax(Placement),
    /// Persistent memory whose blocks have no fixed address.
    Sector,
    /// Not persistent memory, or not libnvdimm's.
    #[default]
    Other,
}

/// Why sysfs does not say where a device lies.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell where it lies: {0}")]
pub struct Error(#[from] sysfs::Error);

/// Where a block device lies, and whether anything may be prepared there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The facts about where it lies.
    pub found: Found,
    /// Why it must not be prepared, independent of its content.
    pub obstacle: Option<Obstacle>,
}

impl Location {
    /// Finds out where the block device with this directory in sysfs lies.
    ///
    /// # Errors
    ///
    /// If sysfs lacks one of its attributes, or an attribute has an unexpected value.
    pub fn of(disk: &Directory) -> Result<Self, Error> {
        Ok(match namespace::presented_by(disk)? {
            None => Self::default(),
            Some(namespace) => Self {
                found: found(&namespace),
                obstacle: namespace.obstacle,
            },
        })
    }
}

fn found(namespace: &Namespace) -> Found {
    match namespace.presented {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
    use xen_pmem_nvdimm::sysfs::SysfsRoot;

    #[test]
    fn a_raw_device_lies_at_its_namespace_and_an_obstacle_is_said() {
        let root = tempfile::tempdir().unwrap();
        let region = root.path().join("region0");
        let namespace = region.join("namespace0.0");
        let disk = namespace.join("block/pmem0");
        fs::create_dir_all(&disk).unwrap();
        for folder in [&region, &namespace] {
            fs::write(folder.join("resource"), "0x100000000").unwrap();
            fs::write(folder.join("size"), "268435456").unwrap();
        }
        fs::write(disk.join("size"), "524288").unwrap();
        symlink(&namespace, disk.join("device")).unwrap();
        let sysfs = SysfsRoot::new(&region);
        let location = || Location::of(&sysfs.directory("namespace0.0/block/pmem0")).unwrap();
        let raw = Found::Raw(Placement {
            device_start: PhysAddr(1 << 32),
            namespace: PhysRange::new(PhysAddr(1 << 32), Bytes(256 << 20)).unwrap(),
        });
        for (attribute, content, obstacle) in [
            ("read_only", "0", None),
            ("read_only", "1", Some(Obstacle::ReadOnly)),
            ("devtype", "nd_volatile", Some(Obstacle::Volatile)),
        ] {
            fs::write(region.join(attribute), content).unwrap();
            let expected = Location {
                found: raw.clone(),
                obstacle,
            };
            assert_eq!(location(), expected, "{attribute}");
        }
        assert_eq!(
            Location::of(&sysfs.directory("elsewhere")).unwrap(),
            Location::default()
        );
    }
}
