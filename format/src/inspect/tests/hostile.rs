//! Tables whose checksums are right and whose fields are not.

use super::disk::{DISK, Disk, header};
use crate::inspect::State;
use crate::table;

#[test]
fn what_a_hostile_table_asks_for_is_bounded() {
    use table::NotATable;
    type Change = fn(&mut gptman::GPTHeader);
    type Verdict = fn(&NotATable) -> bool;
    let entries: Verdict = |why| matches!(why, NotATable::Entries { .. });
    let geometry: Verdict = |why| matches!(why, NotATable::Geometry { .. });
    let misplaced: Verdict = |why| matches!(why, NotATable::Misplaced { .. });
    let changes: &[(Change, Verdict)] = &[
        (|h| h.number_of_partition_entries = u32::MAX, entries),
        (|h| h.number_of_partition_entries = 0, entries),
        (|h| h.number_of_partition_entries = 1025, entries),
        // As many as are supported, but they do not fit before the first usable block.
        (
            |h| {
                h.number_of_partition_entries = 1024;
                h.first_usable_lba = 34;
            },
            geometry,
        ),
        (|h| h.size_of_partition_entry = u32::MAX, entries),
        (|h| h.size_of_partition_entry = 256, entries),
        (|h| h.partition_entry_lba = u64::MAX, geometry),
        (|h| h.partition_entry_lba = 0, geometry),
        (|h| h.partition_entry_lba = 1, geometry),
        // The entries would lie where partitions may.
        (|h| h.partition_entry_lba = h.first_usable_lba - 31, geometry),
        (|h| h.first_usable_lba = u64::MAX, geometry),
        (|h| h.last_usable_lba = u64::MAX, geometry),
        (|h| h.last_usable_lba = DISK / 512, geometry),
        (|h| h.first_usable_lba = 0, geometry),
        (|h| h.first_usable_lba = 33, geometry),
        (|h| h.primary_lba = 7, misplaced),
        (|h| h.last_usable_lba = 0, geometry),
    ];
    for (change, verdict) in changes {
        let mut disk = Disk::prepared();
        let mut header = header(disk.inspect().table().unwrap());
        change(&mut header);
        header.update_crc32_checksum();
        let mut fields = header.signature.to_vec();
        fields.extend(header.revision);
        fields.extend(header.header_size.to_le_bytes());
        fields.extend(header.crc32_checksum.to_le_bytes());
        fields.extend(header.reserved);
        for lba in [
            header.primary_lba,
            header.backup_lba,
            header.first_usable_lba,
            header.last_usable_lba,
        ] {
            fields.extend(lba.to_le_bytes());
        }
        fields.extend(header.disk_guid);
        fields.extend(header.partition_entry_lba.to_le_bytes());
        fields.extend(header.number_of_partition_entries.to_le_bytes());
        fields.extend(header.size_of_partition_entry.to_le_bytes());
        fields.extend(header.partition_entry_array_crc32.to_le_bytes());
        disk.put(512, &fields);
        let inspection = disk.inspect();
        let why = inspection.primary_table.as_ref().unwrap_err();
        assert!(verdict(why), "{header:?}: {why}");
        assert_eq!(
            inspection.state,
            State::Degraded,
            "the backup is in use: {}",
            inspection.reasons()
        );
    }
}
