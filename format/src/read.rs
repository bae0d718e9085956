//! Where bytes are read from: block devices, images, memory.

use crate::units::{Bytes, DeviceOffset};
use std::io;

/// Something whose bytes can be read at any offset: a block device, an image, a mapping, a vector in a test.
pub trait ReadAt {
    /// The number of bytes there are.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    fn size(&self) -> io::Result<Bytes>;

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the device ends before `buf` is full; otherwise whatever the operating system says, a
    /// media error (`EIO`) above all.
    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()>;
}

#[cfg(unix)]
impl ReadAt for std::fs::File {
    /// The position of the end: right for regular files and for block devices, whose metadata gives no length.
    fn size(&self) -> io::Result<Bytes> {
        use std::io::{Seek, SeekFrom};
        let mut file = self;
        file.seek(SeekFrom::End(0)).map(Bytes)
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset.0)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<Bytes> {
        u64::try_from(self.len()).map(Bytes).map_err(io::Error::other)
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        let source = usize::try_from(offset.0)
            .ok()
            .and_then(|start| Some(start..start.checked_add(buf.len())?))
            .and_then(|range| self.get(range))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(source);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> io::Result<Bytes> {
        self.as_slice().size()
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buf)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> io::Result<Bytes> {
        (**self).size()
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buf)
    }
}
