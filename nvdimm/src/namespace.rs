//! libnvdimm's namespaces: in which mode each is, where it lies in physical address space, and where the device that it presents
//! starts.
//!
//! A namespace is either the device itself (raw) or claimed by another device of its region, which the attribute `holder` names:
//! `pfnR.N` (fsdax), `daxR.N` (devdax) or `bttR.N` (sector). Sources: Linux 6.12, `drivers/nvdimm/namespace_devs.c` (`holder_show`,
//! `mode_show`, `resource_show`), `pfn_devs.c` (`resource_show`: the namespace's start, padding and data offset together; no value
//! without a driver), `region_devs.c`.

use crate::mode::Mode;
use crate::obstacle::Obstacle;
use crate::platform::Platform;
use crate::sysfs::{Directory, Error, SysfsRoot};
use crate::unbound::{self, Unbound};
use uuid::Uuid;
use xen_pmem_format::units::{Bytes, LbaSize, PhysAddr, PhysRange, SECTOR};

/// One namespace with a size, as sysfs describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its own name, `namespaceR.N`. Numbers change between boots: for messages, not for keeping.
    pub name: String,
    /// What presents it.
    pub mode: Mode,
    /// The region that it lies in.
    pub region: PhysRange,
    /// Its own range.
    pub range: PhysRange,
    /// Its NUMA node.
    pub numa_node: Option<i32>,
    /// What the platform says of its region.
    pub platform: Platform,
    /// What user space sees of it.
    pub presented: Presented,
    /// Why it cannot hold a reservation in any mode: a property of its region.
    pub obstacle: Option<Obstacle>,
}

impl Namespace {
    /// Returns the name of the device's node, if it has one.
    pub fn node(&self) -> Option<&str> {
        match &self.presented {
            Presented::Block { disk, .. } => Some(&disk.name),
            Presented::Unusable { node, .. } => node.as_deref(),
            Presented::Unbound(_) => None,
        }
    }

    /// Returns whether `name` means this namespace or its device.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.node() == Some(name)
    }
}

/// The device that a namespace presents to user space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// A block device whose bytes have fixed physical addresses.
    Block {
        /// The block device.
        disk: Disk,
        /// The physical address of its first byte.
        start: PhysAddr,
    },
    /// Nothing yet: no driver is bound.
    Unbound(Unbound),
    /// A device that cannot hold a reservation.
    Unusable {
        /// The name of its node, if it has one.
        node: Option<String>,
        /// Why it cannot.
        obstacle: Obstacle,
    },
}

/// A block device: a whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name, which is that of its node.
    pub name: String,
    /// Its bytes.
    pub size: Bytes,
    /// The size of its logical blocks, if it is known.
    pub lba_size: Option<LbaSize>,
    /// Its number as `major:minor`, if it is known.
    pub number: Option<String>,
    directory: Directory,
}

impl Disk {
    /// Returns whether it is still there.
    pub fn exists(&self) -> bool {
        self.directory.exists()
    }
}

/// A namespace of the list.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is, or why that is unknown.
    pub result: Result<Namespace, Error>,
}

/// Returns the namespaces of a tree, each found or failed on its own.
///
/// Namespaces without a size (seeds) and those that vanish meanwhile are left out.
///
/// # Errors
///
/// If the list of devices cannot be read.
pub fn all(root: &SysfsRoot) -> Result<Vec<Listed>, Error> {
    let mut found = Vec::new();
    let mut regions = Regions::default();
    for name in root.nd_names()? {
        if !is_nd_name(&name, "namespace") {
            continue;
        }
        let Some(directory) = root.nd_device(&name) else {
            tracing::debug!(namespace = name, "vanished during the scan");
            continue;
        };
        // A claim that is being made or given up shows half of it: look once more before calling it an error.
        match read(&directory, &mut regions).or_else(|_| read(&directory, &mut regions)) {
            Ok(None) => tracing::debug!(namespace = name, "empty: a seed"),
            Ok(Some(namespace)) => found.push(Listed {
                name,
                result: Ok(namespace),
            }),
            Err(error) if !directory.exists() => {
                tracing::debug!(namespace = name, %error, "vanished during the scan");
            }
            Err(error) => found.push(Listed {
                name,
                result: Err(error),
            }),
        }
    }
    Ok(found)
}

