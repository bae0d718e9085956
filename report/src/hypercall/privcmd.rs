//! `/dev/xen/privcmd`: the kernel's way to the hypervisor.
//!
//! Sources: Linux `include/uapi/xen/privcmd.h`; `drivers/xen/privcmd-buf.c` for `/dev/xen/hypercall`, whose pages stay where the
//! hypervisor was told they are.

use super::Transport;
use super::abi::{HYPERVISOR_PLATFORM_OP, Request};
use anyhow::Context as _;
use core::ffi::c_void;
use memmap2::{MmapMut, MmapOptions};
use rustix::io::Errno;
use rustix::ioctl::{Direction, Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::fs::{File, OpenOptions};
use zerocopy::{FromBytes, IntoBytes};

const PRIVCMD: &str = "/dev/xen/privcmd";
const HYPERCALL_BUFFER: &str = "/dev/xen/hypercall";

/// An open way to the hypervisor, with one page that it can read and write.
pub struct Privcmd {
    privcmd: File,
    page: MmapMut,
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
        // SAFETY: the mapping is of fresh pages of the kernel's that belong to this file description alone, which is closed
        // here and known to nobody else; only this process and, during `platform_op`, the hypervisor touch them.
        let page = unsafe { MmapOptions::new().len(4096).map_mut(&buffer) }
            .with_context(|| format!("cannot map a page of {HYPERCALL_BUFFER}"))?;
        Ok(Self { privcmd, page })
    }
}

impl Transport for Privcmd {
    fn platform_op(&mut self, request: &mut Request) -> Result<(), Errno> {
        let bytes = self.page.get_mut(..size_of::<Request>()).ok_or(Errno::INVAL)?;
        bytes.copy_from_slice(request.as_bytes());
        let address = self.page.as_ptr().addr();
        let call = Call {
            op: HYPERVISOR_PLATFORM_OP,
            arguments: [u64::try_from(address).map_err(|_| Errno::OVERFLOW)?, 0, 0, 0, 0],
        };
        // SAFETY: platform_op takes one pointer to `struct xen_platform_op`, and `page` holds one, whole, for as long as the call
        // lasts. Xen writes into that structure and nowhere else of this process; no reference into the page is alive.
        let result = unsafe { ioctl(&self.privcmd, call) };
        if let Some(bytes) = self.page.get(..size_of::<Request>())
            && let Ok(answer) = Request::read_from_bytes(bytes)
        {
            *request = answer;
        }
        result
    }
}
