//! One partition of a prepared device or image, opened for this process alone: what is written within a partition is written here.

use crate::placement::Found;
use crate::target::{self, Access, Target};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::read::ReadAt as _;
use xen_pmem_format::table::Table;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange, PhysAddr, PhysRange, SECTOR};
use xen_pmem_nvdimm::sysfs::{self, Directory, SysfsRoot};

/// An open partition. Offsets are counted from its start, and nothing outside of it can be read or written.
#[derive(Debug)]
pub struct Partition {
    file: File,
    /// Where its bytes are in `file`.
    place: DeviceRange,
    range: PhysRange,
    number: u32,
    name: String,
    is_block: bool,
}

/// Why a partition cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device, or the partition's own node, cannot be used.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// sysfs lacks an attribute of it, or the attribute has an unexpected value.
    #[error(transparent)]
    Sysfs(#[from] sysfs::Error),
    /// A whole disk, and no number.
    #[error("is not a partition")]
    NumberMissing,
    /// A partition, and the number of another one.
    #[error("is partition {0}")]
    OtherNumber(u32),
    /// The table has no such partition.
    #[error("has no partition {0}")]
    Absent(u32),
    /// Nothing is prepared there.
    #[error("is not prepared ({reason}): only partitions of prepared devices are written to")]
    NotPrepared {
        /// The facts about it.
        reason: String,
    },
    /// The kernel goes by another table.
    #[error(
        "the kernel has partition {0} at another place than the partition table: have the table read again (partprobe)"
    )]
    Moved(u32),
    /// The partition's place cannot be expressed.
    #[error("ends beyond the address space")]
    Overflow,
}

/// How a disk or an image is looked at.
pub type Inspect = fn(&Target) -> Result<Inspection, target::Error>;

