//! What is prepared: a block device or an image, opened so that nobody else uses it meanwhile.

use crate::geometry::{Geometry, Placement};
use crate::placement::{self, Found};
use crate::progress::Watched;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_format::inspect::{Inspection, inspect};
use xen_pmem_format::read::ReadAt as _;
use xen_pmem_format::units::{Bytes, LbaSize, PhysAddr, PhysRange};

/// How often, and how far apart, a lock is asked for that another program holds: udev holds it for as long as it reads.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What a target is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Looking only: nothing is locked, nothing is claimed.
    Read,
    /// Changing: claimed for this process alone.
    Write,
}

/// An open target.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    file: File,
    block: Option<PathBuf>,
    found: Found,
}

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// It is neither a block device nor a file.
    #[error("is {0}, neither a block device nor an image file")]
    Kind(&'static str),
    /// It is a partition.
    #[error("is a partition: name the whole disk, {0}")]
    Partition(String),
    /// It is in use.
    #[error("is in use: {0}")]
    InUse(String),
    /// Its blocks have no fixed address.
    #[error(
        "is in sector mode (BTT), where blocks have no fixed physical address: reconfigure the namespace to fsdax first (ndctl create-namespace --force --reconfig=... --mode=fsdax --map=mem), which loses its data"
    )]
    Sector,
    /// sysfs does not say where it lies.
    #[error(transparent)]
    Placement(#[from] placement::Error),
    /// Its block size is none that a partition table has.
    #[error("has logical blocks of {0} bytes; 512 and 4096 are supported")]
    LbaSize(u32),
    /// --base for a device that says itself where it is.
    #[error("says itself where it lies, at {0}: --base is for images")]
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
    #[error("is there already: --size makes a new image; leave it out to prepare this one")]
    Exists,
    /// Something failed.
    #[error("{what}: {error}")]
    Io {
        /// What failed.
        what: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
}

impl Error {
    /// How the program ends.
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Kind(_) | Self::Partition(_) | Self::BaseKnown(_) | Self::BaseTooLarge { .. } => ExitStatus::Usage,
            Self::InUse(_) | Self::Sector | Self::LbaSize(_) | Self::Exists => ExitStatus::Refused,
            Self::Open(_) | Self::Placement(_) | Self::Io { .. } => ExitStatus::Failed,
        }
    }
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
        let block = kind.is_block_device().then(|| sysfs_folder(metadata.rdev()));
        if block.is_none() && !kind.is_file() {
            let kind = if kind.is_dir() { "a directory" } else { "a special file" };
            return Err(Error::Kind(kind));
        }
        if let Some(block) = &block {
            refuse_partition(block)?;
            if access == Access::Write {
                refuse_used(block)?;
            }
        }
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Write);
        if access == Access::Write && block.is_some() {
            // Without O_CREAT, O_EXCL claims a block device: it fails while anything on it is mounted or held.
            options.custom_flags(i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0));
        }
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => {
                Error::InUse("the kernel or another program holds it or one of its partitions".to_owned())
            }
            _ => Error::Open(error),
        })?;
        if access == Access::Write {
            lock(&file)?;
        }
        let found = match &block {
            Some(block) => placement::find(block)?,
            None => Found::Other,
        };
        if found == Found::Sector {
            return Err(Error::Sector);
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            block,
            found,
        })
    }

    /// Makes an image of `size` bytes, sparse. It is removed again by [`Target::discard`].
    ///
    /// # Errors
    ///
    /// If something of that name is there, or it cannot be made.
    pub fn create(path: &Path, size: Bytes) -> Result<Self, Error> {
        let made = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists,
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
        match lock(&target.file) {
            Ok(()) => Ok(target),
            Err(error) => {
                target.discard();
                Err(error)
            }
        }
    }

    /// Removes an image that was made in vain. That this fails too is nothing more to be said.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Its name on the command line.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is an image, not a device.
    pub fn is_image(&self) -> bool {
        self.block.is_none()
    }

    /// What is read and written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What is known of where it lies.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Reads and judges its tables and super blocks.
    ///
    /// # Errors
    ///
    /// If its size or block size cannot be told.
    pub fn inspect(&self) -> Result<Inspection, Error> {
        let lba_size = self.own_lba_size()?;
        inspect(&Watched::new(&self.file, "searching for super blocks"), lba_size).map_err(|error| Error::Io {
            what: "telling its size",
            error,
        })
    }

    /// The block size that a block device has; an image has none of its own.
    ///
    /// # Errors
    ///
    /// If it cannot be told, or no partition table has it.
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

    /// Its size and where it lies; `base` is the physical address that an image is meant for.
    ///
    /// # Errors
    ///
    /// If its size cannot be told, or `base` is given for a device that says itself where it lies, or makes no sense.
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
        for _ in 0..LOCK_TRIES {
            match gptman::linux::reread_partition_table(&mut self.file) {
                Ok(()) => return Ok(()),
                // Somebody, udev as a rule, looks at a partition right now.
                Err(gptman::linux::BlockError::RereadTable(errno)) if errno as i32 == Errno::BUSY.raw_os_error() => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(error) => return Err(reread(io::Error::other(error.to_string()))),
            }
        }
        Err(reread(io::Error::from(Errno::BUSY)))
    }
}

