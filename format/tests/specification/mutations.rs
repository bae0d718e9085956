//! Tens of thousands of devices, made and damaged at random from a seed: this crate and the reader in C must come to the same state
//! and to the same reserved area.
//!
//! `XEN_PMEM_SEED` repeats a run with another seed, `XEN_PMEM_DEVICES` sets how many there are.

use crate::c_reader::judge_in_c;
use crate::device::{
    DATA, DATA_END, Device, Gpt, MIB, SIZE, put_protective_mbr, put_record, seal_copy, seal_header, superblock, table,
    with_tables,
};
use crate::devices::words;
use std::collections::BTreeMap;
use xen_pmem_format::inspect::inspect;
use xen_pmem_format::superblock::{COPY_SIZE, SuperBlock, Which};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, LbaSize};

const DEVICES: usize = 24_000;
const SEED: u64 = 0x5eed_0001;

/// A small, seeded source of random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 8) % end.max(1)
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Returns a number where something may turn over, or any.
    fn number(&mut self, near: u64) -> u64 {
        let step = self.below(40);
        match self.below(6) {
            0 => near.wrapping_add(step),
            1 => near.wrapping_sub(step),
            2 => step,
            3 => u64::MAX - step,
            4 => self.below(SIZE / 512),
            _ => self.next(),
        }
    }
}

/// Returns a device before it is damaged: tables as tools make them, copies as writers put them.
fn sound(random: &mut Random) -> (Device, u64) {
    let block = random.of(&[512, 512, 512, 4096]);
    let mut primary = table(block);
    if random.one_in(3) {
        primary.count = random.of(&[4, 64, 100, 256, 1024]);
        primary.last = primary.alternate - 1 - primary.entry_blocks();
    }
    match random.below(6) {
        0 => primary.partitions.clear(),
        1 => primary.partitions.truncate(1),
        2 => primary.first = 2 + primary.entry_blocks(),
        _ => {}
    }
    if random.one_in(8) {
        primary.entries_at = random.below(DATA / block);
    }
    if random.one_in(8) {
        primary.header_size = random.of(&[91, 92, 100, 128, block as u32]);
    }
    let mut backup = primary.backup();
    if random.one_in(10) {
        backup = Gpt {
            alternate: random.below(10),
            ..backup
        };
    }
    if random.one_in(10) {
        primary.alternate = random.number(primary.alternate);
    }
    let mut device = with_tables(&primary, &backup);
    if random.one_in(4) {
        move_copies(random, &mut device);
    }
    device.told = match random.below(8) {
        0 => Some(LbaSize::B512),
        1 => Some(LbaSize::B4096),
        2 => LbaSize::from_bytes(block),
        _ => None,
    };
    (device, block)
}

/// Copies away from their fixed places, some of them newer or different.
fn move_copies(random: &mut Random, device: &mut Device) {
    for which in Which::BOTH {
        if !random.one_in(5) {
            device.wipe(which.offset().0, COPY_SIZE);
        }
    }
    for _ in 0..random.below(4) {
        let place = random.below(DATA / 4096) * 4096;
        let place = if random.one_in(2) { place % (2 * MIB) } else { place };
        let which = random.of(&Which::BOTH);
        let content = any_content(random);
        device.copy_at(which, place, &content);
    }
}

fn any_content(random: &mut Random) -> SuperBlock {
    let mut content = superblock(SIZE);
    if random.one_in(3) {
        content.sequence += random.below(3);
    }
    if random.one_in(4) {
        content.updated.0 += 1;
    }
    if random.one_in(8) {
        content.disk_guid = uuid::Uuid::from_u128(9);
    }
    if random.one_in(8) {
        content.device_size = Bytes(SIZE + random.below(2) * 4096);
    }
    if random.one_in(4) {
        let base = DeviceOffset(0x181000 + random.below(1024) * 4096);
        let size = Bytes((1 + random.below(3)) * 2 * MIB);
        if let Some(reserved) = DeviceRange::new(base, size) {
            content.reserved = reserved;
        }
    }
    content
}

/// Returns where something of a layout stands, so that changes hit it.
fn place(random: &mut Random, device: &Device, block: u64) -> u64 {
    let last = (device.size / block).saturating_sub(1) * block;
    let (start, length) = random.of(&[
        (0, 512),
        (440, 72),
        (block, 92),
        (block, block),
        (2 * block, 256),
        (2 * block, 0x20000),
        (0, 2 * MIB),
        (0x80000, 208),
        (0x80000, 4096),
        (0x180000, 208),
        (0x180000, 4096),
        (last, 92),
        (last.saturating_sub(32 * 512), 256),
    ]);
    start + random.below(length)
}

/// Changes a field of a header and makes its checksums right, those of the entries that it names, too.
fn change_header(random: &mut Random, device: &mut Device, block: u64) {
    let at = if random.one_in(2) {
        block
    } else {
        (device.size / block).saturating_sub(1) * block
    };
    if at + block > device.size {
        return;
    }
    let (offset, size) = random.of(&[
        (8, 4),
        (12, 4),
        (24, 8),
        (32, 8),
        (40, 8),
        (48, 8),
        (56, 8),
        (72, 8),
        (80, 4),
        (84, 4),
    ]);
    let word = |device: &Device, offset: u64| u64::from_le_bytes(device.get(at + offset, 8).try_into().unwrap());
    let now = word(device, offset) & (u64::MAX >> (64 - 8 * size));
    device.put(at + offset, &random.number(now).to_le_bytes()[..size]);
    let (entries, length) = (word(device, 72), (word(device, 80) & 0xffff_ffff) * 128);
    if let Some(entries) = entries.checked_mul(block)
        && length <= 0x20000
        && entries.checked_add(length).is_some_and(|end| end <= device.size)
    {
        let checksum = crc32fast::hash(&device.get(entries, length as usize));
        device.put(at + 88, &checksum.to_le_bytes());
    }
    seal_header(device, at);
}

