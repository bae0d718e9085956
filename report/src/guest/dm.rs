//! The kernel's device-mapper, as far as claims need it.
//!
//! Source: Linux `include/uapi/linux/dm-ioctl.h`, interface version 4.

use super::partition::Partition;
use super::write_protection;
use core::ffi::c_void;
use rustix::io::Errno;
use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use xen_pmem_nvdimm::guest_claim::{Claim, NAME_PREFIX};
use xen_pmem_nvdimm::sysfs::{self, SysfsRoot};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The way to it.
pub const CONTROL: &str = "/dev/mapper/control";
/// `DM_IOCTL`.
const GROUP: u8 = 0xfd;
/// The size of a request and its answer: room for the names of about two hundred devices.
const ROOM: usize = 64 << 10;
/// `DM_BUFFER_FULL_FLAG`: the answer did not fit.
const BUFFER_FULL: u32 = 1 << 8;

/// The commands.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Command {
    ListDevices = 2,
    Create = 3,
    Remove = 4,
    Status = 7,
    LoadTable = 9,
}

/// `struct dm_ioctl`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`, which the target's parameters follow.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
struct Target {
    start: u64,
    length: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
}

const _: () = {
    assert!(size_of::<Header>() == 312);
    assert!(size_of::<Target>() == 40);
};

/// A request, and the kernel's answer in its place.
struct Request(Vec<u64>);

