//! What people see of long reading: the search of a large gap, the look at all that is handed to Xen.

use std::io;
use xen_pmem_cli::progress::Reading;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Bytes, DeviceOffset};

/// A device that shows how much of it has been read once that takes long.
#[derive(Debug)]
pub(crate) struct Watched<'a, D: ?Sized> {
    device: &'a D,
    reading: Reading,
}

impl<'a, D: ReadAt + ?Sized> Watched<'a, D> {
    /// Watches how `device` is read. `what_for` says to people why it is.
    pub(crate) fn new(device: &'a D, what_for: &'static str) -> Self {
        Self {
            device,
            reading: Reading::new(what_for),
        }
    }

    fn count(&self, buf: &[u8]) -> io::Result<()> {
        self.reading.count(u64::try_from(buf.len()).map_err(io::Error::other)?);
        Ok(())
    }
}

impl<D: ReadAt + ?Sized> ReadAt for Watched<'_, D> {
    fn size(&self) -> io::Result<Bytes> {
        self.device.size()
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        self.count(buf)?;
        self.device.read_exact_at(offset, buf)
    }

    fn read_once_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        self.count(buf)?;
        self.device.read_once_at(offset, buf)
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        self.device.next_data(offset)
    }

    fn file(&self) -> Option<&std::fs::File> {
        self.device.file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_reads_the_same() {
        let device = vec![7u8; 1 << 20];
        let watched = Watched::new(&device, "testing");
        assert_eq!(watched.size().unwrap(), Bytes(1 << 20));
        let mut bytes = vec![0; 1 << 20];
        for _ in 0..=64 {
            watched.read_exact_at(DeviceOffset(0), &mut bytes).unwrap();
        }
        assert!(bytes == device);
        assert!(watched.reading.is_shown(), "it was long enough to be shown");
        bytes.fill(0);
        watched.read_once_at(DeviceOffset(0), &mut bytes).unwrap();
        assert!(bytes == device);
        assert_eq!(watched.reading.read(), 66 << 20);
        let mut bytes = vec![0; 1 << 20];
        assert!(watched.read_exact_at(DeviceOffset(1), &mut bytes).is_err());
    }
}
