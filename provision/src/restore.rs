//! The plan that puts saved pieces back.

use crate::backup::Backup;
use crate::commit;
use crate::gpt::Tables;
use crate::signatures::{self, Traces};
use crate::step::Step;
use std::io;
use uuid::Uuid;
use xen_pmem_format::inspect::{Inspection, inspect};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::SuperBlock;
use xen_pmem_format::table::Table;
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange};

/// Why nothing is restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device has another size.
    #[error("has {is}, the backup is of a device of {was}")]
    Size {
        /// The device's.
        is: Bytes,
        /// The one that was saved.
        was: Bytes,
    },
    /// There is another reservation or table that works.
    #[error("there is {0}, which the backup would replace; if that may be lost, say --force")]
    Replaces(String),
    /// There is something else.
    #[error("it is not blank: there is {0}; if that may be lost, say --force")]
    NotBlank(Traces),
    /// What was saved is no layout of ours.
    #[error("the backup holds no whole reservation ({0}); to put its bytes back as they are, say --force")]
    NoReservation(String),
    /// The device could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The steps cannot be made.
    #[error(transparent)]
    Commit(#[from] commit::Error),
}

/// A device as it would be with the pieces put back.
struct Restored<'d, D: ?Sized> {
    device: &'d D,
    pieces: Vec<(DeviceOffset, Vec<u8>)>,
}

impl<D: ReadAt + ?Sized> ReadAt for Restored<'_, D> {
    fn size(&self) -> io::Result<Bytes> {
        self.device.size()
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_exact_at(offset, buf)?;
        let wanted = DeviceRange::clamped(offset, Bytes(u64::try_from(buf.len()).unwrap_or(u64::MAX)));
        for (at, bytes) in &self.pieces {
            let piece = DeviceRange::clamped(*at, Bytes(u64::try_from(bytes.len()).unwrap_or(u64::MAX)));
            let (start, end) = (wanted.base().max(piece.base()), wanted.end().min(piece.end()));
            let part = |range: DeviceRange| -> Option<std::ops::Range<usize>> {
                let from = start.0.checked_sub(range.base().0)?;
                let to = end.0.checked_sub(range.base().0)?;
                Some(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
            };
            if start < end
                && let (Some(source), Some(target)) = (part(piece), part(wanted))
                && let (Some(source), Some(target)) = (bytes.get(source), buf.get_mut(target))
            {
                target.copy_from_slice(source);
            }
        }
        Ok(())
    }
}

/// Plans the restoration: no steps if all is there already. Reads the device and writes nothing.
///
/// # Errors
///
/// Why it cannot be restored, or must not be.
pub fn plan<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    backup: &Backup,
    force: bool,
) -> Result<Vec<Step>, Error> {
    if backup.device_size() != inspection.device_size {
        return Err(Error::Size {
            is: inspection.device_size,
            was: backup.device_size(),
        });
    }
    let restored = Restored {
        device,
        pieces: backup.pieces().collect(),
    };
    let wanted = inspect(&restored, Some(inspection.lba_size))?;
    let Some((superblock, table)) = wanted.reservation() else {
        return if force {
            Ok(as_they_are(&restored))
        } else {
            Err(Error::NoReservation(wanted.reasons()))
        };
    };
    if !force {
        refuse_loss(device, inspection, superblock, table)?;
    }
    let tables = Tables::with_first_usable(table, inspection.device_size, table.usable().base())
        .ok_or_else(|| Error::NoReservation("its geometry is beyond what 64 bits can hold".to_owned()))?;
    // A reservation that differs goes first: half of the one and half of the other must never be seen as one.
    let mut steps = Vec::new();
    match inspection.reservation() {
        Some((old, old_table)) if old == superblock && old_table.agrees_with(table) => {}
        Some(_) => steps.extend(commit::no_copies(inspection)),
        None => {}
    }
    let without: Vec<Step> = commit::whole(device, &unprepared(device, inspection, &steps)?, superblock, &tables)?;
    steps.extend(without);
    Ok(steps)
}

/// The device's state once `steps` are done.
fn unprepared<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection, steps: &[Step]) -> io::Result<Inspection> {
    let pieces = steps.iter().filter_map(|step| match step {
        Step::Write { offset, bytes, .. } => Some((*offset, bytes.clone())),
        Step::Flush => None,
    });
    inspect(
        &Restored {
            device,
            pieces: pieces.collect(),
        },
        Some(inspection.lba_size),
    )
}

/// Refuses to replace what works or what is not ours.
fn refuse_loss<D: ReadAt + ?Sized>(
    device: &D,
    inspection: &Inspection,
    superblock: &SuperBlock,
    table: &Table,
) -> Result<(), Error> {
    let differs = |what: &str, guid: Uuid| Error::Replaces(format!("{what} {guid}"));
    if let Some((old, _)) = inspection.reservation()
        && (old.uuid != superblock.uuid || old.sequence > superblock.sequence)
    {
        return Err(differs("a working reservation, maybe a newer one:", old.uuid));
    }
    if let Some(old) = inspection.table() {
        if old.disk_guid() != table.disk_guid() {
            return Err(differs("a working partition table,", old.disk_guid()));
        }
        if old.entries() != table.entries() {
            return Err(Error::Replaces(
                "a working partition table with other partitions".to_owned(),
            ));
        }
        return Ok(());
    }
    let foreign = signatures::foreign_in(device, inspection)?;
    if foreign.0.is_empty() {
        Ok(())
    } else {
        Err(Error::NotBlank(foreign))
    }
}

/// The steps that put the pieces back byte by byte.
fn as_they_are<D: ?Sized>(restored: &Restored<'_, D>) -> Vec<Step> {
    let writes = restored.pieces.iter().map(|(offset, bytes)| Step::Write {
        offset: *offset,
        bytes: bytes.clone(),
        what: "saved bytes".to_owned(),
    });
    writes.flat_map(|write| [write, Step::Flush]).collect()
}