/// Changes a partition of both tables or of one.
fn change_partitions(random: &mut Random, device: &mut Device, block: u64) {
    let mut primary = table(block);
    let number = random.below(2) as usize;
    let (first, last) = primary.partitions[number];
    primary.partitions[number] = if random.one_in(2) {
        (random.number(first), last)
    } else {
        (first, random.number(last))
    };
    if random.one_in(3) {
        primary.first = random.number(primary.first);
    }
    if random.one_in(4) {
        primary.partitions.push((random.below(DATA / block), DATA_END / block));
    }
    let changes = random.below(3);
    if changes != 0 {
        primary.put(device);
    }
    if changes != 1 {
        primary.backup().put(device);
    }
}

/// Changes a field of a copy and makes its checksum right.
fn change_copy(random: &mut Random, device: &mut Device) {
    let at = random.of(&Which::BOTH).offset().0;
    if at + COPY_SIZE as u64 > device.size {
        return;
    }
    let offset = 8 + random.below(26) * 8;
    let now = u64::from_le_bytes(device.get(at + offset, 8).try_into().unwrap());
    let value = random.number(now).to_le_bytes();
    let size = random.of(&[1, 4, 8]);
    device.put(at + offset, &value[..size]);
    seal_copy(device, at);
}

/// Writes what other tools leave.
fn put_something_else(random: &mut Random, device: &mut Device) {
    let (offset, bytes): (u64, &[u8]) = random.of(&[
        (4086, b"SWAPSPACE2" as &[u8]),
        (1080, &[0x53, 0xef]),
        (4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
        (1024, b"XAGI"),
        (0, b"LUKS\xba\xbe"),
        (32769, b"CD001"),
        (65600, b"_BHRfS_M"),
        (4096, b"NVDIMM_PFN_INFO\0"),
        (0, b"\xeb\x58\x90mkfs.fat"),
        (4096, b"EFI PART"),
        (512, b"EFI PART"),
    ]);
    match random.below(4) {
        0 => device.wipe(0, 512),
        1 => device.wipe(0, 1024),
        2 => device.wipe(0, 8192),
        _ => {}
    }
    device.put(offset, bytes);
}

fn damage(random: &mut Random, device: &mut Device, block: u64) {
    match random.below(14) {
        0 => {
            let at = place(random, device, block);
            if at < device.size {
                device.flip(at);
            }
        }
        1 => {
            let at = place(random, device, block);
            device.put(at, &[random.next() as u8]);
        }
        2 => {
            let at = place(random, device, block) / 8 * 8;
            device.wipe(at, random.of(&[8, 512, 4096]));
        }
        3 | 4 => change_header(random, device, block),
        5 => change_partitions(random, device, block),
        6 | 7 => change_copy(random, device),
        8 => move_copies(random, device),
        9 => {
            let change = random.of(&[1, 100, 512, 4096, 4608, 16384, MIB]);
            let size = if random.one_in(2) {
                device.size + change
            } else {
                device.size.saturating_sub(change)
            };
            device.resize(size);
        }
        10 => {
            let kind = random.of(&[0, 0xee, 0x83, 0x0c]);
            let first = random.of(&[0, 1, 2, 1023, 1024, 4095, (DATA / block) as u32]);
            put_record(
                device,
                random.below(4),
                kind,
                first,
                random.of(&[0, 1, 8, 2048, u32::MAX]),
            );
        }
        11 => put_something_else(random, device),
        12 => {
            // The two copies, or the two tables, change places.
            let last = (device.size / block).saturating_sub(1) * block;
            let (one, other, size) = random.of(&[(0x80000, 0x180000, COPY_SIZE), (block, last, 92)]);
            if other + size as u64 <= device.size && one + size as u64 <= device.size {
                let (first, second) = (device.get(one, size), device.get(other, size));
                device.put(one, &second);
                device.put(other, &first);
            }
        }
        _ => {
            let which = random.of(&Which::BOTH);
            let content = any_content(random);
            device.copy(which, &content);
            if random.one_in(2) {
                put_protective_mbr(device);
            }
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn both_readers_agree_on_devices_damaged_at_random() {
    let mut random = Random(setting("XEN_PMEM_SEED", SEED));
    let mut states = BTreeMap::new();
    for batch in 0..setting("XEN_PMEM_DEVICES", DEVICES as u64) / 1000 {
        let devices: Vec<Device> = (0..1000)
            .map(|_| {
                let (mut device, block) = sound(&mut random);
                for _ in 0..random.below(4) {
                    damage(&mut random, &mut device, block);
                }
                device
            })
            .collect();
        for (device, in_c) in devices.iter().zip(judge_in_c(&devices)) {
            let inspection = inspect(device, device.told).unwrap();
            assert_eq!(
                words(&inspection),
                in_c,
                "batch {batch}: {}\n# size {}\n# block {:?}\n{}",
                inspection.reasons(),
                device.size,
                device.told,
                device.to_rows()
            );
            assert_eq!(
                inspection.state.as_str() == "prepared",
                inspection.findings.is_empty(),
                "whatever is not prepared has a reason: {}",
                inspection.reasons()
            );
            *states.entry(inspection.state.as_str()).or_insert(0) += 1;
        }
    }
    println!("{states:?}");
    let total: usize = states.values().sum();
    assert!(
        states.len() == 4 && states.values().all(|count| *count > total / 50),
        "each state is come to: {states:?}"
    );
}
