//! The device to prepare: a block device or an image, opened so that nobody else uses it meanwhile.

use crate::geometry::{Geometry, Placement};
use crate::placement::{self, Found, Location};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};
use xen_pmem_format::inspect::{Inspection, inspect};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Bytes, LbaSize, PhysAddr, PhysRange};
use xen_pmem_nvdimm::claim::{self, Intent};
use xen_pmem_nvdimm::guest_claim::Claim;
use xen_pmem_nvdimm::node;
use xen_pmem_nvdimm::obstacle::Obstacle;
use xen_pmem_nvdimm::sysfs::{self, Directory, SysfsRoot};

/// What a target is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To look only: nothing is locked or claimed.
    Read,
    /// Saying what a change would be: claimed as for the change, so that what is refused then is refused now, and open for reading.
    Plan,
    /// Changing: claimed for this process alone.
    Write,
}

impl Access {
    /// Returns the access that a change takes, or its dry run.
    pub fn to_change(dry_run: bool) -> Self {
        if dry_run { Self::Plan } else { Self::Write }
    }
}

/// An open target.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    file: File,
    /// The directory of a block device in sysfs.
    block: Option<Directory>,
    found: Found,
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// It cannot be claimed: it is in use, or cannot be opened.
    #[error(transparent)]
    Claim(#[from] claim::Error),
    /// It is neither a block device nor a file.
    #[error("is {0}, neither a block device nor an image file")]
    Kind(&'static str),
    /// It is a partition.
    #[error("is a partition: name the whole disk, {0}")]
    Partition(String),
    /// Its blocks have no fixed address.
    #[error(
        "is in sector mode (BTT), where blocks have no fixed physical address: reconfigure the namespace to fsdax first (ndctl create-namespace --force --reconfig=... --mode=fsdax --map=mem), which loses its data"
    )]
    Sector,
    /// Nothing may be prepared there.
    #[error("cannot be prepared: {0}")]
    Obstacle(Obstacle),
    /// sysfs does not say where it lies.
    #[error(transparent)]
    Placement(#[from] placement::Error),
    /// sysfs does not say which partitions guests have.
    #[error(transparent)]
    Guests(#[from] sysfs::Error),
    /// A partition table cannot have its block size.
    #[error("has logical blocks of {0} bytes; 512 and 4096 are supported")]
    LbaSize(u32),
    /// --base for a device whose address is known.
    #[error("has a known address, {0}")]
    BaseKnown(PhysAddr),
    /// The range would end beyond the address space.
    #[error("an image of {size} at physical address {base} would end beyond the address space")]
    BaseTooLarge {
        /// The address.
        base: PhysAddr,
        /// The image's size.
        size: Bytes,
    },
    /// The file is there already.
    #[error("is there already")]
    Exists,
    /// A link of that name leads nowhere.
    #[error("is a link to {0}, which is not there: give that path, or remove the link")]
    Dangling(String),
    /// Something failed.
    #[error("{what}: {error}")]
    Io {
        /// What failed.
        what: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
}

impl Target {
    /// Opens a block device or an image that is there.
    ///
    /// # Errors
    ///
    /// If it is not there, is something else, or is in use.
    pub fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(Error::Open)?;
        let kind = metadata.file_type();
        let sysfs = SysfsRoot::default();
        let block = kind.is_block_device().then(|| sysfs.block_device_of(&metadata));
        if block.is_none() && !kind.is_file() {
            let kind = if kind.is_dir() { "a directory" } else { "a special file" };
            return Err(Error::Kind(kind));
        }
        if let Some(block) = &block {
            refuse_partition(block)?;
        }
        let location = block.as_ref().map(Location::of).transpose()?.unwrap_or_default();
        if location.found == Found::Sector {
            return Err(Error::Sector);
        }
        if let (Some(obstacle), Access::Plan | Access::Write) = (location.obstacle, access) {
            return Err(Error::Obstacle(obstacle));
        }
        let intent = match access {
            Access::Read => None,
            Access::Plan => Some(Intent::DryRun),
            Access::Write => Some(Intent::Write),
        };
        let file = match (intent, &block) {
            (None, _) => node::open(path).map_err(Error::Open)?,
            (Some(intent), Some(_)) => claim::disk(&sysfs, path, intent)?,
            (Some(intent), None) => claim::image(&sysfs, path, intent)?,
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            block,
            found: location.found,
        })
    }

    /// Returns the claims on its partitions for guests. An image has none.
    ///
    /// # Errors
    ///
    /// If sysfs does not say.
    pub fn guests(&self) -> Result<Vec<Claim>, Error> {
        let claims = self.block.as_ref().map(Claim::on_disk).transpose()?;
        Ok(claims.unwrap_or_default())
    }

    /// Makes an image of `size` bytes, sparse. It is removed again by [`Target::discard`].
    ///
    /// # Errors
    ///
    /// If something of that name is there, or it cannot be made.
    pub fn create(path: &Path, size: Bytes) -> Result<Self, Error> {
        let made = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => Error::Open(error),
        })?;
        let target = Self {
            path: path.to_owned(),
            file,
            block: None,
            found: Found::Other,
        };
        if let Err(error) = target.file.set_len(size.0) {
            target.discard();
            return Err(Error::Io {
                what: "giving it its size",
                error,
            });
        }
        match claim::new_image(&target.file, path) {
            Ok(()) => Ok(target),
            Err(error) => {
                target.discard();
                Err(error.into())
            }
        }
    }

    /// Removes an image that was made in vain. That this fails too is nothing more to be said.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Returns its name on the command line.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether it is an image, not a device.
    pub fn is_image(&self) -> bool {
        self.block.is_none()
    }

    /// Returns what is read and written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the facts about where it lies.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Reads and judges its tables and super blocks.
    ///
    /// # Errors
    ///
    /// If its size or block size cannot be found out.
    pub fn inspect(&self) -> Result<Inspection, Error> {
        self.inspect_through(&self.file)
    }

    /// Inspects it like [`Target::inspect`], with its bytes read through `device`, which can follow what is read.
    ///
    /// # Errors
    ///
    /// If its size or block size cannot be found out.
    pub fn inspect_through<D: ReadAt + ?Sized>(&self, device: &D) -> Result<Inspection, Error> {
        inspect(device, self.own_lba_size()?).map_err(|error| Error::Io {
            what: "telling its size",
            error,
        })
    }

    /// Returns the block size of a block device; `None` for an image.
    ///
    /// # Errors
    ///
    /// If it cannot be found out, or a partition table cannot have it.
    pub fn own_lba_size(&self) -> Result<Option<LbaSize>, Error> {
        if self.block.is_none() {
            return Ok(None);
        }
        let bytes = rustix::fs::ioctl_blksszget(&self.file).map_err(|errno| Error::Io {
            what: "telling its block size",
            error: errno.into(),
        })?;
        LbaSize::from_bytes(bytes.into()).map(Some).ok_or(Error::LbaSize(bytes))
    }

    /// Returns its size and where it lies; `base` is the physical address that an image is meant for.
    ///
    /// # Errors
    ///
    /// If its size cannot be found out; if `base` is given for a device whose address is known; if `base` is not valid.
    pub fn geometry(&self, lba_size: LbaSize, base: Option<PhysAddr>) -> Result<Geometry, Error> {
        let device_size = self.file.size().map_err(|error| Error::Io {
            what: "telling its size",
            error,
        })?;
        let placement = match (&self.found, base) {
            (Found::Raw(placement) | Found::Fsdax(placement), Some(_)) => {
                return Err(Error::BaseKnown(placement.device_start));
            }
            (Found::Raw(placement) | Found::Fsdax(placement), None) => Some(*placement),
            (_, base) => return image_geometry(device_size, lba_size, base),
        };
        Ok(Geometry {
            device_size,
            lba_size,
            placement,
        })
    }

    /// Makes the kernel read a block device's partition table again.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn reread_partitions(&mut self) -> Result<(), Error> {
        if self.block.is_none() {
            return Ok(());
        }
        claim::reread_partitions(&mut self.file).map_err(|error| Error::Io {
            what: "the change is written, but the kernel does not read the partition table again; run partprobe on it",
            error,
        })
    }
}

