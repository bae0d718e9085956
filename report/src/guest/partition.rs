//! The block device of a partition: its disk, its number, and who uses it.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use xen_pmem_nvdimm::claim::{self, Intent};
use xen_pmem_nvdimm::sysfs::{Error as SysfsError, SysfsRoot};

/// A partition as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The node of its disk.
    pub disk: PathBuf,
    /// Its number in the partition table.
    pub number: u32,
    /// Its own node.
    pub node: PathBuf,
    /// The number of its own node.
    pub device: (u32, u32),
    /// Its 512-byte sectors.
    pub sectors: u64,
}

/// Why a node is not that of a partition that could be claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be looked at.
    #[error("cannot be looked at: {0}")]
    Open(std::io::Error),
    /// It is something else.
    #[error("is not a partition's node: name one, as /dev/pmem0p1")]
    NotAPartition,
    /// Somebody has made it read-only, which a claim does as well, and its release undoes.
    #[error("is read-only; if that is not meant, `blockdev --setrw {}` ends it", .0.display())]
    ReadOnly(PathBuf),
    /// It is in use.
    #[error(transparent)]
    Use(#[from] claim::Error),
    /// sysfs lacks an attribute, or it has an unexpected value.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
}

/// Returns the partition whose node is `path`.
///
/// # Errors
///
/// If it is not a partition, or it is in use.
pub fn find(root: &SysfsRoot, path: &Path) -> Result<Partition, Error> {
    let metadata = fs::metadata(path).map_err(Error::Open)?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::NotAPartition);
    }
    let device = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let folder = root.block_device_numbered(&format!("{}:{}", device.0, device.1));
    let folder = folder.ok_or(Error::NotAPartition)?;
    let number = folder
        .number("partition")?
        .and_then(|number| u32::try_from(number).ok());
    let (Some(number), Some(disk), Some(sectors)) = (number, folder.parent(), folder.number("size")?) else {
        return Err(Error::NotAPartition);
    };
    // Looked at as for a write, and let go: the kernel is to hold it.
    drop(claim::partition(root, path, Intent::DryRun)?);
    if folder.number("ro")? == Some(1) {
        return Err(Error::ReadOnly(path.to_owned()));
    }
    Ok(Partition {
        disk: Path::new("/dev").join(disk.name()),
        number,
        node: path.to_owned(),
        device,
        sectors,
    })
}
