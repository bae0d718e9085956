//! Block 0: the protective MBR, without which Linux ignores a GPT, or what stands in its place.
//!
//! Sources: UEFI Specification 2.10, chapter 5.2; Linux `block/partitions/efi.c` (`is_pmbr_valid`) and `block/partitions/msdos.c`.

use crate::units::{DeviceOffset, DeviceRange, Lba, LbaSize};

/// The bytes of an MBR, whatever the block size.
pub const SIZE: usize = 512;
/// The type of the protective partition.
const PROTECTIVE: u8 = 0xee;
/// The type of an unused partition record.
const UNUSED: u8 = 0;
/// Where the four partition records begin. Before them stands a boot loader's code, or a file system's boot sector.
const RECORDS: usize = 446;
const RECORD_SIZE: usize = 16;
/// The offset of the boot signature, and its bytes.
const SIGNATURE_AT: usize = 510;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// What block 0 holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockZero {
    /// A protective MBR: Linux looks for a GPT.
    Protective {
        /// The bytes that other partition records claim. An MBR that has some is called hybrid; Linux ignores them.
        others: Vec<DeviceRange>,
    },
    /// Nothing, or the remains of a protective MBR: Linux finds no partitions.
    Lost,
    /// Something else: its partitions or its file system are what Linux finds.
    Foreign(Foreign),
}

/// What stands in the place of a protective MBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// A partition table in the MBR itself.
    Partitions,
    /// Other bytes, the first of them at this offset.
    Bytes(DeviceOffset),
}

/// One of the four partition records of an MBR.
struct Record {
    kind: u8,
    first: u32,
    blocks: u32,
}

impl Record {
    fn of(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        Some(Self {
            kind: *bytes.get(4)?,
            first: word(8)?,
            blocks: word(12)?,
        })
    }

    fn range(&self, lba_size: LbaSize) -> Option<DeviceRange> {
        let size = lba_size.bytes().checked_mul(self.blocks.into())?;
        DeviceRange::new(lba_size.offset_of(Lba(self.first.into()))?, size)
    }
}

impl BlockZero {
    /// Judges the bytes of block 0, which has `lba_size` of them.
    pub fn of(block: &[u8], lba_size: LbaSize) -> Self {
        let (mbr, rest) = block.split_at_checked(SIZE).unwrap_or((block, &[]));
        // Linux reads 512 bytes; what stands behind them in a larger block is somebody's all the same.
        if let Some(at) = first_set(rest) {
            return Self::Foreign(Foreign::Bytes(DeviceOffset(
                u64::try_from(SIZE.saturating_add(at)).unwrap_or(u64::MAX),
            )));
        }
        let records: Vec<Record> = mbr
            .get(RECORDS..SIGNATURE_AT)
            .unwrap_or(&[])
            .chunks_exact(RECORD_SIZE)
            .filter_map(Record::of)
            .collect();
        let signed = mbr.get(SIGNATURE_AT..) == Some(&SIGNATURE);
        let others = || {
            records
                .iter()
                .filter(|record| ![PROTECTIVE, UNUSED].contains(&record.kind))
        };
        if signed
            && records
                .iter()
                .any(|record| record.kind == PROTECTIVE && record.first == 1)
        {
            return Self::Protective {
                others: others().filter_map(|record| record.range(lba_size)).collect(),
            };
        }
        if others().next().is_some() {
            return Self::Foreign(Foreign::Partitions);
        }
        match first_set(mbr.get(..RECORDS).unwrap_or(mbr)) {
            // With a protective partition it is a boot loader of an MBR that lost its boot signature or that partition's first block.
            Some(at) if !records.iter().any(|record| record.kind == PROTECTIVE) => {
                Self::Foreign(Foreign::Bytes(DeviceOffset(u64::try_from(at).unwrap_or(0))))
            }
            _ => Self::Lost,
        }
    }
}

/// Returns where the first byte other than zero stands.
pub(crate) fn first_set(bytes: &[u8]) -> Option<usize> {
    // Most bytes are zero, and a comparison of slices is the fastest way to see that.
    const ZEROS: [u8; 4096] = [0; 4096];
    let is_zero = |bytes: &[u8]| ZEROS.get(..bytes.len()).is_some_and(|zeros| zeros == bytes);
    let before = bytes.chunks(ZEROS.len()).take_while(|bytes| is_zero(bytes)).count();
    let at = before.saturating_mul(ZEROS.len());
    let within = bytes.get(at..)?.iter().position(|byte| *byte != 0)?;
    at.checked_add(within)
}

