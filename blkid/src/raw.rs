//! libblkid's low-level probing, as far as it is used here. Source: `blkid.h` of util-linux; the functions are there since 2.23 (2013).

#![allow(unsafe_code, reason = "libblkid is written in C")]

use core::ffi::{CStr, c_char, c_int, c_long};
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_BADCSUM`.
const SUPERBLOCKS: c_int = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10;
/// `BLKID_PARTS_FORCE_GPT | BLKID_PARTS_MAGIC`.
const PARTITIONS: c_int = 1 << 1 | 1 << 3;

/// `struct blkid_struct_probe`; only libblkid knows its content.
#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

// `blkid_loff_t` is `int64_t`.
unsafe extern "C" {
    fn blkid_new_probe() -> *mut Opaque;
    fn blkid_free_probe(probe: *mut Opaque);
    fn blkid_probe_set_device(probe: *mut Opaque, fd: c_int, offset: i64, size: i64) -> c_int;
    fn blkid_probe_enable_superblocks(probe: *mut Opaque, enable: c_int) -> c_int;
    fn blkid_probe_set_superblocks_flags(probe: *mut Opaque, flags: c_int) -> c_int;
    fn blkid_probe_enable_partitions(probe: *mut Opaque, enable: c_int) -> c_int;
    fn blkid_probe_set_partitions_flags(probe: *mut Opaque, flags: c_int) -> c_int;
    fn blkid_do_probe(probe: *mut Opaque) -> c_int;
    fn blkid_probe_lookup_value(
        probe: *mut Opaque,
        name: *const c_char,
        data: *mut *const c_char,
        length: *mut usize,
    ) -> c_int;
}

const _: () = assert!(size_of::<c_long>() == size_of::<usize>(), "size_t is usize");

/// A walk over the signatures in a part of a file.
pub(crate) struct Probe<'f> {
    probe: NonNull<Opaque>,
    file: &'f File,
    // Not to be shared between threads: a walk has a position.
    _position: PhantomData<*mut ()>,
}

impl<'f> Probe<'f> {
    /// Begins a walk over `size` bytes, which must not be zero, from the byte `start` on.
    ///
    /// # Errors
    ///
    /// If memory runs out, or libblkid cannot use the file.
    pub(crate) fn new(file: &'f File, start: u64, size: u64) -> io::Result<Self> {
        let start = i64::try_from(start).map_err(io::Error::other)?;
        let size = i64::try_from(size).map_err(io::Error::other)?;
        // SAFETY: takes nothing; returns a probe that is ours, or null.
        let probe = NonNull::new(unsafe { blkid_new_probe() }).ok_or(io::ErrorKind::OutOfMemory)?;
        let walk = Self {
            probe,
            file,
            _position: PhantomData,
        };
        let raw = walk.probe.as_ptr();
        // SAFETY: `raw` is a probe until `walk` is dropped. The file stays open for longer than that: `walk` borrows it. libblkid reads
        // it at offsets of its own and neither keeps a buffer of ours nor closes the descriptor, which it was only lent.
        let results = unsafe {
            [
                blkid_probe_set_device(raw, file.as_raw_fd(), start, size),
                blkid_probe_enable_superblocks(raw, 1),
                blkid_probe_set_superblocks_flags(raw, SUPERBLOCKS),
                blkid_probe_enable_partitions(raw, 1),
                blkid_probe_set_partitions_flags(raw, PARTITIONS),
            ]
        };
        if results.iter().any(|result| *result != 0) {
            return Err(io::Error::other("libblkid cannot look at it"));
        }
        Ok(walk)
    }

    /// Goes on to the next signature; `false` if there are no more.
    ///
    /// # Errors
    ///
    /// If libblkid fails.
    pub(crate) fn next(&mut self) -> io::Result<bool> {
        // SAFETY: it is our probe with its device set, and nothing else uses it at the same time. Strings of the signature before, which
        // this invalidates, are not borrowed: `value` copies.
        match unsafe { blkid_do_probe(self.probe.as_ptr()) } {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(0) => io::Error::other("libblkid cannot read it"),
                error => error,
            }),
        }
    }

    /// Returns what libblkid says of the signature found last under this name.
    pub(crate) fn value(&self, name: &CStr) -> Option<String> {
        let mut data = ptr::null();
        // SAFETY: a probe of ours, a name that ends with NUL, a place for a pointer; the length may be null.
        let result =
            unsafe { blkid_probe_lookup_value(self.probe.as_ptr(), name.as_ptr(), &raw mut data, ptr::null_mut()) };
        if result != 0 || data.is_null() {
            return None;
        }
        // SAFETY: on success `data` points to a value in the probe; those that are asked for here are text that ends with NUL
        // (TYPE, USAGE, PTTYPE, and the offsets, which are printed numbers). It stays until the next change of the probe, and is
        // copied before.
        let text = unsafe { CStr::from_ptr(data) };
        Some(text.to_string_lossy().into_owned())
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // SAFETY: a probe of ours, which is not used any more.
        unsafe { blkid_free_probe(self.probe.as_ptr()) };
        // libblkid switches reading ahead off. If it cannot be switched on again, reading is only slower.
        let _ = fadvise(self.file, 0, None, Advice::Normal);
    }
}
