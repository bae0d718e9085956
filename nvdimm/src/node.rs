//! Device nodes: from what a user names to a device's name, and from the name to an open file that is really that device.

use crate::namespace::Disk;
use crate::sysfs::{Directory, SysfsRoot};
use rustix::fs::OFlags;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where device nodes are, and what they have to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nodes {
    /// /dev: each is a block device with the number that sysfs gives.
    #[default]
    System,
    /// A directory that goes with a recorded sysfs tree: each is an image file.
    Recorded(PathBuf),
}

/// Why a node cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing has that name.
    #[error("there is no such device")]
    NotFound,
    /// A partition.
    #[error("is a partition: give the whole disk, {disk}")]
    Partition {
        /// Its disk.
        disk: PathBuf,
    },
    /// A device, but of another kind.
    #[error("is not persistent memory that the kernel's libnvdimm knows")]
    NotPersistentMemory,
    /// A regular file, where a device was asked for.
    #[error("is not a device")]
    NotADevice,
    /// The file at the node's path is not a block device.
    #[error(
        "is not a block device: something wrote a file in place of the device's node; remove it and let udev make the node again"
    )]
    NotANode,
    /// The node belongs to another device.
    #[error(
        "is the node of block device {found}, but sysfs gives the device the number {expected}: let udev make the node again"
    )]
    AnotherDevice {
        /// The node's number.
        found: String,
        /// The device's.
        expected: String,
    },
    /// In a recorded tree, something other than an image.
    #[error("is not an image file")]
    NotAnImage,
    /// It could not be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
}

impl Nodes {
    /// Returns the path of the node called `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::System => Path::new("/dev").join(name),
            Self::Recorded(directory) => directory.join(name),
        }
    }

    /// Returns the name of the device that `asked`, a name or a path, stands for.
    ///
    /// # Errors
    ///
    /// If the file does not exist, or is not a device node.
    pub fn name_of(&self, root: &SysfsRoot, asked: &Path) -> Result<String, Error> {
        let last = asked
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(Error::NotFound)?;
        if asked.components().count() == 1 && !asked.is_absolute() {
            return Ok(last.to_owned());
        }
        let path = fs::canonicalize(asked).map_err(unopened)?;
        let metadata = fs::metadata(&path).map_err(unopened)?;
        if metadata.file_type().is_block_device() {
            let number = number_of(&metadata);
            let device = root.block_device_numbered(&number).ok_or(Error::NotPersistentMemory)?;
            return Ok(device.name().to_owned());
        }
        let recorded = match self {
            Self::System => metadata.file_type().is_char_device(),
            Self::Recorded(directory) => {
                fs::canonicalize(directory).is_ok_and(|directory| path.parent() == Some(&directory))
            }
        };
        let name = path.file_name().and_then(|name| name.to_str());
        name.filter(|_| recorded).map(str::to_owned).ok_or(Error::NotADevice)
    }

    /// Opens the node of `disk`, read-only.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or is something else.
    pub fn open(&self, disk: &Disk) -> Result<File, Error> {
        let file = open(&self.path(&disk.name)).map_err(Error::Open)?;
        let metadata = file.metadata().map_err(Error::Open)?;
        match self {
            Self::Recorded(_) if metadata.is_file() => Ok(file),
            Self::Recorded(_) => Err(Error::NotAnImage),
            Self::System if !metadata.file_type().is_block_device() => Err(Error::NotANode),
            Self::System => match &disk.number {
                Some(expected) if number_of(&metadata) != *expected => Err(Error::AnotherDevice {
                    found: number_of(&metadata),
                    expected: expected.clone(),
                }),
                _ => Ok(file),
            },
        }
    }
}

/// Opens a file for reading, and does not wait if it is something that is waited for: a FIFO would block until somebody writes to it.
///
/// # Errors
///
/// Whatever the operating system says.
pub fn open(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(nonblocking).open(path)
}

/// Returns why nothing in `root` that is persistent memory is called `name`.
pub fn why_unknown(root: &SysfsRoot, nodes: &Nodes, name: &str) -> Error {
    let device = root.block_device(name);
    let partition = device
        .as_ref()
        .filter(|device| device.text("partition").is_ok_and(|number| number.is_some()));
    if let Some(disk) = partition.and_then(Directory::parent) {
        Error::Partition {
            disk: nodes.path(disk.name()),
        }
    } else if device.is_some() || nodes.path(name).exists() {
        Error::NotPersistentMemory
    } else {
        Error::NotFound
    }
}

fn number_of(metadata: &fs::Metadata) -> String {
    let number = metadata.rdev();
    format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number))
}

fn unopened(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        Error::NotFound
    } else {
        Error::Open(error)
    }
}
