//! What a command promises of the device that it leaves behind.

use crate::entries::Partitions;
use uuid::Uuid;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::{Inspection, State};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::SuperBlock;
use xen_pmem_format::table::Table;
use xen_pmem_format::units::DeviceOffset;

/// A device to be.
#[derive(Clone, Debug)]
pub enum Promise {
    /// It is prepared: both tables have these partitions and the super block's disk GUID, both copies say this.
    Prepared {
        /// What the super block says.
        superblock: SuperBlock,
        /// The partitions of the table.
        partitions: Partitions,
    },
    /// There is no reservation and no copy of a super block; both tables have these partitions.
    Removed {
        /// The disk GUID of the table.
        disk_guid: Uuid,
        /// The partitions of the table.
        partitions: Partitions,
    },
    /// These bytes are there.
    Bytes(Vec<(DeviceOffset, Vec<u8>)>),
}

impl Promise {
    /// Returns the state that it leads to; `None` if it is about bytes only.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Prepared { .. } => Some(State::Prepared),
            Self::Removed { .. } => Some(State::Unprepared),
            Self::Bytes(_) => None,
        }
    }

    /// Returns why `device`, inspected as `after`, is not as promised; `None` if it is.
    pub fn broken<D: ReadAt + ?Sized>(&self, device: &D, after: &Inspection) -> Option<String> {
        if let Some(state) = self.state()
            && after.state != state
        {
            return Some(format!(
                "the device is {}, not {} ({})",
                after.state.as_str(),
                state.as_str(),
                after.reasons()
            ));
        }
        match self {
            Self::Prepared { superblock, partitions } => match after.reservation() {
                Some((found, _)) if found != superblock => Some("the super block says something else".to_owned()),
                _ => broken_tables(after, superblock.disk_guid, partitions),
            },
            Self::Removed { disk_guid, partitions } => {
                let left = after.copies.iter().find(|copy| copy.reading != Reading::Missing);
                match left {
                    Some(copy) => Some(format!(
                        "the {} super block at offset {} is still there",
                        copy.which, copy.offset
                    )),
                    None => broken_tables(after, *disk_guid, partitions),
                }
            }
            Self::Bytes(pieces) => pieces.iter().find_map(|(offset, bytes)| {
                let mut found = vec![0; bytes.len()];
                let read = device.read_exact_at(*offset, &mut found);
                (read.is_err() || found != *bytes).then(|| format!("the bytes at offset {offset} are others"))
            }),
        }
    }
}

fn broken_tables(after: &Inspection, disk_guid: Uuid, partitions: &Partitions) -> Option<String> {
    let as_promised = |table: &Table| {
        table.disk_guid() == disk_guid && Partitions::of_table(table).is_ok_and(|found| found == *partitions)
    };
    let tables = [("primary", &after.primary_table), ("backup", &after.backup_table)];
    tables.into_iter().find_map(|(name, table)| match table {
        Err(invalid) => Some(format!("the {name} GPT is not valid ({invalid})")),
        Ok(table) if !as_promised(table) => Some(format!("the {name} GPT has other partitions")),
        Ok(_) => None,
    })
}
