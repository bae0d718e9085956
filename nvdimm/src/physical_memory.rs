//! Physical memory as bytes, through a mapping of `/dev/mem`: how persistent memory is read while no driver has it.
//!
//! The kernel refuses the mapping once a driver has claimed the range (`CONFIG_IO_STRICT_DEVMEM`, on in Debian's kernels): that it
//! succeeds is proof that no driver has. `read()` of `/dev/mem` does not reach beyond RAM; mapping does (Linux
//! `drivers/char/mem.c`, `valid_phys_addr_range` as opposed to `valid_mmap_phys_addr_range`).

use crate::node;
use memmap2::MmapOptions;
use std::fs::File;
use std::io;
use std::path::Path;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, PAGE, PhysRange};

/// The device.
pub const DEV_MEM: &str = "/dev/mem";

/// Physical memory, or a file whose offsets are physical addresses.
#[derive(Debug)]
pub struct PhysicalMemory {
    file: File,
    /// The length of a file; a device has none.
    length: Option<u64>,
}

impl PhysicalMemory {
    /// Opens it for reading.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = node::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            length: metadata.is_file().then_some(metadata.len()),
            file,
        })
    }

    /// Returns the bytes of `range`. Does not touch those in `bad`.
    pub fn window<'a>(&'a self, range: PhysRange, bad: &'a [PhysRange]) -> Window<'a> {
        Window {
            memory: self,
            range,
            bad,
        }
    }

    /// Copies the bytes of `range` into `buf`, which is as long.
    fn copy(&self, range: PhysRange, buf: &mut [u8]) -> io::Result<()> {
        // Beyond its end a file's mapping is there and must not be touched.
        if self.length.is_some_and(|length| range.end().0 > length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map = MmapOptions::new()
            .offset(range.base().0)
            .len(buf.len())
            .map_raw_read_only(&self.file)
            .map_err(|error| explained(error, range))?;
        copy_out(&map, buf);
        Ok(())
    }
}

#[expect(
    unsafe_code,
    reason = "a mapping of memory that others write can only be read through its address"
)]
fn copy_out(map: &memmap2::MmapRaw, buf: &mut [u8]) {
    let start = map.as_ptr();
    for (index, byte) in buf.iter_mut().enumerate().take(map.len()) {
        // SAFETY: `start` is the address of a readable mapping of `map.len()` bytes, `index` is below that, and the mapping lives
        // as long as `map` is borrowed. A byte has no invalid values and no alignment. Others may write the memory meanwhile: the
        // read is volatile, so that the compiler assumes nothing of its value.
        *byte = unsafe { start.add(index).read_volatile() };
    }
}

/// Returns what a refused mapping means.
fn explained(error: io::Error, range: PhysRange) -> io::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        let message = format!(
            "the kernel does not let physical memory {range} be mapped ({error}): a driver has claimed it, or the kernel is locked down"
        );
        io::Error::new(io::ErrorKind::PermissionDenied, message)
    } else {
        error
    }
}

/// Part of physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    memory: &'a PhysicalMemory,
    range: PhysRange,
    bad: &'a [PhysRange],
}

impl Window<'_> {
    /// Returns the part of it at `range`, which is within it; `None` if it is not.
    pub fn part(&self, range: PhysRange) -> Option<Self> {
        self.range.contains(range).then_some(Self { range, ..*self })
    }
}

impl ReadAt for Window<'_> {
    fn size(&self) -> io::Result<Bytes> {
        Ok(self.range.size())
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        let mut offset = offset.distance();
        // A page at a time: the kernel makes the page tables of the whole mapping at once, and only what is copied is needed.
        for chunk in buf.chunks_mut(usize::try_from(PAGE.0).map_err(io::Error::other)?) {
            let length = Bytes(u64::try_from(chunk.len()).map_err(io::Error::other)?);
            let range = self
                .range
                .base()
                .checked_add(offset)
                .and_then(|base| PhysRange::new(base, length))
                .filter(|range| self.range.contains(*range))
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            // Touching poisoned memory would end this process.
            if self.bad.iter().any(|bad| bad.overlaps(range)) {
                return Err(rustix::io::Errno::IO.into());
            }
            self.memory.copy(range, chunk)?;
            offset = offset.checked_add(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use xen_pmem_format::units::PhysAddr;

    fn range(base: u64, size: u64) -> PhysRange {
        PhysRange::new(PhysAddr(base), Bytes(size)).unwrap()
    }

    #[test]
    fn a_window_shows_its_bytes_and_no_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let base = 4 << 30;
        file.as_file().set_len(base + (1 << 20)).unwrap();
        file.as_file().write_all_at(b"persistent", base + 4090).unwrap();
        let memory = PhysicalMemory::open(file.path()).unwrap();
        let window = memory.window(range(base, 1 << 20), &[]);
        assert_eq!(window.size().unwrap(), Bytes(1 << 20));
        let mut bytes = [0; 10];
        window.read_exact_at(DeviceOffset(4090), &mut bytes).unwrap();
        assert_eq!(&bytes, b"persistent");
        let part = window.part(range(base + 4096, 4096)).unwrap();
        part.read_exact_at(DeviceOffset(0), &mut bytes[..4]).unwrap();
        assert_eq!(&bytes[..4], b"tent");
        assert!(part.part(range(base, 1)).is_none());
        for offset in [4090, 4096, u64::MAX] {
            let error = part.read_exact_at(DeviceOffset(offset), &mut bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset}");
        }
    }

    #[test]
    fn bad_memory_is_not_touched() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let memory = PhysicalMemory::open(file.path()).unwrap();
        let bad = [range(8192, 512)];
        let window = memory.window(range(0, 1 << 20), &bad);
        window.read_exact_at(DeviceOffset(4096), &mut [0; 4096]).unwrap();
        for (offset, length) in [(8000, 200), (8192, 1), (0, 65536)] {
            let error = window
                .read_exact_at(DeviceOffset(offset), &mut vec![0; length])
                .unwrap_err();
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
        }
    }

    #[test]
    fn a_file_that_ends_early_is_no_crash() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4096).unwrap();
        let memory = PhysicalMemory::open(file.path()).unwrap();
        let window = memory.window(range(4096, 4096), &[]);
        let error = window.read_exact_at(DeviceOffset(0), &mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