/// Returns the namespace that `disk`, a block device's directory, presents; `None` if it is not one of libnvdimm's.
///
/// # Errors
///
/// If sysfs lacks one of its attributes, or an attribute has an unexpected value.
pub fn presented_by(disk: &Directory) -> Result<Option<Namespace>, Error> {
    let Some(device) = disk.follow("device") else {
        return Ok(None);
    };
    let namespace = if is_nd_name(device.name(), "namespace") {
        device
    } else if ["pfn", "dax", "btt"].iter().any(|kind| is_nd_name(device.name(), kind)) {
        let name = device.text("namespace")?.ok_or_else(|| device.missing("namespace"))?;
        region_of(&device).child(&name)
    } else {
        return Ok(None);
    };
    read(&namespace, &mut Regions::default())
}

/// The facts about the last region: namespaces of one region follow each other, and share them.
#[derive(Default)]
struct Regions(Option<Region>);

#[derive(Clone, Debug)]
struct Region {
    directory: Directory,
    range: PhysRange,
    platform: Platform,
    obstacle: Option<Obstacle>,
}

impl Regions {
    /// Returns the region that `namespace` lies in.
    fn of(&mut self, namespace: &Directory) -> Result<&Region, Error> {
        let directory = region_of(namespace);
        let known = self.0.take().filter(|region| region.directory == directory);
        let region = match known {
            Some(region) => region,
            None => {
                let range = range_of(&directory)?.ok_or_else(|| directory.missing("size"))?;
                let obstacle = obstacle(&directory)?;
                let platform = Platform::of(&directory)?;
                Region {
                    directory,
                    range,
                    platform,
                    obstacle,
                }
            }
        };
        Ok(self.0.insert(region))
    }
}

/// Returns why nothing in a region can hold a reservation (`region_devs.c`: the names of device types, `read_only_show`).
fn obstacle(region: &Directory) -> Result<Option<Obstacle>, Error> {
    if region.text("devtype")?.as_deref() == Some("nd_volatile") {
        return Ok(Some(Obstacle::Volatile));
    }
    let read_only = region.text("read_only")?.is_some_and(|text| text != "0");
    Ok(read_only.then_some(Obstacle::ReadOnly))
}

/// Returns the directory of the region that a device of the nd bus lies in.
fn region_of(device: &Directory) -> Directory {
    device.parent().unwrap_or_else(|| device.clone())
}

fn read(directory: &Directory, regions: &mut Regions) -> Result<Option<Namespace>, Error> {
    let Some(range) = range_of(directory)? else {
        return Ok(None);
    };
    let region = regions.of(directory)?;
    let numa_node = match directory.numa_node()? {
        Some(node) => Some(node),
        None => region.directory.numa_node()?,
    };
    let (mode, presented) = match directory.text("holder")? {
        None => unclaimed(directory, region, range)?,
        Some(holder) => claimed(directory, &region.directory, holder)?,
    };
    Ok(Some(Namespace {
        name: directory.name().to_owned(),
        mode,
        region: region.range,
        range,
        numa_node,
        platform: region.platform.clone(),
        presented,
        obstacle: region.obstacle.clone(),
    }))
}

/// Returns a device's `resource` and `size`; `None` if its size is zero.
fn range_of(directory: &Directory) -> Result<Option<PhysRange>, Error> {
    let size = directory.size()?.ok_or_else(|| directory.missing("size"))?;
    if size == Bytes(0) {
        return Ok(None);
    }
    let base = directory.resource()?.ok_or_else(|| directory.missing("resource"))?;
    match PhysRange::new(base, size) {
        Some(range) => Ok(Some(range)),
        None => Err(directory.malformed(
            "size",
            size.0.to_string(),
            "a size that fits after the resource's address",
        )),
    }
}

