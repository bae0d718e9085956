//! Whole disks and what an inspection says of them.

mod claims;
mod damages;
mod disk;
mod hostile;
mod search;

use super::*;
use disk::{DATA, DISK, Disk, MIB, superblock};
use gptman::GPT;
use proptest::prelude::*;
use std::io::Cursor;

#[test]
fn a_prepared_disk_has_no_findings() {
    let disk = Disk::prepared();
    let inspection = disk.inspect();
    assert_eq!(inspection.findings, []);
    assert_eq!(inspection.state, State::Prepared);
    let (found, table) = inspection.reservation().unwrap();
    assert_eq!(*found, superblock());
    let partitions: Vec<_> = table
        .partitions()
        .iter()
        .map(|p| (p.number, p.range.base().0, p.range.end().0))
        .collect();
    assert_eq!(partitions, [(1, DATA, 32 * MIB), (2, 32 * MIB, 60 * MIB)]);
    assert!(
        *disk.read.borrow() < 64 << 10,
        "a prepared disk is judged from a few pages"
    );
}

#[test]
fn a_disk_of_4096_byte_blocks_is_found_without_being_told() {
    let mut disk = Disk::partitioned(4096, DATA, &[(DATA, 32 * MIB)]);
    for which in Which::BOTH {
        disk.put_copy(which, &superblock());
    }
    let inspection = disk.inspect();
    assert_eq!(
        (inspection.state, inspection.lba_size),
        (State::Prepared, LbaSize::B4096),
        "{}",
        inspection.reasons()
    );
    let told_wrong = inspect(&disk, Some(LbaSize::B512)).unwrap();
    assert_eq!(told_wrong.state, State::Unprepared);
}

#[test]
fn tiny_devices_hold_nothing() {
    for size in [0, 1, 511, 512, 513, 1024, 4096, 17408] {
        assert_eq!(
            inspect(&vec![0u8; size], None).unwrap().state,
            State::Unprepared,
            "{size}"
        );
        assert_eq!(
            inspect(&vec![0xffu8; size], None).unwrap().state,
            State::Unprepared,
            "{size}"
        );
    }
}

#[test]
fn tables_agree_only_if_all_is_the_same() {
    let table = |disk: &Disk| disk.inspect().primary_table.unwrap();
    let partitions = [(DATA, 32 * MIB), (32 * MIB, 60 * MIB)];
    let one = table(&Disk::partitioned(512, DATA, &partitions));
    assert!(one.agrees_with(&table(&Disk::partitioned(512, DATA, &partitions))));
    assert!(!one.agrees_with(&table(&Disk::partitioned(512, DATA - MIB, &partitions))));
    assert!(!one.agrees_with(&table(&Disk::partitioned(512, DATA, &partitions[..1]))));
    let mut other = Disk::blank();
    let mut cursor = Cursor::new(&mut other.bytes);
    let mut gpt = GPT::new_from(&mut cursor, 512, [7; 16]).unwrap();
    gpt.header.first_usable_lba = DATA / 512;
    for number in 1..=2 {
        gpt[number] = disk::entries(&one)[usize::try_from(number).unwrap() - 1].clone();
    }
    gpt.write_into(&mut cursor).unwrap();
    assert!(!one.agrees_with(&table(&other)), "another disk GUID alone");
    assert_eq!(one.entries().len(), 128);
}

#[test]
fn states_have_their_words() {
    let words = [State::Prepared, State::Degraded, State::Damaged, State::Unprepared].map(State::as_str);
    assert_eq!(words, ["prepared", "degraded", "damaged", "unprepared"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changing_any_byte_never_makes_another_reservation(offset in 0..DISK as usize, bit in 0..8u32, near: bool) {
        let mut disk = Disk::prepared();
        // Half of the changes where they matter.
        let offset = if near { offset % (34 * 512 + 2 * 4096) } else { offset };
        let offset = match offset.checked_sub(34 * 512) {
            Some(rest) if near => (if rest < 4096 { 512 << 10 } else { 1536 << 10 }) + rest % 4096,
            _ => offset,
        };
        disk.bytes[offset] ^= 1 << bit;
        let inspection = disk.inspect();
        if let Some((found, table)) = inspection.reservation() {
            prop_assert_eq!(*found, superblock());
            prop_assert_eq!(table.partitions().len(), 2);
        }
    }
}
