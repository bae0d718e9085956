//! Where things go: the reserved area and the partitions.

use crate::geometry::Geometry;
use std::str::FromStr;
use uuid::{Uuid, uuid};
use xen_pmem_format::sizing::{self, EntrySizes, Need};
use xen_pmem_format::superblock::Which;
use xen_pmem_format::table::{DEFAULT_ENTRIES, entry_blocks};
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange, PAGE, SUPERPAGE};
use xen_pmem_nvdimm::fsdax;

/// The type of a partition that holds a Linux file system (UEFI's registry of partition types, kept by systemd's Discoverable
/// Partitions Specification).
pub const LINUX_DATA: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");
/// The name of a partition that was not given one.
pub const DEFAULT_NAME: &str = "pmem";
/// UTF-16 units that a GPT entry has for a name.
const NAME_UNITS: usize = 36;

/// How much is reserved for Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// What Xen needs for the whole namespace.
    Auto,
    /// So much, if it is enough.
    Size(Bytes),
}

impl FromStr for Reserve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse()
            .map(Self::Size)
            .map_err(|error| format!("{error}, or `auto`"))
    }
}

/// The size of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionSize {
    /// So much, rounded up to a multiple of 2 MiB.
    Exactly(Bytes),
    /// All that is left, rounded down to a multiple of 16 MiB, or of 2 MiB where less is left.
    Rest,
}

/// A partition to be made: a request that has been given a GUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartition {
    /// Its size.
    pub size: PartitionSize,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub type_guid: Uuid,
    /// Its own GUID.
    pub guid: Uuid,
}

/// A partition that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRequest {
    /// Its size.
    pub size: PartitionSize,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub type_guid: Uuid,
}

impl PartitionRequest {
    /// Returns the requested partition with its GUID.
    pub fn with_guid(self, guid: Uuid) -> NewPartition {
        let Self { size, name, type_guid } = self;
        NewPartition {
            size,
            name,
            type_guid,
            guid,
        }
    }
}

impl Default for PartitionRequest {
    fn default() -> Self {
        Self {
            size: PartitionSize::Rest,
            name: DEFAULT_NAME.to_owned(),
            type_guid: LINUX_DATA,
        }
    }
}

impl FromStr for PartitionRequest {
    type Err = String;

    /// Parses `SIZE|rest[:name[:type-guid]]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let size = match parts.next().unwrap_or_default() {
            "rest" => PartitionSize::Rest,
            size => PartitionSize::Exactly(
                size.parse()
                    .map_err(|error| format!("{size:?} is {error}, or `rest`"))?,
            ),
        };
        let name = parts.next().unwrap_or(DEFAULT_NAME).to_owned();
        if name.encode_utf16().count() > NAME_UNITS || name.chars().any(char::is_control) {
            return Err(format!(
                "a partition's name has at most {NAME_UNITS} characters, none of them a control character"
            ));
        }
        let type_guid = match parts.next() {
            None => LINUX_DATA,
            Some(guid) => guid
                .parse()
                .map_err(|error| format!("the partition type {guid:?} is not a GUID: {error}"))?,
        };
        if type_guid.is_nil() {
            return Err("the nil GUID marks an unused partition entry".to_owned());
        }
        Ok(Self { size, name, type_guid })
    }
}

/// Where everything goes, in bytes of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What Xen needs, and how it comes about.
    pub need: Need,
    /// The area reserved for Xen.
    pub reserved: DeviceRange,
    /// The partitions, in order.
    pub partitions: Vec<(NewPartition, DeviceRange)>,
    /// From the first usable block to the end of the last.
    pub usable: DeviceRange,
}

impl Layout {
    /// Returns what a preparation takes: all that lies before the first partition, the area that Xen gets among it, and the backup table's
    /// place.
    pub fn taken(&self, geometry: &Geometry) -> Vec<DeviceRange> {
        let before = DeviceRange::clamped(DeviceOffset(0), self.reserved.base().distance());
        vec![before, self.reserved, self.tail(geometry)]
    }

    /// Returns the place of the backup table.
    fn tail(&self, geometry: &Geometry) -> DeviceRange {
        let size = DeviceOffset::after(geometry.device_size).offset_from(self.usable.end());
        DeviceRange::clamped(self.usable.end(), size.unwrap_or_default())
    }
}

/// Why a request cannot be laid out on a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device is not made of whole blocks.
    #[error("its size of {0} bytes is not a multiple of 4 KiB: give an image a size of whole pages")]
    DeviceMisaligned(u64),
    /// Its physical address is not that of a page.
    #[error("the physical address {0:#x} is not a multiple of 4 KiB")]
    BaseMisaligned(u64),
    /// Nothing fits.
    #[error(
        "it is too small: {device} do not hold the partition table, the super blocks, {reserved} reserved for Xen and {wanted} of partitions; {least} would"
    )]
    TooSmall {
        /// The device's size.
        device: Bytes,
        /// The reserved area's.
        reserved: Bytes,
        /// The partitions'.
        wanted: Bytes,
        /// The least size that would do.
        least: Bytes,
    },
    /// Less was asked for than Xen needs.
    #[error("{asked} is too small: Xen needs {need} to manage {namespace}")]
    ReserveTooSmall {
        /// What was asked for.
        asked: Bytes,
        /// What is needed: whole superpages.
        need: Bytes,
        /// The size of the namespace.
        namespace: Bytes,
    },
    /// `rest` is not last.
    #[error("a partition over the rest must be the last one")]
    RestNotLast,
    /// A partition of no bytes.
    #[error("partition {0} would be empty")]
    EmptyPartition(usize),
    /// More partitions than entries.
    #[error("{0} partitions are more than the {DEFAULT_ENTRIES} that the partition table holds")]
    TooManyPartitions(usize),
    /// A sum does not fit in 64 bits.
    #[error("a size or address is beyond what 64 bits can hold")]
    Overflow,
}

