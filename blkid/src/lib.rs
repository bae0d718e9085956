#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod raw;

use std::fs::File;
use std::io;

/// What kind of thing a signature belongs to (libblkid's USAGE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file system.
    FileSystem,
    /// A member of a RAID or a volume group.
    Raid,
    /// An encrypted container.
    Crypto,
    /// A swap area, a cache, a journal.
    Other,
    /// A partition table.
    PartitionTable,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What kind of thing it belongs to.
    pub kind: Kind,
    /// libblkid's name of it: `ext4`, `linux_raid_member`, `gpt`.
    pub name: String,
    /// Where its magic bytes stand, in bytes from the start of the file.
    pub offset: u64,
}

/// Lists every signature that libblkid finds in `size` bytes of `file` from the byte `start` on, as if a device began and ended there.
/// Signatures whose checksum is wrong are listed, too.
///
/// # Errors
///
/// If libblkid fails, which it does when those bytes cannot be read.
pub fn signatures(file: &File, start: u64, size: u64) -> io::Result<Vec<Signature>> {
    // libblkid takes an empty range for all that there is.
    if size == 0 {
        return Ok(Vec::new());
    }
    let mut probe = raw::Probe::new(file, start, size)?;
    let mut found = Vec::new();
    while probe.next()? {
        let (name, magic, kind) = match probe.value(c"TYPE") {
            Some(name) => (
                name,
                probe.value(c"SBMAGIC_OFFSET"),
                kind(probe.value(c"USAGE").as_deref()),
            ),
            None => match probe.value(c"PTTYPE") {
                Some(name) => (name, probe.value(c"PTMAGIC_OFFSET"), Kind::PartitionTable),
                None => continue,
            },
        };
        // Some signatures are the shape of a whole block: they have no magic bytes.
        let magic = magic.and_then(|magic| magic.parse().ok()).unwrap_or(0);
        found.push(Signature {
            kind,
            name,
            offset: start.saturating_add(magic),
        });
    }
    Ok(found)
}

fn kind(usage: Option<&str>) -> Kind {
    match usage {
        Some("filesystem") => Kind::FileSystem,
        Some("raid") => Kind::Raid,
        Some("crypto") => Kind::Crypto,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    const SIZE: u64 = 64 << 20;

    fn blank() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        file
    }

    fn swap(file: &File, start: u64) {
        // Version 1, 100 pages (Linux include/linux/swap.h, union swap_header).
        file.write_all_at(&1u32.to_le_bytes(), start + 1024).unwrap();
        file.write_all_at(&100u32.to_le_bytes(), start + 1028).unwrap();
        file.write_all_at(b"SWAPSPACE2", start + 4086).unwrap();
    }

    #[test]
    fn zeros_have_no_signature() {
        assert_eq!(signatures(&blank(), 0, SIZE).unwrap(), []);
        assert_eq!(signatures(&blank(), 0, 0).unwrap(), []);
        assert_eq!(signatures(&blank(), 4096, 1).unwrap(), []);
    }

    #[test]
    fn all_signatures_are_listed_with_their_places() {
        let file = blank();
        let start = 2 << 20;
        swap(&file, start);
        file.write_all_at(b"LUKS\xba\xbe\0\x01", start).unwrap();
        let found = signatures(&file, start, SIZE - start).unwrap();
        let expected = [
            (Kind::Crypto, "crypto_LUKS", start),
            (Kind::Other, "swap", start + 4086),
        ];
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.kind, one.name.as_str(), one.offset))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(
            signatures(&file, 0, SIZE).unwrap(),
            [],
            "from the start there is nothing"
        );
    }

    #[test]
    fn partition_tables_are_listed() {
        let file = blank();
        let mut mbr = [0; 512];
        mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0x83, 0xff, 0xff, 0xff, 0, 8, 0, 0, 0, 8, 0, 0]);
        mbr[510..].copy_from_slice(&[0x55, 0xaa]);
        file.write_all_at(&mbr, 0).unwrap();
        let found = signatures(&file, 0, SIZE).unwrap();
        assert_eq!(
            found,
            [Signature {
                kind: Kind::PartitionTable,
                name: "dos".to_owned(),
                offset: 510
            }]
        );
    }
}
