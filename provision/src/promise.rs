//! What a command promises of the device that it leaves behind.

use gptman::GPTPartitionEntry;
use uuid::Uuid;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::{Inspection, State};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::superblock::SuperBlock;
use xen_pmem_format::table::{EntryBytes, Table};
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

/// The entries in use of a partition table, each with its number. Two are the same if number, range, type, GUID, attributes and name
/// are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions(Vec<(u32, EntryBytes)>);

impl Partitions {
    /// Returns the entries in use among `entries`: those whose type, the first 16 bytes, is not zero.
    pub fn of(entries: &[EntryBytes]) -> Self {
        let is_used = |entry: &EntryBytes| entry.iter().take(16).any(|byte| *byte != 0);
        let numbered = (1..).zip(entries).filter(|(_, entry)| is_used(entry));
        Self(numbered.map(|(number, entry)| (number, *entry)).collect())
    }

    /// Returns the entries in use among those that are going to be written.
    pub(crate) fn to_be(entries: &[GPTPartitionEntry]) -> Self {
        let encoded: Vec<EntryBytes> = entries.iter().map(encoded).collect();
        Self::of(&encoded)
    }
}

/// The bytes of an entry (UEFI Specification 2.10, table 5.6), as gptman writes them.
fn encoded(entry: &GPTPartitionEntry) -> EntryBytes {
    let mut bytes = [0; size_of::<EntryBytes>()];
    let name: Vec<u8> = entry
        .partition_name
        .as_str()
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let fields = [
        &entry.partition_type_guid[..],
        &entry.unique_partition_guid,
        &entry.starting_lba.to_le_bytes(),
        &entry.ending_lba.to_le_bytes(),
        &entry.attribute_bits.to_le_bytes(),
        &name,
    ];
    for (place, byte) in bytes.iter_mut().zip(fields.concat()) {
        *place = byte;
    }
    bytes
}

impl Promise {
    /// The state that it leads to; `None` if it speaks of bytes only.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Prepared { .. } => Some(State::Prepared),
            Self::Removed { .. } => Some(State::Unprepared),
            Self::Bytes(_) => None,
        }
    }

    /// Why `device`, inspected as `after`, is not as promised; `None` if it is.
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
    let as_promised = |table: &Table| table.disk_guid() == disk_guid && Partitions::of(table.entries()) == *partitions;
    let tables = [("primary", &after.primary_table), ("backup", &after.backup_table)];
    tables.into_iter().find_map(|(name, table)| match table {
        Err(invalid) => Some(format!("the {name} GPT is not valid ({invalid})")),
        Ok(table) if !as_promised(table) => Some(format!("the {name} GPT has other partitions")),
        Ok(_) => None,
    })
}
