//! Reading sysfs: attributes whose absence is normal, and errors that name the file and what stood in it.
//!
//! Devices come and go while they are looked at: a file that is not there, or that its driver has no value for, is `None`, not
//! an error. What is an error is a value that cannot be read or understood.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use xen_pmem_format::units::{Bytes, PhysAddr};

/// The most that the kernel gives for one attribute: a page (`sysfs_emit`, `fs/sysfs/file.c`).
const ATTRIBUTE_LIMIT: u64 = 4096;

/// Why something in sysfs could not be learned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system failed to read it.
    #[error("{} cannot be read: {source}{}", .path.display(), advice(.source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The content is not what the kernel writes there.
    #[error("{} says {content:?}, which is not {expected}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        content: String,
        /// What was expected.
        expected: &'static str,
    },
    /// An attribute that must be there is not.
    #[error("{} is missing", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
}

/// Physical addresses are shown to root only.
fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        " (run as root)"
    } else {
        ""
    }
}

/// Whether an error says that the thing is gone or has no value, as opposed to that it cannot be read.
fn is_absence(error: &io::Error) -> bool {
    // libnvdimm answers ENXIO for an attribute of a device without a driver, the core ENODEV for one that is being removed.
    let no_such_device = [rustix::io::Errno::NXIO, rustix::io::Errno::NODEV]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    no_such_device || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The root of a sysfs tree: /sys, or a recorded one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysfsRoot(PathBuf);

impl SysfsRoot {
    /// The tree below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The path itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The entries of the nd bus: regions, namespaces and what claims them; empty if libnvdimm is not there.
    ///
    /// # Errors
    ///
    /// If the directory is there and cannot be read.
    pub fn nd_devices(&self) -> Result<Vec<Directory>, Error> {
        let bus = Directory(self.0.join("bus/nd/devices"));
        let mut entries = bus.entries()?;
        entries.sort();
        Ok(entries.into_iter().filter_map(|name| bus.follow(&name)).collect())
    }

    /// The block device called `name` in the kernel's list of block devices.
    pub fn block_device(&self, name: &str) -> Option<Directory> {
        Directory(self.0.join("class/block")).follow(name)
    }

    /// The block device with the number `major:minor`.
    pub fn block_device_numbered(&self, number: &str) -> Option<Directory> {
        Directory(self.0.join("dev/block")).follow(number)
    }
}

impl Default for SysfsRoot {
    fn default() -> Self {
        Self::new("/sys")
    }
}

impl fmt::Display for SysfsRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A device's directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The device's name: the last part of its path.
    pub fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Whether the device is still there.
    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// The directory that the device's directory lies in.
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_path_buf()))
    }

    /// The directory that `name` is, or leads to; `None` if there is none.
    pub fn follow(&self, name: &str) -> Option<Self> {
        let target = fs::canonicalize(self.0.join(name)).ok()?;
        target.is_dir().then_some(Self(target))
    }

    /// The names in it that are text; empty if it is gone.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub fn entries(&self) -> Result<Vec<String>, Error> {
        let read = || -> io::Result<Vec<OsString>> {
            fs::read_dir(&self.0)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect()
        };
        match read() {
            Ok(names) => Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect()),
            Err(error) if is_absence(&error) => Ok(Vec::new()),
            Err(source) => Err(Error::Io {
                path: self.0.clone(),
                source,
            }),
        }
    }

    /// An attribute's text without the white space around it; `None` if there is none, or it is empty.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub fn text(&self, attribute: &str) -> Result<Option<String>, Error> {
        let path = self.0.join(attribute);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(ATTRIBUTE_LIMIT).read_to_end(&mut bytes)) {
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes).trim().to_owned();
                Ok((!text.is_empty()).then_some(text))
            }
            Err(error) if is_absence(&error) => Ok(None),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    /// An attribute that holds a number: hexadecimal after `0x`, otherwise decimal.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read, or is not a number.
    pub fn number(&self, attribute: &str) -> Result<Option<u64>, Error> {
        let Some(content) = self.text(attribute)? else {
            return Ok(None);
        };
        match content.parse::<PhysAddr>() {
            Ok(PhysAddr(number)) => Ok(Some(number)),
            Err(_) => Err(self.malformed(attribute, content, "a number")),
        }
    }

    /// The attribute `resource`: the physical address where a device starts.
    ///
    /// # Errors
    ///
    /// As [`number`](Self::number).
    pub fn resource(&self) -> Result<Option<PhysAddr>, Error> {
        Ok(self.number("resource")?.map(PhysAddr))
    }

    /// The attribute `size`, in bytes.
    ///
    /// # Errors
    ///
    /// As [`number`](Self::number).
    pub fn size(&self) -> Result<Option<Bytes>, Error> {
        Ok(self.number("size")?.map(Bytes))
    }

    /// The attribute `numa_node`; `None` also for a device that belongs to none (-1).
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read, or is not a number.
    pub fn numa_node(&self) -> Result<Option<i32>, Error> {
        let Some(content) = self.text("numa_node")? else {
            return Ok(None);
        };
        match content.parse::<i32>() {
            Ok(node) => Ok((node >= 0).then_some(node)),
            Err(_) => Err(self.malformed("numa_node", content, "a NUMA node")),
        }
    }

    /// The error for an attribute that must be there and is not.
    pub fn missing(&self, attribute: &str) -> Error {
        Error::Missing {
            path: self.0.join(attribute),
        }
    }

    /// The error for an attribute whose `content` is not `expected`.
    pub fn malformed(&self, attribute: &str, content: String, expected: &'static str) -> Error {
        Error::Malformed {
            path: self.0.join(attribute),
            content,
            expected,
        }
    }
}