/// The size of an image, and where it lies if it is meant for the physical address `base`.
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

fn reread(error: io::Error) -> Error {
    Error::Io {
        what: "the change is written, but the kernel does not read the partition table again; run partprobe on it",
        error,
    }
}

/// Opens the node of a partition, whose folder in sysfs is `block`, for this process alone. The other partitions of its disk may be in
/// use.
///
/// # Errors
///
/// If it is in use, or cannot be opened.
pub(crate) fn open_exclusively(path: &Path, block: &Path) -> Result<File, Error> {
    refuse_used(block)?;
    refuse_disk_of_guest(block)?;
    let excl = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).write(true).custom_flags(excl).open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => Error::InUse("the kernel or another program holds it".to_owned()),
        _ => Error::Open(error),
    })
}

/// xen-blkback opens a guest's disk (`phy:`) without claiming it, so `O_EXCL` does not see that; its sysfs attribute
/// `physical_device` names the disk (Linux `drivers/block/xen-blkback/xenbus.c`).
fn refuse_disk_of_guest(block: &Path) -> Result<(), Error> {
    let number = fs::read_to_string(block.join("dev")).unwrap_or_default();
    let number = number.trim().split_once(':').and_then(|(major, minor)| {
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        Some(format!("{major:x}:{minor:x}"))
    });
    for backend in fs::read_dir("/sys/bus/xen-backend/devices")
        .into_iter()
        .flatten()
        .flatten()
    {
        let disk = fs::read_to_string(backend.path().join("physical_device")).ok();
        if number.is_some() && disk.as_deref().map(str::trim) == number.as_deref() {
            let name = backend.file_name().to_string_lossy().into_owned();
            // vbd-DOMAIN-DEVICE
            let domain = name.split('-').nth(1).unwrap_or_default();
            return Err(Error::InUse(format!(
                "it is a disk of domain {domain} ({name}); detach it first (xl block-detach)"
            )));
        }
    }
    Ok(())
}

pub(crate) fn sysfs_folder(number: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

fn refuse_partition(block: &Path) -> Result<(), Error> {
    if !block.join("partition").exists() {
        return Ok(());
    }
    let disk = fs::canonicalize(block)
        .ok()
        .and_then(|folder| Some(folder.parent()?.file_name()?.to_string_lossy().into_owned()));
    Err(Error::Partition(
        disk.map_or("not its partition".to_owned(), |disk| format!("/dev/{disk}")),
    ))
}

/// Says what uses a disk or one of its partitions. The kernel refuses too, but does not say what.
fn refuse_used(block: &Path) -> Result<(), Error> {
    let disk = fs::canonicalize(block).map_err(|error| Error::Io {
        what: "looking it up in /sys",
        error,
    })?;
    let mut members = vec![disk.clone()];
    for entry in fs::read_dir(&disk).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists() {
            members.push(entry.path());
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for member in members {
        let name = member.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = fs::read_to_string(member.join("dev")).unwrap_or_default();
        let mounted = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            (words.nth(2)? == number.trim()).then(|| words.nth(1)).flatten()
        });
        if let Some(place) = mounted {
            return Err(Error::InUse(format!(
                "/dev/{name} is mounted on {place}; unmount it first"
            )));
        }
        if swaps
            .lines()
            .any(|line| line.split_whitespace().next() == Some(&format!("/dev/{name}")))
        {
            return Err(Error::InUse(format!(
                "/dev/{name} is a swap area; turn it off first (swapoff)"
            )));
        }
        let holder = fs::read_dir(member.join("holders"))
            .into_iter()
            .flatten()
            .flatten()
            .next();
        if let Some(holder) = holder {
            let holder = holder.file_name().to_string_lossy().into_owned();
            return Err(Error::InUse(format!(
                "/dev/{name} is held by {holder}; take that apart first"
            )));
        }
    }
    Ok(())
}

/// Locks the whole disk, as udev and other partitioners do while they read or write.
fn lock(file: &File) -> Result<(), Error> {
    for _ in 0..LOCK_TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => {
                return Err(Error::Io {
                    what: "locking it",
                    error: errno.into(),
                });
            }
        }
    }
    Err(Error::InUse(
        "another program has locked it; try again when that has ended".to_owned(),
    ))
}
