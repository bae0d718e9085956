//! The entries of a partition table, decoded by gptman.

use gptman::GPTPartitionEntry;
use std::io::Read as _;
use xen_pmem_format::table::{EntryBytes, Table};

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
        let mut used = Vec::new();
        for (number, bytes) in (1..).zip(table.entries()) {
            match decoded(number, bytes)? {
                Some(entry) if entry.is_used() => used.push((number, entry)),
                _ => {}
            }
        }
        Ok(Self(used))
    }
}

/// The bytes that must follow an entry: gptman reads it into a larger buffer.
const ENTRY_SLACK: usize = 256;

/// An entry that is all zeros.
const UNUSED: EntryBytes = [0; size_of::<EntryBytes>()];

/// Returns the entries of a table as gptman has them.
///
/// # Errors
///
/// If one cannot be decoded.
pub fn entries_of(table: &Table) -> Result<Vec<GPTPartitionEntry>, Undecodable> {
    let unused = GPTPartitionEntry::empty();
    let entries = (1..).zip(table.entries());
    entries
        .map(|(number, bytes)| Ok(decoded(number, bytes)?.unwrap_or_else(|| unused.clone())))
        .collect()
}

/// Decodes the entry with this number; `None` if it is all zeros. Most are, and decoding them would take longer than everything else.
fn decoded(number: u32, bytes: &EntryBytes) -> Result<Option<GPTPartitionEntry>, Undecodable> {
    if *bytes == UNUSED {
        return Ok(None);
    }
    let mut padded = bytes.chain(&[0; ENTRY_SLACK][..]);
    let entry = GPTPartitionEntry::read_from(&mut padded).map_err(|error| Undecodable {
        number,
        reason: error.to_string(),
    })?;
    Ok(Some(entry))
}
