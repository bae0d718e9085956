//! A sparse device in memory that remembers where it was written to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};
use xen_pmem_format::inspect::{Inspection, inspect};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::COPY_SIZE;
use xen_pmem_format::table::{Place, Table, last_lba};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, Lba, LbaSize};
use xen_pmem_provision::device::Device;

const PAGE: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    size: u64,
    pages: RefCell<BTreeMap<u64, Box<[u8; PAGE]>>>,
    written: RefCell<Vec<DeviceRange>>,
}

/// Returns the parts of `offset..offset + length` that lie in one page each: the page, where in it, where in the whole.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < length).then(|| {
            let at = offset + done as u64;
            let (page, start) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let part = (PAGE - start).min(length - done);
            let whole = done..done + part;
            done += part;
            (page, start..start + part, whole)
        })
    })
}

impl Disk {
    pub(crate) fn blank(size: u64) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.size
    }

    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) {
        let length = (self.size.saturating_sub(offset) as usize).min(bytes.len());
        let mut pages = self.pages.borrow_mut();
        for (page, at, whole) in parts(offset, length) {
            pages.entry(page).or_insert_with(|| Box::new([0; PAGE]))[at].copy_from_slice(&bytes[whole]);
        }
    }

    pub(crate) fn get(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let _ = self.read_exact_at(DeviceOffset(offset), &mut bytes);
        bytes
    }

    pub(crate) fn page(&self, offset: u64) -> [u8; COPY_SIZE] {
        self.get(offset, COPY_SIZE).try_into().unwrap()
    }

    pub(crate) fn wipe(&self, offset: u64, length: usize) {
        self.put(offset, &vec![0; length]);
    }

    pub(crate) fn flip(&self, offset: u64) {
        let byte = self.get(offset, 1)[0];
        self.put(offset, &[byte ^ 0x10]);
    }

    /// Cuts the end off, or adds zeros.
    pub(crate) fn resize(&mut self, size: u64) {
        let kept = self.size.min(size);
        let end = kept.next_multiple_of(PAGE as u64);
        self.wipe(kept, (end - kept) as usize);
        self.pages.borrow_mut().retain(|page, _| page * (PAGE as u64) < end);
        self.size = size;
    }

    /// Lets the device begin `bytes` later (or earlier), as a namespace's does when its mode changes.
    pub(crate) fn shift(&mut self, bytes: i64) {
        let by = bytes / PAGE as i64;
        let pages = std::mem::take(&mut *self.pages.borrow_mut());
        let moved = pages
            .into_iter()
            .filter_map(|(page, bytes)| Some((u64::try_from(page as i64 - by).ok()?, bytes)));
        *self.pages.borrow_mut() = moved.collect();
        self.size = self.size.saturating_add_signed(-bytes);
        self.resize(self.size);
    }

    /// Returns where it was written to since it was last asked.
    pub(crate) fn take_written(&self) -> Vec<DeviceRange> {
        std::mem::take(&mut *self.written.borrow_mut())
    }

    pub(crate) fn inspect(&self, lba_size: Option<LbaSize>) -> Inspection {
        inspect(self, lba_size).unwrap()
    }

    /// Returns the partitions of every valid table: at the start, where that one says its backup is, in the last block; of either block
    /// size.
    pub(crate) fn partitions(&self) -> Vec<DeviceRange> {
        let mut partitions = Vec::new();
        for lba_size in [LbaSize::B512, LbaSize::B4096] {
            let read = |place, at| Table::read(self, Bytes(self.size), lba_size, place, at).ok();
            let primary = read(Place::Primary, Lba(1));
            let backups = [
                primary.as_ref().map(Table::other_header),
                last_lba(lba_size, Bytes(self.size)),
            ];
            let backups = backups.into_iter().flatten();
            let tables = backups.filter_map(|at| read(Place::Backup, at)).chain(primary.clone());
            partitions.extend(tables.flat_map(|table| table.partitions().to_vec()));
        }
        partitions.into_iter().map(|partition| partition.range).collect()
    }
}

impl ReadAt for Disk {
    fn size(&self) -> io::Result<Bytes> {
        Ok(Bytes(self.size))
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        if offset.0.checked_add(buf.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let pages = self.pages.borrow();
        for (page, at, whole) in parts(offset.0, buf.len()) {
            match pages.get(&page) {
                Some(page) => buf[whole].copy_from_slice(&page[at]),
                None => buf[whole].fill(0),
            }
        }
        Ok(())
    }

    fn next_data(&self, offset: DeviceOffset) -> Option<DeviceOffset> {
        let pages = self.pages.borrow();
        let (page, _) = pages.range(offset.0 / PAGE as u64..).next()?;
        Some(DeviceOffset(page * PAGE as u64).max(offset)).filter(|data| data.0 < self.size)
    }
}

impl Device for Disk {
    fn write_all_at(&self, offset: DeviceOffset, bytes: &[u8]) -> io::Result<()> {
        let range = DeviceRange::new(offset, Bytes(bytes.len() as u64)).unwrap();
        if range.end().0 > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.written.borrow_mut().push(range);
        self.put(offset.0, bytes);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A position on a disk, for gptman.
pub(crate) struct Writer<'d> {
    pub(crate) disk: &'d Disk,
    pub(crate) position: u64,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk.put(self.position, bytes);
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Writer<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(position) => self.position = position,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(self.position)
    }
}
