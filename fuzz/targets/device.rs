//! A whole device: partition tables and super blocks made of the input, their checksums made right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xen_pmem_format::inspect::{State, inspect};
use xen_pmem_format::superblock::Which;

const SIZE: usize = 4 << 20;
const BLOCK: usize = 512;

fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}

/// Puts input over `at`, as much as there is.
fn put<'i>(device: &mut [u8], at: usize, most: usize, input: &'i [u8]) -> &'i [u8] {
    let (now, rest) = input.split_at(input.len().min(most));
    device[at..at + now.len()].copy_from_slice(now);
    rest
}

/// Makes a header at `at` belong to where it is, and its checksums right.
fn seal_table(device: &mut [u8], at: usize) {
    device[at..at + 8].copy_from_slice(b"EFI PART");
    device[at + 8..at + 16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
    device[at + 24..at + 32].copy_from_slice(&u64::try_from(at / BLOCK).unwrap().to_le_bytes());
    let word =
        |device: &[u8], offset: usize| u32::from_le_bytes(device[at + offset..at + offset + 4].try_into().unwrap());
    let entries = u64::from_le_bytes(device[at + 72..at + 80].try_into().unwrap());
    let length = u64::from(word(device, 80)) * 128;
    let start = entries.saturating_mul(512);
    if start.saturating_add(length) <= SIZE as u64 {
        let checksum = crc32(&device[start as usize..(start + length) as usize]);
        device[at + 88..at + 92].copy_from_slice(&checksum.to_le_bytes());
    }
    device[at + 16..at + 20].fill(0);
    let checksum = crc32(&device[at..at + 92]);
    device[at + 16..at + 20].copy_from_slice(&checksum.to_le_bytes());
}

fuzz_target!(|input: (u8, &[u8])| {
    let (how, rest) = input;
    let mut device = vec![0; SIZE];
    // Room for a header, some entries, and two super blocks.
    let rest = put(&mut device, 1024, 4 * 128, rest);
    let rest = put(&mut device, 512, 92, rest);
    if how & 1 != 0 {
        // A table as tools make it, so that the input decides on partitions and super blocks only.
        device[512 + 72..512 + 88].copy_from_slice(&[2, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0]);
        device[512 + 32..512 + 40].copy_from_slice(&(SIZE as u64 / 512 - 1).to_le_bytes());
        device[512 + 40..512 + 48].copy_from_slice(&34u64.to_le_bytes());
        device[512 + 48..512 + 56].copy_from_slice(&(SIZE as u64 / 512 - 34).to_le_bytes());
    }
    if how & 2 != 0 {
        seal_table(&mut device, 512);
    }
    if how & 8 != 0 {
        // A protective MBR; without it the rules for something else on the disk are reached.
        device[446 + 4] = 0xee;
        device[446 + 8] = 1;
        device[510..512].copy_from_slice(&[0x55, 0xaa]);
    } else {
        let (block_0, _) = rest.split_at(rest.len().min(66));
        device[446..446 + block_0.len()].copy_from_slice(block_0);
    }
    if how & 16 != 0 {
        // The table is at the end only: header in the last block, entries before it, and the start is the input's.
        let last = SIZE - BLOCK;
        let header = device[512..512 + 92].to_vec();
        let entries = device[1024..1024 + 4 * 128].to_vec();
        device[last..last + 92].copy_from_slice(&header);
        let at = last - 32 * BLOCK;
        device[at..at + entries.len()].copy_from_slice(&entries);
        device[last + 72..last + 80].copy_from_slice(&(at as u64 / 512).to_le_bytes());
        seal_table(&mut device, last);
        device[512..520].fill(0);
    }
    let mut rest = rest;
    for which in Which::BOTH {
        let at = which.offset().0 as usize;
        rest = put(&mut device, at, 208, rest);
        if how & 4 != 0 {
            let guid: [u8; 16] = device[512 + 56..512 + 72].try_into().unwrap();
            device[at..at + 8].copy_from_slice(&which.signature());
            device[at + 8..at + 16].copy_from_slice(&[1, 0, 0, 0, 208, 0, 0, 0]);
            device[at + 20..at + 24].copy_from_slice(&u32::from(which == Which::Backup).to_le_bytes());
            device[at + 40..at + 48].fill(0);
            device[at + 56..at + 64].copy_from_slice(&which.offset().0.to_le_bytes());
            device[at + 80..at + 96].copy_from_slice(&guid);
            device[at + 96..at + 104].copy_from_slice(&(SIZE as u64).to_le_bytes());
            device[at + 16..at + 20].fill(0);
            let checksum = crc32c::crc32c(&device[at..at + 4096]);
            device[at + 16..at + 20].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    put(&mut device, 128 << 10, 4096, rest);
    let inspection = inspect(&device, None).unwrap();
    if let Some((superblock, table)) = inspection.reservation() {
        assert!(matches!(inspection.state, State::Prepared | State::Degraded));
        assert_eq!(superblock.disk_guid, table.disk_guid());
        assert!(table.gap().contains(superblock.reserved));
        assert!(
            table
                .partitions()
                .iter()
                .all(|partition| !partition.range.overlaps(superblock.reserved))
        );
    }
    assert_eq!(inspection.state == State::Prepared, inspection.findings.is_empty());
});
