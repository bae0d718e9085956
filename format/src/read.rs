//! Where bytes are read from: block devices, images, memory.

use crate::units::{Bytes, DeviceOffset};
use std::io;

/// Something whose bytes can be read at any offset: a block device, an image, a mapping, a vector in a test.
pub trait ReadAt {
    /// Returns the number of bytes there are.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    fn size(&self) -> io::Result<Bytes>;

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the device ends before `buf` is full; otherwise the operating system's error, for example a
    /// media error (`EIO`).
    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()>;

    /// Fills `buf` like [`ReadAt::read_exact_at`] with bytes that are not likely to be read again soon. A file reads them past the page
    /// cache if the system can do that, and if `offset`, and the address and length of `buf`, are multiples of 4096 bytes.
    ///
    /// # Errors
    ///
    /// As [`ReadAt::read_exact_at`].
    fn read_once_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(offset, buf)
    }

    /// Returns the first offset, from `offset` on, where bytes other than zero may be. Returns `None` if all the rest is known to be zero,
    /// as in the holes of a sparse image. A device that cannot tell returns `offset`.
    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        Some(offset)
    }

    /// Returns the open file that has exactly these bytes, at these offsets: for libraries that read by themselves. Memory has none.
    fn file(&self) -> Option<&std::fs::File> {
        None
    }
}

#[cfg(unix)]
impl ReadAt for std::fs::File {
    /// Returns the position of the end: right for regular files and for block devices, whose metadata gives no length.
    fn size(&self) -> io::Result<Bytes> {
        use std::io::{Seek, SeekFrom};
        let mut file = self;
        file.seek(SeekFrom::End(0)).map(Bytes)
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buf, offset.0)
    }

    fn read_once_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let flags = fcntl_getfl(self)?;
        // A file system that cannot read past the page cache says so here, or fails with EINVAL when it reads.
        if fcntl_setfl(self, flags | OFlags::DIRECT).is_ok() {
            let read = self.read_exact_at(offset, buf);
            fcntl_setfl(self, flags)?;
            if !read
                .as_ref()
                .is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput)
            {
                return read;
            }
        }
        self.read_exact_at(offset, buf)
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        use rustix::fs::{SeekFrom, seek};
        match seek(self, SeekFrom::Data(offset.0)) {
            Ok(data) => Some(DeviceOffset(data).max(offset)),
            Err(rustix::io::Errno::NXIO) => None,
            // A device cannot tell where its zeros are.
            Err(_) => Some(offset),
        }
    }

    fn file(&self) -> Option<&std::fs::File> {
        Some(self)
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

    fn read_once_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_once_at(offset, buf)
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        (**self).next_data(offset)
    }

    fn file(&self) -> Option<&std::fs::File> {
        (**self).file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// Opens the program's own file, which is always there.
    fn own_program() -> std::fs::File {
        std::fs::File::open(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_file_is_read_where_it_is_asked_to_be() {
        let file = own_program();
        assert_eq!(file.size().unwrap().0, file.metadata().unwrap().len());
        let mut bytes = [0; 4];
        file.read_exact_at(DeviceOffset(0), &mut bytes).unwrap();
        assert_eq!(&bytes, b"\x7fELF");
        let borrowed = &file;
        let mut two = [0; 2];
        ReadAt::read_exact_at(&borrowed, DeviceOffset(2), &mut two).unwrap();
        assert_eq!(&two, b"LF");
        assert_eq!(ReadAt::size(&borrowed).unwrap(), file.size().unwrap());
        let end = DeviceOffset(file.size().unwrap().0 - 1);
        let error = ReadAt::read_exact_at(&file, end, &mut two).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_read_once_is_the_same_whether_aligned_or_not() {
        let file = own_program();
        let mut room = vec![0; 3 * 4096];
        let aligned = room.as_ptr().align_offset(4096);
        let mut expected = vec![0; 4096];
        file.read_exact_at(DeviceOffset(4096), &mut expected).unwrap();
        for start in [aligned, aligned + 1] {
            let buf = &mut room[start..start + 4096];
            buf.fill(0);
            let borrowed = &file;
            ReadAt::read_once_at(&borrowed, DeviceOffset(4096), buf).unwrap();
            assert_eq!(buf, expected);
        }
        let flags = rustix::fs::fcntl_getfl(&file).unwrap();
        assert!(
            !flags.contains(rustix::fs::OFlags::DIRECT),
            "what follows is read as ever"
        );
        let past = DeviceOffset(file.size().unwrap().0.next_multiple_of(4096));
        let buf = &mut room[aligned..aligned + 4096];
        let error = file.read_once_at(past, buf).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        vec![7u8; 4096].read_once_at(DeviceOffset(0), buf).unwrap();
        assert_eq!(buf, [7; 4096]);
    }

    #[test]
    fn what_lies_in_holes_is_known() {
        let file = own_program();
        let end = DeviceOffset(file.size().unwrap().0);
        assert_eq!(file.next_data(DeviceOffset(0)), Some(DeviceOffset(0)));
        let borrowed = &file;
        assert_eq!(ReadAt::next_data(&borrowed, end), None);
        let device = std::fs::File::open("/dev/zero").unwrap();
        assert_eq!(device.next_data(DeviceOffset(7)), Some(DeviceOffset(7)));
        assert_eq!(vec![0u8].next_data(DeviceOffset(7)), Some(DeviceOffset(7)));
    }

    #[test]
    fn memory_ends_where_it_ends() {
        let memory = vec![1u8, 2, 3];
        let mut two = [0; 2];
        memory.read_exact_at(DeviceOffset(1), &mut two).unwrap();
        assert_eq!(two, [2, 3]);
        for offset in [2, 3, u64::MAX] {
            let error = memory.read_exact_at(DeviceOffset(offset), &mut two).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