impl Request {
    fn new(name: &str, label: &str, data: &[u8]) -> Result<Self, Errno> {
        let mut header = Header {
            version: [4, 0, 0],
            data_size: u32::try_from(ROOM).map_err(|_| Errno::OVERFLOW)?,
            data_start: u32::try_from(size_of::<Header>()).map_err(|_| Errno::OVERFLOW)?,
            target_count: 1,
            open_count: 0,
            flags: 0,
            event: 0,
            padding: 0,
            device: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        put(&mut header.name, name)?;
        put(&mut header.uuid, label)?;
        let mut room = vec![0u64; ROOM.div_euclid(size_of::<u64>())];
        let bytes = room.as_mut_slice().as_mut_bytes();
        let (head, rest) = bytes.split_at_mut_checked(size_of::<Header>()).ok_or(Errno::OVERFLOW)?;
        head.copy_from_slice(header.as_bytes());
        rest.get_mut(..data.len()).ok_or(Errno::OVERFLOW)?.copy_from_slice(data);
        Ok(Self(room))
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_slice().as_bytes()
    }

    fn header(&self) -> Option<&Header> {
        Header::ref_from_prefix(self.bytes()).ok().map(|(header, _)| header)
    }
}

/// Puts a text and the NUL behind it.
fn put(field: &mut [u8], text: &str) -> Result<(), Errno> {
    if text.len() >= field.len() {
        return Err(Errno::NAMETOOLONG);
    }
    let place = field.get_mut(..text.len()).ok_or(Errno::NAMETOOLONG)?;
    place.copy_from_slice(text.as_bytes());
    Ok(())
}

/// Returns the text before the first NUL.
fn text(field: &[u8]) -> String {
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// A command with its request.
struct Call<'r> {
    command: Command,
    request: &'r mut Request,
}

// SAFETY: the opcode is `_IOWR(DM_IOCTL, command, struct dm_ioctl)`, and `as_ptr` gives a pointer to such a structure, aligned to 8. The
// kernel reads and writes its first `data_size` bytes: `Request::new` has made it that large. Every value of the bytes is a valid
// request.
unsafe impl Ioctl for Call<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::from_components(Direction::ReadWrite, GROUP, self.command as u8, size_of::<Header>())
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.request.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// An open way to the device-mapper.
pub struct DeviceMapper(File);

/// Why something is not claimed, or not released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no device-mapper.
    #[error("cannot open {CONTROL}: {0}; is the module dm_mod loaded (modprobe dm_mod), and are you root?")]
    Open(io::Error),
    /// The partition is claimed.
    #[error("is claimed already")]
    Claimed,
    /// The partition is in use.
    #[error("is in use: it is mounted, or the kernel or another program holds it or its disk")]
    InUse,
    /// There is no such claim.
    #[error("is not claimed")]
    NotClaimed,
    /// What a claim holds cannot be found in sysfs.
    #[error(transparent)]
    Sysfs(#[from] sysfs::Error),
    /// What is claimed cannot be made read-only, or writable again.
    #[error("{}: cannot be made {what}: {error}", node.display())]
    Protect {
        /// The block device.
        node: PathBuf,
        /// What it was to be.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A command failed.
    #[error("the device-mapper cannot {what}: {error}")]
    Command {
        /// What was to be done.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

impl DeviceMapper {
    /// Opens the way to it.
    ///
    /// # Errors
    ///
    /// If the kernel has none.
    pub fn open() -> Result<Self, Error> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL);
        control.map(Self).map_err(Error::Open)
    }

    fn call(&self, command: Command, request: &mut Request) -> Result<(), Errno> {
        // SAFETY: the commands read and write only the request in this process's memory (see `Call`).
        unsafe { ioctl(&self.0, Call { command, request }) }
    }

    /// Makes the kernel hold a partition, which is read-only from then on.
    ///
    /// # Errors
    ///
    /// If it is in use or claimed already.
    pub fn claim(&self, claim: &Claim, partition: &Partition) -> Result<(), Error> {
        let failed = |what| {
            move |errno: Errno| Error::Command {
                what,
                error: errno.into(),
            }
        };
        let make = "make a claim";
        let mut request = Request::new(&claim.name(), &claim.label(), &[]).map_err(failed(make))?;
        self.call(Command::Create, &mut request).map_err(|errno| match errno {
            // A device of that name or label is there.
            Errno::BUSY | Errno::EXIST => Error::Claimed,
            errno => failed(make)(errno),
        })?;
        let loaded = linear(partition.device, partition.sectors)
            .and_then(|table| Request::new(&claim.name(), "", &table))
            .and_then(|mut request| self.call(Command::LoadTable, &mut request));
        let loaded = loaded.map_err(|errno| match errno {
            Errno::BUSY => Error::InUse,
            errno => failed("hold it")(errno),
        });
        let held = loaded.and_then(|()| protect(&partition.node, true));
        held.inspect_err(|_| {
            // What was made is taken away again; that this fails, too, changes nothing about why.
            let _ = self.release(claim);
        })
    }

    /// Lets go. What was held is writable again.
    ///
    /// # Errors
    ///
    /// If the claim does not exist, or the kernel refuses.
    pub fn release(&self, claim: &Claim) -> Result<(), Error> {
        let what = "release it";
        let failed = |errno: Errno| Error::Command {
            what,
            error: errno.into(),
        };
        for node in claim.held(&SysfsRoot::default())? {
            protect(&node, false)?;
        }
        let mut request = Request::new(&claim.name(), "", &[]).map_err(failed)?;
        self.call(Command::Remove, &mut request).map_err(|errno| match errno {
            Errno::NXIO => Error::NotClaimed,
            errno => failed(errno),
        })
    }

    /// Returns all claims there are.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn claims(&self) -> Result<Vec<Claim>, Error> {
        let what = "list its devices";
        let failed = |errno: Errno| Error::Command {
            what,
            error: errno.into(),
        };
        let mut request = Request::new("", "", &[]).map_err(failed)?;
        self.call(Command::ListDevices, &mut request).map_err(failed)?;
        let mut claims = Vec::new();
        for name in names(&request).ok_or_else(|| failed(Errno::OVERFLOW))? {
            let mut request = Request::new(&name, "", &[]).map_err(failed)?;
            match self.call(Command::Status, &mut request) {
                Ok(()) => {}
                // Gone meanwhile.
                Err(Errno::NXIO) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            let label = request.header().map(|header| text(&header.uuid)).unwrap_or_default();
            claims.extend(Claim::from_label(&label).filter(|claim| claim.name() == name));
        }
        claims.sort();
        Ok(claims)
    }
}

fn protect(node: &Path, on: bool) -> Result<(), Error> {
    write_protection::set(node, on).map_err(|error| Error::Protect {
        node: node.to_owned(),
        what: if on { "read-only" } else { "writable" },
        error,
    })
}

/// Returns the names of claims in a list of devices; `None` if the list is not whole.
fn names(answer: &Request) -> Option<Vec<String>> {
    let header = answer.header()?;
    if header.flags & BUFFER_FULL != 0 {
        return None;
    }
    let mut names = Vec::new();
    let mut at = usize::try_from(header.data_start).ok()?;
    loop {
        // struct dm_name_list: device, offset of the next from this one (0: none), name.
        let entry = answer.bytes().get(at..)?;
        let device = u64::from_le_bytes(*entry.first_chunk()?);
        let next = u32::from_le_bytes(*entry.get(8..)?.first_chunk()?);
        if device == 0 {
            return Some(names);
        }
        let name = text(entry.get(12..)?);
        if name.starts_with(NAME_PREFIX) {
            names.push(name);
        }
        if next == 0 {
            return Some(names);
        }
        at = at.checked_add(usize::try_from(next).ok()?)?;
    }
}

/// Returns a table that is one device from its start on.
fn linear((major, minor): (u32, u32), sectors: u64) -> Result<Vec<u8>, Errno> {
    let mut kind = [0; 16];
    put(&mut kind, "linear")?;
    let target = Target {
        start: 0,
        length: sectors,
        status: 0,
        next: 0,
        kind,
    };
    let mut table = target.as_bytes().to_vec();
    table.extend(format!("{major}:{minor} 0\0").into_bytes());
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_kernels_layout() {
        let table = linear((259, 1), 1_015_808).unwrap();
        assert_eq!(table[8..16], 1_015_808u64.to_le_bytes());
        assert!(table[24..].starts_with(b"linear\0") && table[40..] == *b"259:1 0\0");
        let request = Request::new("name", "label", &table).unwrap();
        let bytes = request.bytes();
        assert_eq!(bytes.len(), ROOM);
        assert_eq!(bytes[12..16], 65536u32.to_le_bytes());
        assert_eq!(bytes[16..20], 312u32.to_le_bytes());
        assert!(bytes[48..].starts_with(b"name\0") && bytes[176..].starts_with(b"label\0"));
        assert_eq!(bytes[312..312 + table.len()], table);
        assert_eq!(Request::new(&"n".repeat(128), "", &[]).err(), Some(Errno::NAMETOOLONG));
    }

    #[test]
    fn names_of_claims_are_found_in_a_list() {
        let mut list = Vec::new();
        for (name, last) in [("vg-root", false), ("xen-pmem-a-1", false), ("xen-pmem-b-2", true)] {
            let next = if last { 0u32 } else { 32 };
            list.extend(1u64.to_le_bytes());
            list.extend(next.to_le_bytes());
            list.extend(name.as_bytes());
            list.resize(list.len().next_multiple_of(32), 0);
        }
        let found = names(&Request::new("", "", &list).unwrap()).unwrap();
        assert_eq!(found, ["xen-pmem-a-1", "xen-pmem-b-2"]);
        assert_eq!(names(&Request::new("", "", &[]).unwrap()), Some(Vec::new()));
        let mut beyond = list;
        beyond[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(names(&Request::new("", "", &beyond).unwrap()), None);
    }
}
