//! `/dev/xen/privcmd`: the kernel's way to the hypervisor.
//!
//! Sources: Linux `include/uapi/xen/privcmd.h`; `drivers/xen/privcmd-buf.c` for `/dev/xen/hypercall`, whose pages stay where the
//! hypervisor was told they are.

use super::abi::{HYPERVISOR_PLATFORM_OP, Request};
use super::hypfs::{self, HYPERVISOR_HYPFS_OP, Node};
use super::{Error, Transport};
use core::ffi::{CStr, c_void};
use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::fs::{File, OpenOptions};

const PRIVCMD: &str = "/dev/xen/privcmd";
const HYPERCALL_BUFFER: &str = "/dev/xen/hypercall";

/// The bytes of the page that hypercalls refer to.
const BUFFER: usize = 4096;
/// The second half of the page takes what is read from the hypervisor's file system; the first half holds the argument.
const ANSWER: usize = BUFFER / 2;

/// An open way to the hypervisor, with one page that it can read and write.
pub struct Privcmd {
    privcmd: File,
    page: MmapRaw,
}

/// `struct privcmd_hypercall`.
#[repr(C)]
struct Call {
    op: u64,
    arguments: [u64; 5],
}

// SAFETY: the opcode is IOCTL_PRIVCMD_HYPERCALL, `_IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))`, and `as_ptr` gives a
// structure of that layout, which the kernel only reads. What the hypercall itself touches is up to those who make the call.
unsafe impl Ioctl for Call {
    type Output = ();
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::from_components(Direction::None, b'P', 0, size_of::<Self>())
    }

    fn as_ptr(&mut self) -> *mut c_void {
        core::ptr::from_mut(self).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

impl Privcmd {
    /// Opens both devices.
    ///
    /// # Errors
    ///
    /// If one is not there (the module xen-privcmd is not loaded), or may not be used (not root).
    pub fn open() -> Result<Self, Error> {
        let open = |path: &'static str| {
            let opened = OpenOptions::new().read(true).write(true).open(path);
            opened.map_err(|error| Error::Open { path, error })
        };
        let privcmd = open(PRIVCMD)?;
        let buffer = open(HYPERCALL_BUFFER)?;
        let page = MmapOptions::new()
            .len(BUFFER)
            .map_raw(&buffer)
            .map_err(|error| Error::Map {
                path: HYPERCALL_BUFFER,
                error,
            })?;
        Ok(Self { privcmd, page })
    }
}

/// Returns the number by which the hypervisor knows a place in the page.
///
/// Exposed, because the hypervisor writes through this number: otherwise the compiler may assume that the bytes are unchanged.
fn address<T>(place: *mut T) -> Result<u64, Errno> {
    u64::try_from(place.expose_provenance()).map_err(|_| Errno::OVERFLOW)
}

impl Transport for Privcmd {
    fn number(&mut self, path: &CStr) -> Result<Option<u32>, Errno> {
        let path = path.to_bytes_with_nul();
        if path.len() > ANSWER {
            return Err(Errno::NAMETOOLONG);
        }
        let name: *mut u8 = self.page.as_mut_ptr();
        // SAFETY: `page` is a mapping of `BUFFER` bytes, more than `ANSWER`.
        let answer: *mut Node = unsafe { name.add(ANSWER) }.cast();
        // SAFETY: `path` is at most as long as the page's first half, which is writable, and does not overlap it. Nothing else uses the
        // page.
        unsafe { name.copy_from_nonoverlapping(path.as_ptr(), path.len()) };
        let length = |bytes: usize| u64::try_from(bytes).map_err(|_| Errno::OVERFLOW);
        let call = Call {
            op: HYPERVISOR_HYPFS_OP,
            arguments: [
                hypfs::READ,
                address(name)?,
                length(path.len())?,
                address(answer)?,
                length(size_of::<Node>())?,
            ],
        };
        // SAFETY: the operation reads the path, as long as it says, and writes at most the bytes of a `Node` to `answer`. Both are in the
        // page; no reference into it is alive.
        match unsafe { ioctl(&self.privcmd, call) } {
            // SAFETY: `answer` is in the page and aligned, and every value of the bytes is a `Node`.
            Ok(()) => unsafe { answer.read_volatile() }
                .unsigned()
                .map(Some)
                .ok_or(Errno::PROTO),
            // No such node; no such file system.
            Err(Errno::NOENT | Errno::NOSYS) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn platform_op(&mut self, request: &mut Request) -> Result<(), Errno> {
        let argument: *mut Request = self.page.as_mut_ptr().cast();
        // SAFETY: `page` is a writable mapping of `BUFFER` bytes, aligned to as many, and a request is shorter. Nothing else uses it.
        unsafe { argument.write(*request) };
        let call = Call {
            op: HYPERVISOR_PLATFORM_OP,
            arguments: [address(argument)?, 0, 0, 0, 0],
        };
        // SAFETY: platform_op takes one pointer to `struct xen_platform_op`, and `argument` points to one, whole, for as long as the
        // call lasts. Xen writes into that structure and nowhere else of this process; no reference into the page is alive.
        let result = unsafe { ioctl(&self.privcmd, call) };
        // SAFETY: as for the write; every value of the bytes is a request.
        *request = unsafe { argument.read_volatile() };
        result
    }
}