fn unclaimed(directory: &Directory, region: &Region, range: PhysRange) -> Result<(Mode, Presented), Error> {
    if let Some(disk) = disk_of(directory)? {
        let start = range.base();
        return Ok((Mode::Raw, Presented::Block { disk, start }));
    }
    let uuid = match directory.text("uuid")? {
        None => None,
        Some(text) => {
            let uuid: Uuid = text.parse().map_err(|_| directory.malformed("uuid", text, "a UUID"))?;
            Some(uuid).filter(|uuid| !uuid.is_nil())
        }
    };
    // libnvdimm keeps media errors with the region, and counts from its start.
    let bad = match region.directory.text("badblocks")? {
        None => Vec::new(),
        Some(text) => unbound::bad_blocks(&text, region.range.base()).ok_or_else(|| {
            let expected = "pairs of a sector and a number of sectors";
            region.directory.malformed("badblocks", text, expected)
        })?,
    };
    let unbound = Unbound {
        uuid,
        force_raw: directory.text("force_raw")?.is_some_and(|raw| raw != "0"),
        lba_size: selected_lba_size(directory)?,
        bad,
    };
    Ok((Mode::Raw, Presented::Unbound(unbound)))
}

/// Returns the block size in brackets in `sector_size`, or the only one there (`drivers/nvdimm/core.c`, `nd_size_select_show`).
fn selected_lba_size(directory: &Directory) -> Result<Option<LbaSize>, Error> {
    let Some(text) = directory.text("sector_size")? else {
        return Ok(None);
    };
    let selected = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or(text.as_str(), |(selected, _)| selected);
    match selected.parse().ok().and_then(LbaSize::from_bytes) {
        Some(size) => Ok(Some(size)),
        None => Err(directory.malformed("sector_size", text, "a choice of 512 and 4096")),
    }
}

fn claimed(namespace: &Directory, region: &Directory, holder: String) -> Result<(Mode, Presented), Error> {
    let mode = if is_nd_name(&holder, "pfn") {
        Mode::Fsdax
    } else if is_nd_name(&holder, "dax") {
        Mode::Devdax
    } else if is_nd_name(&holder, "btt") {
        Mode::Sector
    } else {
        return Err(namespace.malformed("holder", holder, "the name of a pfn, dax or btt device"));
    };
    let claim = region.child(&holder);
    let presented = match mode {
        Mode::Sector => Presented::Unusable {
            node: disk_of(&claim)?.map(|disk| disk.name),
            obstacle: Obstacle::Sector,
        },
        Mode::Devdax => Presented::Unusable {
            node: character_device(&claim)?,
            obstacle: Obstacle::Devdax,
        },
        _ => fsdax(&claim)?,
    };
    // What has a device is there.
    let has_device = !matches!(&presented, Presented::Unusable { node: None, .. });
    if has_device || claim.exists() {
        Ok((mode, presented))
    } else {
        Err(region.missing(&holder))
    }
}

fn fsdax(pfn: &Directory) -> Result<Presented, Error> {
    let Some(disk) = disk_of(pfn)? else {
        let map_on_device = pfn.text("mode")?.as_deref() == Some("pmem");
        let obstacle = if map_on_device {
            Obstacle::MapOnDevice
        } else {
            Obstacle::NoDriver
        };
        return Ok(Presented::Unusable { node: None, obstacle });
    };
    let start = pfn.resource()?.ok_or_else(|| pfn.missing("resource"))?;
    Ok(Presented::Block { disk, start })
}

/// Returns the block device that an nd device presents: the one entry of its directory `block`.
fn disk_of(device: &Directory) -> Result<Option<Disk>, Error> {
    let Some(disk) = device.child("block").first_directory(|_| true)? else {
        return Ok(None);
    };
    let sectors = disk.number("size")?.ok_or_else(|| disk.missing("size"))?;
    let size = SECTOR
        .checked_mul(sectors)
        .ok_or_else(|| disk.malformed("size", sectors.to_string(), "a number of 512-byte sectors"))?;
    let lba_size = match disk.number("queue/logical_block_size")? {
        None => None,
        Some(bytes) => Some(LbaSize::from_bytes(bytes).ok_or_else(|| {
            disk.malformed(
                "queue/logical_block_size",
                bytes.to_string(),
                "512 or 4096, the logical block sizes of persistent memory",
            )
        })?),
    };
    Ok(Some(Disk {
        name: disk.name().to_owned(),
        size,
        lba_size,
        number: disk.text("dev")?,
        directory: disk,
    }))
}

