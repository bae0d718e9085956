//! The entries of a partition table, decoded by gptman.

use gptman::GPTPartitionEntry;
use std::io::Read as _;
use xen_pmem_format::table::Table;

/// An entry that gptman cannot decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} of the partition table cannot be decoded: {reason}")]
pub struct Undecodable {
    /// The number of the entry: the first one has the number 1.
    pub number: u32,
    /// Why it cannot be decoded.
    pub reason: String,
}

/// The entries in use of a partition table, each with its number. Two are the same if number, range, type, GUID, attributes and name
/// are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions(Vec<(u32, GPTPartitionEntry)>);

impl Partitions {
    /// Returns the entries in use among `entries`.
    pub fn of(entries: &[GPTPartitionEntry]) -> Self {
        let numbered = (1..).zip(entries).filter(|(_, entry)| entry.is_used());
        Self(numbered.map(|(number, entry)| (number, entry.clone())).collect())
    }

    /// Returns the entries in use of a table.
    ///
    /// # Errors
    ///
    /// If one cannot be decoded.
    pub fn of_table(table: &Table) -> Result<Self, Undecodable> {
        Ok(Self::of(&entries_of(table)?))
    }
}

/// gptman reads an entry into a buffer of its own, larger structure: what must follow it.
const ENTRY_SLACK: usize = 256;

/// Returns the entries of a table as gptman has them.
///
/// # Errors
///
/// If one cannot be decoded.
pub fn entries_of(table: &Table) -> Result<Vec<GPTPartitionEntry>, Undecodable> {
    let unused = GPTPartitionEntry::empty();
    let entries = (1..).zip(table.entries());
    entries
        .map(|(number, bytes)| {
            // Most entries are all zeros, and to decode these would take longer than everything else.
            if bytes.iter().all(|byte| *byte == 0) {
                return Ok(unused.clone());
            }
            let mut padded = bytes.chain(&[0; ENTRY_SLACK][..]);
            GPTPartitionEntry::read_from(&mut padded).map_err(|error| Undecodable {
                number,
                reason: error.to_string(),
            })
        })
        .collect()
}