/// Lays a request out on a device.
///
/// # Errors
///
/// Why it cannot be.
pub fn layout(
    geometry: &Geometry,
    reserve: Reserve,
    entries: EntrySizes,
    requests: &[NewPartition],
) -> Result<Layout, Error> {
    let device_size = geometry.device_size;
    if !device_size.is_aligned(PAGE) {
        return Err(Error::DeviceMisaligned(device_size.0));
    }
    if let Some(placement) = geometry.placement
        && !placement.device_start.is_aligned(PAGE)
    {
        return Err(Error::BaseMisaligned(placement.device_start.0));
    }
    if u32::try_from(requests.len()).map_or(true, |count| count > DEFAULT_ENTRIES) {
        return Err(Error::TooManyPartitions(requests.len()));
    }
    let need = sizing::need(geometry.namespace(), entries).ok_or(Error::Overflow)?;
    let reserved_size = reserved_size(geometry, reserve, need)?;
    let base = geometry
        .align_up(Which::Backup.range().end(), SUPERPAGE)
        .ok_or(Error::Overflow)?;
    let reserved = DeviceRange::new(base, reserved_size).ok_or(Error::Overflow)?;

    let blocks = entry_blocks(geometry.lba_size, DEFAULT_ENTRIES)
        .checked_add(1)
        .ok_or(Error::Overflow)?;
    let backup_table = geometry.lba_size.bytes().checked_mul(blocks).ok_or(Error::Overflow)?;
    let least = least_size(geometry, reserved, requests, backup_table).ok_or(Error::Overflow)?;
    let too_small = || Error::TooSmall {
        device: device_size,
        reserved: reserved_size,
        wanted: wanted(requests),
        least,
    };
    let end = device_size
        .checked_sub(backup_table)
        .map(DeviceOffset::after)
        .ok_or_else(too_small)?;
    let usable = DeviceRange::between(reserved.end(), end).ok_or_else(too_small)?;

    let mut partitions: Vec<(NewPartition, DeviceRange)> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let after = partitions.last().map_or(reserved.end(), |(_, range)| range.end());
        let start = geometry.align_up(after, SUPERPAGE).ok_or(Error::Overflow)?;
        let range = match request.size {
            PartitionSize::Exactly(Bytes(0)) => return Err(Error::EmptyPartition(index.saturating_add(1))),
            PartitionSize::Exactly(size) => size
                .align_up(SUPERPAGE)
                .and_then(|size| DeviceRange::new(start, size))
                .ok_or(Error::Overflow)?,
            PartitionSize::Rest if index.saturating_add(1) != requests.len() => return Err(Error::RestNotLast),
            PartitionSize::Rest => DeviceRange::between(start, end)
                .and_then(|left| DeviceRange::new(start, rest(left.size())?))
                .ok_or_else(too_small)?,
        };
        if !usable.contains(range) {
            return Err(too_small());
        }
        partitions.push((request.clone(), range));
    }
    Ok(Layout {
        need,
        reserved,
        partitions,
        usable,
    })
}

/// Returns the size of a partition over `left` bytes: what fsdax in a guest asks for, or whole superpages if less is left; `None` if not
/// even one is.
fn rest(left: Bytes) -> Option<Bytes> {
    [fsdax::SIZE_UNIT, SUPERPAGE]
        .into_iter()
        .map(|unit| left.align_down(unit))
        .find(|size| size.0 > 0)
}

fn reserved_size(geometry: &Geometry, reserve: Reserve, need: Need) -> Result<Bytes, Error> {
    match reserve {
        Reserve::Auto => Ok(need.total),
        Reserve::Size(asked) => {
            let size = asked.align_up(SUPERPAGE).ok_or(Error::Overflow)?;
            if size >= need.total {
                return Ok(size);
            }
            Err(Error::ReserveTooSmall {
                asked,
                need: need.total,
                namespace: geometry.namespace().size(),
            })
        }
    }
}

/// Returns the bytes of all partitions asked for, one over the rest taken as one superpage.
fn wanted(requests: &[NewPartition]) -> Bytes {
    let sizes = requests.iter().map(|request| match request.size {
        PartitionSize::Exactly(size) => size.0,
        PartitionSize::Rest => SUPERPAGE.0,
    });
    Bytes(sizes.fold(0, u64::saturating_add))
}

/// Returns the least device that holds the request, a partition over the rest taken as one superpage.
fn least_size(
    geometry: &Geometry,
    reserved: DeviceRange,
    requests: &[NewPartition],
    backup_table: Bytes,
) -> Option<Bytes> {
    let mut end = reserved.end();
    for request in requests {
        let size = match request.size {
            PartitionSize::Exactly(size) => size.align_up(SUPERPAGE)?,
            PartitionSize::Rest => SUPERPAGE,
        };
        end = geometry.align_up(end, SUPERPAGE)?.checked_add(size)?;
    }
    end.distance().checked_add(backup_table)?.align_up(PAGE)
}
