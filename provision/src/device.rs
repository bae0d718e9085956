//! What is written to: block devices, images, memory in tests.

use std::io;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::DeviceOffset;

/// Something that can be written at any offset and made durable.
pub trait Device: ReadAt {
    /// Writes all of `bytes` at `offset`. They are durable only after the next [`Device::flush`], and until then may reach the
    /// medium in any order, eight bytes at a time.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    fn write_all_at(&self, offset: DeviceOffset, bytes: &[u8]) -> io::Result<()>;

    /// Makes all that was written durable.
    ///
    /// # Errors
    ///
    /// The operating system's error: part of what was written may be lost.
    fn flush(&self) -> io::Result<()>;
}

impl Device for std::fs::File {
    fn write_all_at(&self, offset: DeviceOffset, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset.0)
    }

    fn flush(&self) -> io::Result<()> {
        self.sync_data()
    }
}
