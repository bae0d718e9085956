//! Writes to areas reserved for Xen, as the block layer sees them.

use super::{Unavailable, hints::duplicate, kernel::Shapes, open, skeleton::WatchSkel};
use libbpf_rs::skel::{OpenSkel as _, Skel as _};
use libbpf_rs::{MapCore as _, MapFlags, RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The bytes that the block layer counts in, independent of a device's logical blocks.
const SECTOR: u64 = xen_pmem_format::units::SECTOR.0;

/// A disk's number, as the kernel has it: 12 bits of major, 20 of minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskNumber(u32);

impl DiskNumber {
    /// Returns the number made of these two; `None` if they are too large.
    pub fn new(major: u32, minor: u32) -> Option<Self> {
        let fits = major < 1 << 12 && minor < 1 << 20;
        fits.then_some(Self(major << 20 | minor))
    }
}

/// `struct reserved` of the programs.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Area {
    start: u64,
    end: u64,
    offences: u64,
    last: u64,
}

/// `struct offence` of the programs.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Record {
    disk: u32,
    operation: u32,
    process: u32,
    thread: u32,
    sector: u64,
    bytes: u64,
    offences: u64,
    command: [u8; 16],
    killed: u32,
    padding: u32,
}

const _: () = assert!(size_of::<Record>() == 64 && size_of::<Area>() == 32);

/// What a write was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Data.
    Write,
    /// A discard, secure or not.
    Discard,
    /// Zeros.
    WriteZeroes,
    /// Another one that writes, by its number in the kernel.
    Other(u32),
}

impl Operation {
    /// Returns the numbers of `enum req_op` (Linux `include/linux/blk_types.h`).
    const fn of(number: u32) -> Self {
        match number {
            1 => Self::Write,
            3 | 5 => Self::Discard,
            9 => Self::WriteZeroes,
            other => Self::Other(other),
        }
    }

    /// Returns the word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Discard => "discard",
            Self::WriteZeroes => "write-zeroes",
            Self::Other(_) => "other",
        }
    }
}

/// A write that touched a reserved area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The disk.
    pub disk: DiskNumber,
    /// What was written.
    pub operation: Operation,
    /// Who submitted it.
    pub process: u32,
    /// Its name.
    pub command: String,
    /// Where it began, from the start of the disk.
    pub offset: DeviceOffset,
    /// How long it was.
    pub length: Bytes,
    /// How many there were on this disk so far, this one included.
    pub offences: u64,
    /// Whether it was sent SIGKILL.
    pub killed: bool,
}

/// The programs, attached.
pub struct Offences {
    ring: RingBuffer<'static>,
    fd: OwnedFd,
    received: Rc<RefCell<Vec<Offence>>>,
    programs: WatchSkel<'static>,
    areas: BTreeMap<DiskNumber, DeviceRange>,
}

impl Offences {
    /// Loads and attaches the program that watches writes. There is nothing to watch for yet.
    ///
    /// # Errors
    ///
    /// Why eBPF is not available.
    pub fn open(kill: bool) -> Result<Self, Unavailable> {
        let mut open = open()?;
        let programs = &mut open.progs;
        let unfit = if Shapes::of_this_kernel()?.bio_with_queue {
            &mut programs.bio_queued
        } else {
            &mut programs.bio_queued_with_queue
        };
        for program in [
            unfit,
            &mut programs.disk_added,
            &mut programs.disk_removed,
            &mut programs.disk_changed,
            &mut programs.partition_added,
            &mut programs.partition_removed,
            &mut programs.partition_resized,
            &mut programs.device_added,
            &mut programs.device_removed,
        ] {
            program.set_autoload(false);
        }
        if let Some(constants) = open.maps.rodata_data.as_deref_mut() {
            constants.kill_offenders = kill;
        }
        let mut programs = open.load()?;
        let received = Rc::new(RefCell::new(Vec::new()));
        let mut builder = RingBufferBuilder::new();
        let sink = Rc::clone(&received);
        builder.add(&programs.maps.offences, move |bytes| {
            sink.borrow_mut().extend(offence(bytes));
            0
        })?;
        let ring = builder.build()?;
        programs.attach()?;
        Ok(Self {
            fd: duplicate(&ring)?,
            ring,
            received,
            programs,
            areas: BTreeMap::new(),
        })
    }

    /// Returns a file descriptor that is readable as soon as there are offences.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Watches these areas, and no others. The counts of those that stay stay.
    ///
    /// # Errors
    ///
    /// If the kernel does not take them.
    pub fn watch(&mut self, areas: BTreeMap<DiskNumber, DeviceRange>) -> io::Result<()> {
        let map = &self.programs.maps.reserved;
        for (disk, area) in &self.areas {
            if areas.get(disk) != Some(area) {
                map.delete(disk.0.as_bytes()).map_err(io::Error::other)?;
            }
        }
        for (disk, area) in &areas {
            if self.areas.get(disk) != Some(area) {
                let value = Area {
                    start: area.base().0.div_euclid(SECTOR),
                    end: area.end().0.div_ceil(SECTOR),
                    ..Area::new_zeroed()
                };
                map.update(disk.0.as_bytes(), value.as_bytes(), MapFlags::ANY)
                    .map_err(io::Error::other)?;
            }
        }
        self.areas = areas;
        Ok(())
    }

    /// Returns the offences that arrived since the last call, without waiting.
    ///
    /// # Errors
    ///
    /// If they cannot be received.
    pub fn drain(&mut self) -> io::Result<Vec<Offence>> {
        self.ring.consume().map_err(io::Error::other)?;
        Ok(self.received.take())
    }

    /// Returns the number of offences on each disk so far, those that did not fit into the buffer included.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn counts(&self) -> io::Result<BTreeMap<DiskNumber, u64>> {
        let mut counts = BTreeMap::new();
        for disk in self.areas.keys() {
            let value = self
                .programs
                .maps
                .reserved
                .lookup(disk.0.as_bytes(), MapFlags::ANY)
                .map_err(io::Error::other)?;
            let area = value.as_deref().and_then(|bytes| Area::read_from_bytes(bytes).ok());
            counts.insert(*disk, area.map_or(0, |area| area.offences));
        }
        Ok(counts)
    }
}

/// Returns a record as an offence; `None` if it is not one.
fn offence(bytes: &[u8]) -> Option<Offence> {
    let (record, _) = Record::ref_from_prefix(bytes).ok()?;
    let command = record.command.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Offence {
        disk: DiskNumber(record.disk),
        operation: Operation::of(record.operation),
        process: record.process,
        command: String::from_utf8_lossy(command).into_owned(),
        offset: DeviceOffset(record.sector.checked_mul(SECTOR)?),
        length: Bytes(record.bytes),
        offences: record.offences,
        killed: record.killed != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let mut bytes = Vec::new();
        for word in [259 << 20 | 5u32, 9, 77, 78] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [4096u64, 8192, 3] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(b"dd\0leftover12345");
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        let expected = Offence {
            disk: DiskNumber::new(259, 5).unwrap(),
            operation: Operation::WriteZeroes,
            process: 77,
            command: "dd".to_owned(),
            offset: DeviceOffset(4096 * 512),
            length: Bytes(8192),
            offences: 3,
            killed: true,
        };
        assert_eq!(offence(&bytes), Some(expected));
        assert_eq!(offence(&bytes[..60]), None);
        assert_eq!(DiskNumber::new(1 << 12, 0), None);
        assert_eq!(DiskNumber::new(0, 1 << 20), None);
    }
}
