//! Claims a block device or an image for this process alone, and says what uses it where it cannot be claimed.
//!
//! O_EXCL detects mounts, swap areas and holders of a device. It does not detect a program that merely has a partition open: a guest's
//! disk that xen-blkback or QEMU serves, a loop device. The kernel knows these: it refuses to read the partition table again while a
//! partition is open. So this module asks it to, before anything is written. Sources: Linux `block/ioctl.c` (`blkdev_reread_part`),
//! `drivers/block/xen-blkback/xenbus.c`, `drivers/block/loop.c`; QEMU `block/file-posix.c` (`raw_check_lock_bytes`).

mod image_lock;
mod loops;
mod users;

use crate::sysfs::{Directory, SysfsRoot};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

/// How often, and how far apart, that is asked for which another program has for a moment: udev opens devices, and locks them, for
/// as long as it reads.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Who claims a device, where nothing names it.
const HELD: &str = "the kernel or another program holds it or one of its partitions";

/// Who uses a partition, where nothing names it.
const NAMELESS: &str =
    "one of its partitions is open, and the kernel does not say where: look for a guest, or a program in a container";

/// What something is claimed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To be written.
    Write,
    /// A dry run: what a write would be refused for is refused, and the file is open for reading.
    DryRun,
}

/// Why something cannot be claimed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// Something uses it.
    #[error("is in use: {0}")]
    InUse(String),
    /// Something failed.
    #[error("{what}: {error}")]
    Io {
        /// What failed.
        what: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Claims a whole disk. It stays claimed until the file is closed.
///
/// # Errors
///
/// If it cannot be opened, or is in use.
pub fn disk(sysfs: &SysfsRoot, node: &Path, intent: Intent) -> Result<File, Error> {
    let disk = Disk::of(numbered(sysfs, node)?)?;
    if let Some(user) = users::named(sysfs, &disk.members) {
        return Err(Error::InUse(user));
    }
    let mut file = open_alone(node, intent, &disk.members)?;
    lock(&file, node, intent)?;
    match reread(&mut file) {
        Ok(()) => {}
        Err(Errno::BUSY) => {
            let user = users::opener(disk.partitions()).unwrap_or_else(|| NAMELESS.to_owned());
            return Err(Error::InUse(user));
        }
        // The kernel does not read tables on this device, and knows only the partitions that a program added. Other checks find who has
        // them open.
        Err(Errno::INVAL) => {
            if let Some(user) = opener_that_stays(disk.partitions()) {
                return Err(Error::InUse(user));
            }
        }
        // A caller without the permission gets the error when it opens the device for writing.
        Err(Errno::ACCESS | Errno::PERM) if intent == Intent::DryRun => {}
        Err(errno) => {
            return Err(Error::Io {
                what: "having the kernel read the partition table again, to see whether a partition is in use",
                error: errno.into(),
            });
        }
    }
    if let Some(writer) = users::writer(disk.whole()) {
        return Err(Error::InUse(writer));
    }
    Ok(file)
}

/// Claims a partition; its disk and the other partitions may be in use. It stays claimed until the file is closed.
///
/// # Errors
///
/// If it cannot be opened, or is in use.
pub fn partition(sysfs: &SysfsRoot, node: &Path, intent: Intent) -> Result<File, Error> {
    let member = [Member::of(numbered(sysfs, node)?)?];
    if let Some(user) = users::named(sysfs, &member) {
        return Err(Error::InUse(user));
    }
    let file = open_alone(node, intent, &member)?;
    if let Some(user) = opener_that_stays(&member) {
        return Err(Error::InUse(user));
    }
    Ok(file)
}

/// Claims an image file. It stays claimed until the file is closed.
///
/// # Errors
///
/// If it cannot be opened, or is in use.
pub fn image(sysfs: &SysfsRoot, path: &Path, intent: Intent) -> Result<File, Error> {
    let metadata = fs::metadata(path).map_err(Error::Open)?;
    if let Some(user) = users::of_image(sysfs, path, &metadata) {
        return Err(Error::InUse(user));
    }
    let file = open(path, intent, OFlags::empty())?;
    lock(&file, path, intent)?;
    Ok(file)
}

/// Claims an image file that was just made.
///
/// # Errors
///
/// If somebody else was faster.
pub fn new_image(file: &File, path: &Path) -> Result<(), Error> {
    lock(file, path, Intent::Write)
}

/// Makes the kernel read a disk's partition table again, where it reads tables at all: on a loop device only with `--partscan`.
///
/// # Errors
///
/// [`io::ErrorKind::ResourceBusy`] if a partition is in use; otherwise the kernel's error.
pub fn reread_partitions(file: &mut File) -> io::Result<()> {
    match reread(file) {
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn reread(file: &mut File) -> Result<(), Errno> {
    for _ in 0..TRIES {
        let errno = match gptman::linux::reread_partition_table(file) {
            Ok(()) => return Ok(()),
            Err(gptman::linux::BlockError::RereadTable(errno)) => Errno::from_raw_os_error(errno as i32),
            Err(_) => Errno::IO,
        };
        if errno != Errno::BUSY {
            return Err(errno);
        }
        // Somebody, udev as a rule, looks at a partition right now.
        std::thread::sleep(PAUSE);
    }
    Err(Errno::BUSY)
}

/// A disk or a partition.
#[derive(Clone, Debug)]
struct Member {
    directory: Directory,
    /// `major:minor`.
    number: String,
}

impl Member {
    fn of(directory: Directory) -> Result<Self, Error> {
        let number = directory.text("dev").map_err(unlisted)?.unwrap_or_default();
        Ok(Self { directory, number })
    }

    fn node(&self) -> String {
        format!("/dev/{}", self.directory.name())
    }
}

/// A disk with its partitions.
struct Disk {
    /// The disk, then the partitions.
    members: Vec<Member>,
}

impl Disk {
    fn of(directory: Directory) -> Result<Self, Error> {
        let mut members = vec![Member::of(directory.clone())?];
        for name in directory.entries().map_err(unlisted)? {
            let child = directory.child(&name);
            if child.text("partition").is_ok_and(|number| number.is_some()) {
                members.push(Member::of(child)?);
            }
        }
        Ok(Self { members })
    }

    fn whole(&self) -> &[Member] {
        self.members.get(..1).unwrap_or_default()
    }

    fn partitions(&self) -> &[Member] {
        self.members.get(1..).unwrap_or_default()
    }
}

/// Returns the folder of a block device, by its node.
fn numbered(sysfs: &SysfsRoot, node: &Path) -> Result<Directory, Error> {
    let number = fs::metadata(node).map_err(Error::Open)?.rdev();
    let number = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    sysfs.block_device_numbered(&number).ok_or(Error::Io {
        what: "looking it up in /sys",
        error: io::ErrorKind::NotFound.into(),
    })
}

/// Opens a block device for this process alone. Without O_CREAT, O_EXCL claims it: it fails while anything on it is mounted or held.
fn open_alone(node: &Path, intent: Intent, members: &[Member]) -> Result<File, Error> {
    open(node, intent, OFlags::EXCL).map_err(|error| match error {
        Error::Open(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            Error::InUse(users::opener(members).unwrap_or_else(|| HELD.to_owned()))
        }
        error => error,
    })
}

/// Returns who keeps one of these devices open, longer than for a moment.
fn opener_that_stays(members: &[Member]) -> Option<String> {
    for _ in 0..TRIES {
        users::opener(members)?;
        std::thread::sleep(PAUSE);
    }
    users::opener(members)
}

fn unlisted(error: crate::sysfs::Error) -> Error {
    Error::Io {
        what: "looking it up in /sys",
        error: io::Error::other(error),
    }
}

fn open(path: &Path, intent: Intent, flags: OFlags) -> Result<File, Error> {
    let write = intent == Intent::Write;
    if !write {
        // What would be refused then is refused now.
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(|errno| Error::Open(errno.into()))?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    options.open(path).map_err(Error::Open)
}

/// Locks a whole disk or an image, as udev and other partitioners do while they read or write, and as QEMU does.
fn lock(file: &File, path: &Path, intent: Intent) -> Result<(), Error> {
    let locked = (0..TRIES).find_map(|_| match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Some(Ok(())),
        Err(Errno::WOULDBLOCK) => {
            std::thread::sleep(PAUSE);
            None
        }
        Err(errno) => Some(Err(Error::Io {
            what: "locking it",
            error: errno.into(),
        })),
    });
    locked.unwrap_or_else(|| {
        Err(Error::InUse(
            "another program has locked it; try again when that has ended".to_owned(),
        ))
    })?;
    if image_lock::take(file, intent).map_err(|error| Error::Io {
        what: "locking it against QEMU",
        error,
    })? {
        return Ok(());
    }
    let metadata = file.metadata().map_err(Error::Open)?;
    let who = users::opener_of_file(path, &metadata).unwrap_or_else(|| {
        "a virtual machine has it open: QEMU's lock is on it; shut that machine down first".to_owned()
    });
    Err(Error::InUse(who))
}