impl Partition {
    /// Opens a partition for writing: a partition's node, or partition `number` of a whole disk or an image. `inspect` looks at the
    /// disk or the image ([`Target::inspect`]).
    ///
    /// # Errors
    ///
    /// If there is no such partition on a prepared device, or it is in use. Other partitions may be in use.
    pub fn open(path: &Path, number: Option<u32>, inspect: Inspect) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(target::Error::Open)?;
        if metadata.file_type().is_block_device() {
            Self::open_block(SysfsRoot::default().block_device_of(&metadata), number, inspect)
        } else {
            Self::open_image(path, number, inspect)
        }
    }

    fn open_image(path: &Path, number: Option<u32>, inspect: Inspect) -> Result<Self, Error> {
        let image = Target::open(path, Access::Write)?;
        let inspection = inspect(&image)?;
        let number = number.ok_or(Error::NumberMissing)?;
        let (place, name) = entry(&inspection, number)?;
        let file = image.file().try_clone().map_err(target::Error::Open)?;
        // For an image, offsets stand for addresses.
        let range = place.placed_at(PhysAddr(0)).ok_or(Error::Overflow)?;
        Ok(Self {
            file,
            place,
            range,
            number,
            name,
            is_block: false,
        })
    }

    fn open_block(device: Directory, number: Option<u32>, inspect: Inspect) -> Result<Self, Error> {
        let (partition, number) = match (device.number("partition")?, number) {
            (Some(own), Some(number)) if own != u64::from(number) => {
                return Err(Error::OtherNumber(u32::try_from(own).unwrap_or_default()));
            }
            (Some(own), _) => (device, u32::try_from(own).map_err(|_| Error::Overflow)?),
            (None, Some(number)) => (child(&device, number)?.ok_or(Error::Absent(number))?, number),
            (None, None) => return Err(Error::NumberMissing),
        };
        let disk = partition.parent().as_ref().map(node).ok_or(Error::NumberMissing)?;
        let disk = Target::open(&disk, Access::Read)?;
        let inspection = inspect(&disk)?;
        let (range, name) = entry(&inspection, number)?;
        let in_bytes = |attribute| -> Result<Option<Bytes>, Error> {
            let sectors = partition.number(attribute)?;
            Ok(sectors.and_then(|sectors| SECTOR.checked_mul(sectors)))
        };
        let kernel = (in_bytes("start")?, in_bytes("size")?);
        if kernel != (Some(range.base().distance()), Some(range.size())) {
            return Err(Error::Moved(number));
        }
        let start = match disk.found() {
            Found::Raw(placement) | Found::Fsdax(placement) => placement.device_start,
            _ => PhysAddr(0),
        };
        Ok(Self {
            file: target::open_exclusively(&node(&partition))?,
            place: DeviceRange::new(DeviceOffset(0), range.size()).ok_or(Error::Overflow)?,
            range: range.placed_at(start).ok_or(Error::Overflow)?,
            number,
            name,
            is_block: true,
        })
    }

    /// Returns its number in the table.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns its name in the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its size.
    pub fn size(&self) -> Bytes {
        self.place.size()
    }

    /// Returns its physical addresses; where these are unknown, its offsets on the device, which are aligned alike.
    pub fn range(&self) -> PhysRange {
        self.range
    }

    /// Reads at an offset from its start.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says, or if the end of the partition is passed.
    pub fn read_exact_at(&self, offset: Bytes, buf: &mut [u8]) -> io::Result<()> {
        let at = self.within(offset, length(buf.len())?)?;
        self.file.read_exact_at(at.base(), buf)
    }

    /// Writes at an offset from its start.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says, or if the end of the partition would be passed.
    pub fn write_all_at(&self, offset: Bytes, bytes: &[u8]) -> io::Result<()> {
        let at = self.within(offset, length(bytes.len())?)?;
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, at.base().0)
    }

    /// Makes `size` bytes at an offset from its start read as zeros.
    ///
    /// The kernel writes the zeros to a device itself, to persistent memory with non-temporal stores, which also clears its bad
    /// blocks. In an image there is a hole afterwards.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says, or if the end of the partition would be passed.
    pub fn zero(&self, offset: Bytes, size: Bytes) -> io::Result<()> {
        let at = self.within(offset, size)?;
        let flags = if self.is_block {
            FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE
        };
        match fallocate(&self.file, flags, at.base().0, at.size().0) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => self.write_zeros(offset, size),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_zeros(&self, offset: Bytes, size: Bytes) -> io::Result<()> {
        const BLOCK: usize = 1 << 20;
        let zeros = vec![0; BLOCK];
        let mut done = Bytes(0);
        while let Some(left) = size.checked_sub(done).filter(|left| left.0 > 0) {
            let block = usize::try_from(left.0).unwrap_or(BLOCK).min(BLOCK);
            let at = offset.checked_add(done).ok_or(io::ErrorKind::InvalidInput)?;
            self.write_all_at(at, zeros.get(..block).unwrap_or_default())?;
            done = done.checked_add(length(block)?).ok_or(io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Returns the bytes of the file that are `size` bytes of the partition.
    fn within(&self, offset: Bytes, size: Bytes) -> io::Result<DeviceRange> {
        let range = self
            .place
            .base()
            .checked_add(offset)
            .and_then(|at| DeviceRange::new(at, size));
        range
            .filter(|range| self.place.contains(*range))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "outside of the partition"))
    }
}

fn length(length: usize) -> io::Result<Bytes> {
    u64::try_from(length).map(Bytes).map_err(io::Error::other)
}

/// Returns where a prepared device's table has a partition, and its name.
fn entry(inspection: &Inspection, number: u32) -> Result<(DeviceRange, String), Error> {
    let (_, table): (_, &Table) = inspection.reservation().ok_or_else(|| Error::NotPrepared {
        reason: inspection.reasons(),
    })?;
    let found = table.partitions().iter().find(|partition| partition.number == number);
    found
        .map(|partition| (partition.range, partition.name.clone()))
        .ok_or(Error::Absent(number))
}

/// Returns the directory of a disk's partition.
fn child(disk: &Directory, number: u32) -> Result<Option<Directory>, sysfs::Error> {
    let number = Some(u64::from(number));
    disk.first_directory(|name| disk.child(name).number("partition").is_ok_and(|own| own == number))
}

/// Returns the node of a block device, by its directory in sysfs.
fn node(device: &Directory) -> PathBuf {
    Path::new("/dev").join(device.name())
}