/// Returns the bytes of a record that a partition table in an MBR has, for tests.
#[cfg(test)]
pub(crate) fn record(kind: u8, first: u32, blocks: u32) -> [u8; RECORD_SIZE] {
    let mut record = [0; RECORD_SIZE];
    record[4] = kind;
    record[8..12].copy_from_slice(&first.to_le_bytes());
    record[12..].copy_from_slice(&blocks.to_le_bytes());
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use proptest::prelude::*;

    fn mbr(boot: &[u8], records: &[[u8; RECORD_SIZE]], signature: [u8; 2]) -> Vec<u8> {
        let mut block = vec![0; SIZE];
        block[..boot.len()].copy_from_slice(boot);
        for (place, record) in block[RECORDS..].chunks_exact_mut(RECORD_SIZE).zip(records) {
            place.copy_from_slice(record);
        }
        block[SIGNATURE_AT..].copy_from_slice(&signature);
        block
    }

    fn protective() -> [u8; RECORD_SIZE] {
        record(PROTECTIVE, 1, u32::MAX)
    }

    #[test]
    fn each_block_0_is_what_linux_takes_it_for() {
        let of = |boot: &[u8], records: &[_], signature| BlockZero::of(&mbr(boot, records, signature), LbaSize::B512);
        let plain = BlockZero::Protective { others: Vec::new() };
        let linux = record(0x83, 2048, 8);
        assert_eq!(of(&[], &[protective()], SIGNATURE), plain);
        assert_eq!(of(b"\xeb\x63\x90", &[[0; 16], protective()], SIGNATURE), plain);
        let range = DeviceRange::new(DeviceOffset(1 << 20), Bytes(4096)).unwrap();
        let hybrid = BlockZero::Protective { others: vec![range] };
        assert_eq!(of(&[], &[linux, protective()], SIGNATURE), hybrid);
        let lost = BlockZero::Lost;
        assert_eq!(of(&[], &[], [0, 0]), lost, "zeros");
        assert_eq!(of(&[], &[], SIGNATURE), lost, "nothing but a boot signature");
        assert_eq!(of(&[], &[protective()], [0, 0]), lost, "no boot signature");
        assert_eq!(of(b"\xeb\x63\x90", &[protective()], [0, 0]), lost, "a boot loader, too");
        assert_eq!(
            of(&[], &[record(PROTECTIVE, 2, 9)], SIGNATURE),
            lost,
            "another first block"
        );
        let partitions = BlockZero::Foreign(Foreign::Partitions);
        assert_eq!(of(&[], &[linux], SIGNATURE), partitions);
        assert_eq!(of(b"\xeb\x63\x90", &[linux], SIGNATURE), partitions);
        assert_eq!(of(&[], &[record(PROTECTIVE, 2, 9), linux], SIGNATURE), partitions);
        let bytes = |at| BlockZero::Foreign(Foreign::Bytes(DeviceOffset(at)));
        assert_eq!(of(b"XFSB", &[], [0, 0]), bytes(0));
        assert_eq!(of(b"\0\0\0MSDOS", &[], SIGNATURE), bytes(3), "a boot sector");
        let mut large = mbr(&[], &[protective()], SIGNATURE);
        large.resize(4096, 0);
        assert_eq!(BlockZero::of(&large, LbaSize::B4096), plain);
        large[4086..].copy_from_slice(b"SWAPSPACE2");
        assert_eq!(BlockZero::of(&large, LbaSize::B4096), bytes(4086));
    }

    proptest! {
        /// Persistent memory tears at eight bytes: no part of a protective MBR that is written over zeros is taken for something
        /// else.
        #[test]
        fn a_torn_protective_mbr_is_none_or_whole(written: [bool; 64]) {
            let whole = mbr(&[], &[protective()], SIGNATURE);
            let mut torn = vec![0; SIZE];
            for ((to, from), written) in torn.chunks_mut(8).zip(whole.chunks(8)).zip(written) {
                if written {
                    to.copy_from_slice(from);
                }
            }
            prop_assert!(!matches!(BlockZero::of(&torn, LbaSize::B512), BlockZero::Foreign(_)));
        }
    }
}