/// Returns the character device below a `daxR.N` of the nd bus: `daxX.Y`, on the dax bus or (before Linux 5.1) in the class `dax`.
fn character_device(claim: &Directory) -> Result<Option<String>, Error> {
    for parent in [claim.clone(), claim.child("dax")] {
        if let Some(device) = parent.first_directory(|name| is_nd_name(name, "dax"))? {
            return Ok(Some(device.name().to_owned()));
        }
    }
    Ok(None)
}

/// Returns whether `name` is `prefix`, a number, a dot and a number: how libnvdimm names what lies in a region.
fn is_nd_name(name: &str, prefix: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix(prefix)
        .and_then(|numbers| numbers.split_once('.'))
        .is_some_and(|(region, own)| is_number(region) && is_number(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// Makes a region of 1 GiB with a namespace of each mode, and the directories of their block devices.
    fn tree(root: &Path) {
        for (path, content) in [
            ("region0/resource", "0x100000000"),
            ("region0/size", "1073741824"),
            ("region0/namespace0.0/resource", "0x100000000"),
            ("region0/namespace0.0/size", "268435456"),
            ("region0/namespace0.0/block/pmem0/size", "524288"),
            ("region0/namespace0.1/resource", "0x110000000"),
            ("region0/namespace0.1/size", "268435456"),
            ("region0/namespace0.1/holder", "pfn0.2"),
            ("region0/pfn0.2/namespace", "namespace0.1"),
            ("region0/pfn0.2/resource", "0x110200000"),
            ("region0/pfn0.2/block/pmem0.1/size", "520192"),
            ("region0/namespace0.2/resource", "0x120000000"),
            ("region0/namespace0.2/size", "268435456"),
            ("region0/namespace0.2/holder", "btt0.3"),
            ("region0/btt0.3/namespace", "namespace0.2"),
            ("region0/btt0.3/block/pmem0.2s/size", "520192"),
            ("pci/block/sda/size", "8"),
            ("virtual/block/loop0/size", "8"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        for (disk, device) in [
            ("region0/namespace0.0/block/pmem0", "region0/namespace0.0"),
            ("region0/pfn0.2/block/pmem0.1", "region0/pfn0.2"),
            ("region0/btt0.3/block/pmem0.2s", "region0/btt0.3"),
            ("pci/block/sda", "pci"),
        ] {
            symlink(root.join(device), root.join(disk).join("device")).unwrap();
        }
    }

    #[test]
    fn a_block_device_leads_to_its_namespace() {
        let root = tempfile::tempdir().unwrap();
        tree(root.path());
        let sysfs = SysfsRoot::new(root.path());
        let found = |disk: &str| presented_by(&sysfs.directory(disk)).unwrap();
        for (disk, name, mode, start) in [
            (
                "region0/namespace0.0/block/pmem0",
                "namespace0.0",
                Mode::Raw,
                Some(0x1_0000_0000),
            ),
            (
                "region0/pfn0.2/block/pmem0.1",
                "namespace0.1",
                Mode::Fsdax,
                Some(0x1_1020_0000),
            ),
            ("region0/btt0.3/block/pmem0.2s", "namespace0.2", Mode::Sector, None),
        ] {
            let namespace = found(disk).unwrap();
            assert_eq!((namespace.name.as_str(), namespace.mode), (name, mode));
            let starts = match namespace.presented {
                Presented::Block { start, .. } => Some(start.0),
                _ => None,
            };
            assert_eq!(starts, start, "{disk}");
        }
        assert_eq!(found("pci/block/sda"), None);
        assert_eq!(found("virtual/block/loop0"), None);
        fs::remove_file(root.path().join("region0/pfn0.2/namespace")).unwrap();
        let error = presented_by(&sysfs.directory("region0/pfn0.2/block/pmem0.1")).unwrap_err();
        assert!(error.to_string().ends_with("pfn0.2/namespace is missing"), "{error}");
    }
}
