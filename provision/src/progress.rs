//! What people see of long work, on a terminal: the search of a large gap, the look at all that is handed to Xen.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::{Cell, OnceCell};
use std::io;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Bytes, DeviceOffset};

/// How much is read in silence: what every inspection reads is far less.
const SILENT: u64 = 64 << 20;

/// A device that shows on standard error, if that is a terminal, how much of it has been read once that takes long.
#[derive(Debug)]
pub struct Watched<'a, D: ?Sized> {
    device: &'a D,
    what_for: &'static str,
    read: Cell<u64>,
    bar: OnceCell<ProgressBar>,
}

impl<'a, D: ReadAt + ?Sized> Watched<'a, D> {
    /// Watches how `device` is read. `what_for` says why it is, to people.
    pub fn new(device: &'a D, what_for: &'static str) -> Self {
        Self {
            device,
            what_for,
            read: Cell::new(0),
            bar: OnceCell::new(),
        }
    }

    fn count(&self, buf: &[u8]) -> io::Result<()> {
        let length = u64::try_from(buf.len()).map_err(io::Error::other)?;
        let read = self.read.get().saturating_add(length);
        self.read.set(read);
        if read > SILENT {
            self.show(read);
        }
        Ok(())
    }

    fn show(&self, read: u64) {
        let bar = self.bar.get_or_init(|| {
            // Without a style of its own it is drawn in the library's.
            let style = ProgressStyle::with_template("{spinner} {msg}: {bytes} read, {bytes_per_sec}");
            let bar = ProgressBar::new_spinner().with_message(self.what_for);
            match style {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        bar.set_position(read);
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

impl<D: ?Sized> Drop for Watched<'_, D> {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
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
        assert!(watched.bar.get().is_some(), "it was long enough to be shown");
        bytes.fill(0);
        watched.read_once_at(DeviceOffset(0), &mut bytes).unwrap();
        assert!(bytes == device);
        assert_eq!(watched.read.get(), 66 << 20);
        let mut bytes = vec![0; 1 << 20];
        assert!(watched.read_exact_at(DeviceOffset(1), &mut bytes).is_err());
    }
}