/// Returns why nothing new can be made at this path, where something is.
pub fn exists(path: &Path) -> Error {
    match fs::read_link(path) {
        Ok(link) if !path.exists() => Error::Dangling(link.display().to_string()),
        _ => Error::Exists,
    }
}

/// Returns the size of an image, and where it lies if it is meant for the physical address `base`.
///
/// # Errors
///
/// If it would end beyond the address space.
pub fn image_geometry(device_size: Bytes, lba_size: LbaSize, base: Option<PhysAddr>) -> Result<Geometry, Error> {
    let placement = base.map(|base| -> Result<Placement, Error> {
        let namespace = PhysRange::new(base, device_size).ok_or(Error::BaseTooLarge {
            base,
            size: device_size,
        })?;
        Ok(Placement {
            device_start: base,
            namespace,
        })
    });
    Ok(Geometry {
        device_size,
        lba_size,
        placement: placement.transpose()?,
    })
}

/// Opens the node of a partition for this process alone. The other partitions of its disk may be in use.
///
/// # Errors
///
/// If it is in use, or cannot be opened.
pub(crate) fn open_exclusively(path: &Path) -> Result<File, Error> {
    Ok(claim::partition(&SysfsRoot::default(), path, Intent::Write)?)
}

fn refuse_partition(block: &Directory) -> Result<(), Error> {
    if !block.has("partition") {
        return Ok(());
    }
    let disk = block.parent();
    Err(Error::Partition(disk.map_or("not its partition".to_owned(), |disk| {
        format!("/dev/{}", disk.name())
    })))
}
