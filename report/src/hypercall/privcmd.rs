//! `/dev/xen/privcmd`: the kernel's way to the hypervisor.
//!
//! Sources: Linux `include/uapi/xen/privcmd.h`; `drivers/xen/privcmd-buf.c` for `/dev/xen/hypercall`, whose pages stay where the
//! hypervisor was told they are.

use super::Transport;
use super::abi::{HYPERVISOR_PLATFORM_OP, Request};
use anyhow::Context as _;
use core::ffi::c_void;
use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::fs::{File, OpenOptions};

const PRIVCMD: &str = "/dev/xen/privcmd";
const HYPERCALL_BUFFER: &str = "/dev/xen/hypercall";

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
// structure of that layout, which the kernel only reads. What the hypercall itself touches is up to `Privcmd::platform_op`.
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
    pub fn open() -> anyhow::Result<Self> {
        let open = |path: &'static str| {
            OpenOptions::new().read(true).write(true).open(path).with_context(|| {
                format!(
                    "cannot open {path}, the way to the hypervisor: is the module xen-privcmd loaded, and are you root?"
                )
            })
        };
        let privcmd = open(PRIVCMD)?;
        let buffer = open(HYPERCALL_BUFFER)?;
        let page = MmapOptions::new()
            .len(4096)
            .map_raw(&buffer)
            .with_context(|| format!("cannot map a page of {HYPERCALL_BUFFER}"))?;
        Ok(Self { privcmd, page })
    }
}

impl Transport for Privcmd {
    fn platform_op(&mut self, request: &mut Request) -> Result<(), Errno> {
        let argument: *mut Request = self.page.as_mut_ptr().cast();
        // SAFETY: `page` is a writable mapping of 4096 bytes, aligned to as many, and a request is shorter. Nobody else has it.
        unsafe { argument.write(*request) };
        let call = Call {
            op: HYPERVISOR_PLATFORM_OP,
            // Exposed, for the hypervisor writes through this number: without that the compiler may take what it reads back for what
            // it has written.
            arguments: [
                u64::try_from(argument.expose_provenance()).map_err(|_| Errno::OVERFLOW)?,
                0,
                0,
                0,
                0,
            ],
        };
        // SAFETY: platform_op takes one pointer to `struct xen_platform_op`, and `argument` points to one, whole, for as long as the
        // call lasts. Xen writes into that structure and nowhere else of this process; no reference into the page is alive.
        let result = unsafe { ioctl(&self.privcmd, call) };
        // SAFETY: as for the write; every value of the bytes is a request.
        *request = unsafe { argument.read_volatile() };
        result
    }
}
