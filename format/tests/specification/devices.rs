//! Whole devices as test vectors: each shows rules of the specification, and the state that a reader must come to.
//!
//! `XEN_PMEM_WRITE_VECTORS=1 cargo test -p xen-pmem-format --test specification` writes them anew.

use crate::c_reader::judge_in_c;
use crate::device::{
    DATA, DATA_END, Device, Gpt, MIB, SIZE, prepared, put_protective_mbr, put_record, seal_copy, superblock, table,
    with_tables,
};
use std::collections::BTreeSet;
use xen_pmem_format::inspect::{Inspection, inspect};
use xen_pmem_format::superblock::{COPY_SIZE, SuperBlock, Which};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, LbaSize};

const PRIMARY: u64 = 0x80000;
const BACKUP: u64 = 0x180000;
const LAST: u64 = SIZE - 512;

/// A vector: its name, the rules that it shows, the state, the device.
struct Vector(&'static str, &'static [u8], &'static str, Device);

/// Returns a prepared device of 512-byte blocks, changed.
fn changed(change: impl FnOnce(&mut Device)) -> Device {
    let mut device = prepared(512);
    change(&mut device);
    device
}

/// Returns one whose primary table is changed in a field, its checksums right.
fn primary(change: impl FnOnce(&mut Gpt)) -> Device {
    let usual = table(512);
    let mut primary = usual.clone();
    change(&mut primary);
    with_tables(&primary, &usual.backup())
}

/// Returns one with both tables changed alike.
fn both(change: impl FnOnce(&mut Gpt)) -> Device {
    let mut primary = table(512);
    change(&mut primary);
    with_tables(&primary, &primary.backup())
}

/// Returns one whose copies are not where they belong.
fn without_copies(change: impl FnOnce(&mut Device)) -> Device {
    changed(|device| {
        device.wipe(PRIMARY, COPY_SIZE);
        device.wipe(BACKUP, COPY_SIZE);
        change(device);
    })
}

/// Returns one without a primary table: zeros, as reconfiguring a namespace leaves them.
fn without_primary(change: impl FnOnce(&mut Device)) -> Device {
    changed(|device| {
        device.wipe(0, 8192);
        change(device);
    })
}

fn newer() -> SuperBlock {
    SuperBlock {
        sequence: superblock(SIZE).sequence + 1,
        ..superblock(SIZE)
    }
}

fn foreign() -> SuperBlock {
    SuperBlock {
        disk_guid: uuid::Uuid::from_u128(9),
        ..superblock(SIZE)
    }
}

fn other_time() -> SuperBlock {
    let mut other = superblock(SIZE);
    other.updated.0 += 1;
    other
}

fn told(mut device: Device, block: LbaSize) -> Device {
    device.told = Some(block);
    device
}

/// Returns a device of 20 GiB whose only copy stands `far` behind the first page of the gap.
fn far_away(far: u64) -> Device {
    let size = 20 << 30;
    let mut device = Device::blank(size, None);
    put_protective_mbr(&mut device);
    let table = Gpt::primary(512, size, 19 << 30, &[]);
    table.put(&mut device);
    table.backup().put(&mut device);
    device.copy_at(Which::Backup, 0x5000 + far, &superblock(size));
    device
}

#[rustfmt::skip]
fn vectors() -> Vec<Vector> {
    use Which::{Backup as B, Primary as P};
    let ok = superblock(SIZE);
    vec![
        Vector("prepared", &[1, 9, 10, 16], "prepared", prepared(512)),
        Vector("prepared-4096", &[1], "prepared", prepared(4096)),
        Vector("device-4096", &[1], "prepared", told(prepared(4096), LbaSize::B4096)),
        Vector("device-other-blocks", &[1, 37], "unprepared", told(prepared(512), LbaSize::B4096)),
        Vector("stray-signature", &[1], "degraded", without_primary(|d| d.put(4096, b"EFI PART"))),
        Vector("backup-only-4096", &[1, 32], "degraded", { let mut d = prepared(4096); d.wipe(0, 8192); d }),
        Vector("odd-size", &[1, 22], "prepared", changed(|d| {
            d.resize(SIZE + 100);
            for which in Which::BOTH { d.copy(which, &superblock(SIZE + 100)); }
        })),
        Vector("header-signature", &[2], "damaged", changed(|d| d.flip(512))),
        Vector("header-revision", &[2, 32], "degraded", primary(|t| t.revision = 0x20000)),
        Vector("header-size-91", &[2], "degraded", primary(|t| t.header_size = 91)),
        Vector("header-size-block", &[2], "prepared", primary(|t| t.header_size = 512)),
        Vector("header-size-larger", &[2], "degraded", primary(|t| t.header_size = 513)),
        Vector("header-checksum", &[2], "degraded", changed(|d| d.flip(512 + 56))),
        Vector("header-own-lba", &[2], "degraded", primary(|t| t.says_own = 2)),
        Vector("entries-1024", &[3, 10], "prepared", both(|t| { t.count = 1024; t.last = t.alternate - 257; })),
        Vector("entries-1025", &[3], "degraded", primary(|t| t.count = 1025)),
        Vector("entries-none", &[3], "degraded", primary(|t| t.count = 0)),
        Vector("entries-256-bytes", &[3], "degraded", primary(|t| t.entry_size = 256)),
        Vector("entries-checksum", &[3], "degraded", changed(|d| d.flip(1024 + 40))),
        Vector("first-usable-in-entries", &[4], "degraded", primary(|t| t.first = 33)),
        Vector("last-usable-outside", &[4], "degraded", primary(|t| t.last = SIZE / 512)),
        Vector("last-usable-last-block", &[4, 33], "degraded", primary(|t| t.last = SIZE / 512 - 1)),
        Vector("usable-empty", &[4], "degraded", primary(|t| { t.partitions.clear(); t.last = t.first - 1; })),
        Vector("entries-over-header", &[5], "degraded", primary(|t| t.entries_at = 1)),
        Vector("entries-over-usable", &[5], "degraded", primary(|t| t.entries_at = t.first - 31)),
        Vector("backup-in-reserved", &[6, 34], "degraded", {
            let mut primary = table(512);
            primary.alternate = 3 * MIB / 512;
            let backup = Gpt { entries_at: table(512).backup().entries_at, ..primary.backup() };
            with_tables(&primary, &backup)
        }),
        Vector("backup-entries-usable", &[6], "degraded", {
            let primary = table(512);
            with_tables(&primary, &Gpt { entries_at: DATA_END / 512, ..primary.backup() })
        }),
        Vector("partitions-overlap", &[7], "degraded", primary(|t| t.partitions[1].0 -= 1)),
        Vector("partition-backwards", &[7], "degraded", primary(|t| t.partitions[1].1 = t.partitions[1].0 - 1)),
        Vector("partition-outside", &[7], "degraded", primary(|t| t.partitions[1].1 = t.last + 1)),
        Vector("partition-name", &[7], "prepared", both(|t| t.name = *b"\x00\xd8\x00\xd8\x00\x00\x41\x00")),
        Vector("backup-not-at-end", &[8, 34], "degraded", both(|t| t.alternate -= 4)),
        Vector("backup-unnamed", &[8, 32], "degraded", primary(|t| t.alternate -= 4)),
        Vector("backup-names-other", &[8], "prepared", {
            let primary = table(512);
            with_tables(&primary, &Gpt { alternate: 7, ..primary.backup() })
        }),
        Vector("tables-differ", &[9, 33], "degraded", primary(|t| t.partitions[1].1 -= 8)),
        Vector("tables-differ-guid", &[9, 33], "degraded", {
            let primary = table(512);
            with_tables(&primary, &Gpt { guid: [7; 16], ..primary.backup() })
        }),
        Vector("entries-before-copies", &[10, 23], "prepared", primary(|t| t.entries_at = PRIMARY / 512 - 32)),
        Vector("entries-on-primary-copy", &[10, 23], "damaged", primary(|t| t.entries_at = PRIMARY / 512 - 31)),
        Vector("entries-in-reserved", &[10, 23], "damaged", primary(|t| t.entries_at = 4096)),
        Vector("entries-behind-reserved", &[10, 23], "damaged", both(|t| {
            t.first += 32;
            t.partitions[0].0 += 32;
            t.entries_at = DATA / 512;
        })),
        Vector("no-partitions", &[10], "prepared", both(|t| t.partitions.clear())),
        Vector("gap-of-backup", &[10, 32], "degraded", {
            let mut primary = table(512);
            primary.count = 512;
            primary.last = primary.alternate - 129;
            let mut d = with_tables(&primary, &primary.backup());
            d.wipe(0, 1024);
            d.put(0x5000, &[7]);
            d
        }),
        Vector("copies-in-partition", &[11, 21], "unprepared", both(|t| { t.first = 1024; t.partitions[0].0 = 1024; })),
        Vector("primary-copy-checksum", &[12, 19, 30], "degraded", changed(|d| d.flip(PRIMARY + 60))),
        Vector("primary-copy-missing", &[12, 19, 30], "degraded", changed(|d| d.wipe(PRIMARY, COPY_SIZE))),
        Vector("backup-copy-foreign", &[12, 19, 30], "degraded", changed(|d| d.copy(B, &SuperBlock { sequence: 99, ..foreign() }))),
        Vector("primary-copy-other-version", &[12], "degraded", changed(|d| { d.put(PRIMARY + 8, &[2]); seal_copy(d, PRIMARY); })),
        Vector("minor-version", &[12, 16], "prepared", changed(|d| for at in [PRIMARY, BACKUP] {
            d.put(at + 10, &[7]);
            d.put(at + 300, b"later");
            seal_copy(d, at);
        })),
        Vector("other-signature", &[13, 19], "degraded", changed(|d| d.copy_at(B, PRIMARY, &ok))),
        Vector("other-signature-only", &[13, 14, 31], "degraded", without_copies(|d| d.copy_at(B, PRIMARY, &ok))),
        Vector("crossed-copies", &[13, 14, 31], "degraded", without_copies(|d| { d.copy_at(B, PRIMARY, &ok); d.copy_at(P, BACKUP, &ok); })),
        Vector("copy-elsewhere", &[14, 31], "degraded", without_copies(|d| d.copy_at(P, 0x6000, &ok))),
        Vector("copies-elsewhere", &[14, 17], "degraded", without_copies(|d| {
            d.copy_at(P, 0x6000, &ok);
            d.copy_at(P, 0x9000, &newer());
            d.copy_at(B, 0x1f0000, &ok);
        })),
        Vector("copy-not-on-page", &[14, 21], "unprepared", without_copies(|d| d.copy_at(P, 0x6200, &ok))),
        Vector("search-limit", &[14], "degraded", far_away((16 << 30) - 4096)),
        Vector("search-beyond-limit", &[14], "unprepared", far_away(16 << 30)),
        Vector("not-searched", &[14, 19], "degraded", changed(|d| { d.wipe(PRIMARY, COPY_SIZE); d.copy_at(P, 0x6000, &newer()); })),
        Vector("tie-same-content", &[15], "degraded", without_copies(|d| for at in [0x6000, 0x9000] { d.copy_at(P, at, &ok); })),
        Vector("tie-other-content", &[15], "damaged", without_copies(|d| {
            d.copy_at(P, 0x6000, &ok);
            d.copy_at(P, 0x9000, &other_time());
        })),
        Vector("tie-and-newer-backup", &[15, 17], "degraded", without_copies(|d| {
            d.copy_at(P, 0x6000, &ok);
            d.copy_at(P, 0x9000, &other_time());
            d.copy_at(B, 0xa000, &newer());
        })),
        Vector("primary-newer", &[17, 30], "degraded", changed(|d| d.copy(P, &newer()))),
        Vector("backup-newer", &[17, 30], "degraded", changed(|d| d.copy(B, &newer()))),
        Vector("contents-differ", &[18], "damaged", changed(|d| d.copy(B, &other_time()))),
        Vector("unknown-bytes-differ", &[18], "damaged", changed(|d| { d.put(BACKUP + 4000, &[1]); seal_copy(d, BACKUP); })),
        Vector("both-corrupt", &[20], "damaged", changed(|d| { d.flip(PRIMARY + 60); d.flip(BACKUP + 60); })),
        Vector("corrupt-and-missing", &[20], "damaged", changed(|d| { d.flip(PRIMARY + 60); d.wipe(BACKUP, COPY_SIZE); })),
        Vector("both-foreign", &[21], "unprepared", changed(|d| for which in Which::BOTH { d.copy(which, &foreign()); })),
        Vector("no-copies", &[21], "unprepared", without_copies(|_| {})),
        Vector("grown", &[22], "damaged", changed(|d| d.resize(SIZE + MIB))),
        Vector("truncated", &[8, 22], "damaged", changed(|d| d.resize(SIZE - 4096))),
        Vector("reserved-over-partition", &[23], "damaged", changed(|d| for which in Which::BOTH {
            let reserved = DeviceRange::new(DeviceOffset(2 * MIB), Bytes(6 * MIB)).unwrap();
            d.copy(which, &SuperBlock { reserved, ..ok });
        })),
        Vector("reserved-over-found-copy", &[24], "damaged", without_copies(|d| {
            d.copy_at(P, 0x6000, &newer());
            let reserved = DeviceRange::new(DeviceOffset(4 * MIB), Bytes(2 * MIB)).unwrap();
            d.copy_at(B, 3 * MIB, &SuperBlock { reserved, ..ok });
        })),
        Vector("mbr-partitions", &[25, 28], "damaged", changed(|d| put_record(d, 0, 0x83, 2048, 4096))),
        Vector("boot-sector", &[25, 28], "damaged", changed(|d| { d.wipe(446, 16); d.put(0, b"\xeb\x58\x90mkfs.fat"); })),
        Vector("swap-4096", &[25, 28], "damaged", { let mut d = prepared(4096); d.wipe(0, 1024); d.put(4086, b"SWAPSPACE2"); d }),
        Vector("boot-loader", &[28], "prepared", changed(|d| d.put(0, b"\xeb\x63\x90"))),
        Vector("hybrid-mbr", &[26, 28], "prepared", changed(|d| put_record(d, 1, 0x0c, (DATA / 512) as u32, 64))),
        Vector("hybrid-mbr-over-reserved", &[26], "damaged", changed(|d| put_record(d, 1, 0x0c, (5 * MIB / 512) as u32, 2048))),
        Vector("hybrid-mbr-over-copy", &[26], "damaged", changed(|d| put_record(d, 1, 0x0c, 1024, 1))),
        Vector("swap-512", &[27, 29], "damaged", changed(|d| { d.wipe(0, 1024); d.put(4086, b"SWAPSPACE2"); })),
        Vector("md-member", &[27, 29], "damaged", changed(|d| d.put(4096, &[0xfc, 0x4e, 0x2b, 0xa9]))),
        Vector("signature-behind-entries", &[29], "damaged", without_primary(|d| d.put(32769, b"CD001"))),
        Vector("unknown-in-block-1", &[27, 29], "damaged", without_primary(|d| d.put(512 + 100, &[7]))),
        Vector("unknown-in-gap", &[27, 29], "damaged", without_primary(|d| d.put(0x17ffff, &[7]))),
        Vector("unknown-behind-copies", &[29], "degraded", without_primary(|d| d.put(0x181000, &[7]))),
        Vector("copy-in-gap", &[29], "degraded", without_primary(|d| d.copy_at(P, 0x6000, &ok))),
        Vector("unknown-in-gap-with-primary", &[27], "prepared", changed(|d| d.put(0x10000, &[7]))),
        Vector("first-8-kib-zero", &[29, 32], "degraded", without_primary(|_| {})),
        Vector("torn-header", &[29, 32], "degraded", changed(|d| { d.wipe(512, 8); d.wipe(512 + 32, 24); })),
        Vector("backup-lost", &[32], "degraded", changed(|d| d.wipe(LAST, 512))),
        Vector("unprotected", &[35], "degraded", both(|t| t.first = 34)),
        Vector("mbr-zero", &[28, 36], "degraded", changed(|d| d.wipe(0, 512))),
        Vector("mbr-no-boot-signature", &[28, 36], "degraded", changed(|d| d.flip(510))),
        Vector("mbr-other-first-block", &[28, 36], "degraded", changed(|d| put_record(d, 0, 0xee, 2, 9))),
        Vector("tables-lost", &[37], "damaged", changed(|d| { d.flip(512 + 56); d.flip(LAST + 56); })),
        Vector("tables-lost-without-trace", &[37], "unprepared", changed(|d| { d.wipe(512, 8); d.wipe(LAST, 8); })),
        Vector("tables-lost-and-copies", &[37], "unprepared", without_copies(|d| { d.flip(512 + 56); d.flip(LAST + 56); })),
        Vector("blank", &[37], "unprepared", Device::blank(SIZE, None)),
        Vector("tiny", &[37], "unprepared", Device::blank(100, None)),
    ]
}

/// Returns the state, and the reserved area if there is a reservation, as documents and the reader in C say them.
pub(crate) fn words(inspection: &Inspection) -> String {
    let state = inspection.state.as_str();
    match inspection.reservation() {
        Some((superblock, _)) => format!(
            "{state} {} {}",
            superblock.reserved.base().0,
            superblock.reserved.size().0
        ),
        None => state.to_owned(),
    }
}

fn to_text(vector: &Vector, said: &str) -> String {
    let Vector(_, rules, _, device) = vector;
    let block = device
        .told
        .map_or("unknown".to_owned(), |lba| lba.bytes().0.to_string());
    let rules: Vec<_> = rules.iter().map(|rule| format!("R{rule}")).collect();
    format!(
        "# size {}\n# block {block}\n# rules {}\n# expect {said}\n{}",
        device.size,
        rules.join(" "),
        device.to_rows()
    )
}

/// Returns the device that a vector's text says.
fn from_text(text: &str) -> Device {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# {name} ")))
            .unwrap();
        line.parse::<u64>().ok()
    };
    let mut device = Device::blank(field("size").unwrap(), field("block").and_then(LbaSize::from_bytes));
    device.put_rows(text);
    device
}

#[test]
fn each_device_is_what_its_vector_says() {
    let folder = crate::docs().join("vectors/devices");
    let write = std::env::var_os("XEN_PMEM_WRITE_VECTORS").is_some();
    let vectors = vectors();
    let mut devices = Vec::new();
    let mut expected = Vec::new();
    for vector in &vectors {
        let Vector(name, _, state, device) = vector;
        let inspection = inspect(device, device.told).unwrap();
        let said = words(&inspection);
        assert_eq!(inspection.state.as_str(), *state, "{name}: {}", inspection.reasons());
        let text = to_text(vector, &said);
        let path = folder.join(name).with_extension("hex");
        if write {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(committed, text, "{name}");
        let read = from_text(&committed);
        assert_eq!(words(&inspect(&read, read.told).unwrap()), said, "{name}");
        devices.push(read);
        expected.push(said);
    }
    for ((Vector(name, ..), said), in_c) in vectors.iter().zip(&expected).zip(judge_in_c(&devices)) {
        assert_eq!(in_c, *said, "{name}: the reader in C");
    }
    let names: BTreeSet<_> = vectors.iter().map(|Vector(name, ..)| name).collect();
    assert_eq!(names.len(), vectors.len(), "each name is used once");
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        vectors.len(),
        "each file is a vector"
    );
}

#[test]
fn every_rule_has_a_device() {
    let page = std::fs::read_to_string(crate::docs().join("format.md")).unwrap();
    let rules: Vec<u8> = page
        .split("**R")
        .skip(1)
        .filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect();
    let all: Vec<u8> = (1..=37).collect();
    assert_eq!(rules, all, "the page numbers its rules in order");
    let shown: BTreeSet<u8> = vectors()
        .iter()
        .flat_map(|Vector(_, rules, ..)| rules.iter().copied())
        .collect();
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), all);
}

/// Returns the rows of the table of signatures: name, bytes, offsets.
fn signatures() -> Vec<(String, Vec<u8>, Vec<u64>)> {
    let page = std::fs::read_to_string(crate::docs().join("format.md")).unwrap();
    let table = page
        .split("| what | signature (hexadecimal) | at offsets |")
        .nth(1)
        .unwrap();
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let bytes = cells[2]
                .split(' ')
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect();
            let offsets = cells[3].split(", ").map(|offset| offset.parse().unwrap()).collect();
            (cells[1].to_owned(), bytes, offsets)
        })
        .collect()
}

#[test]
fn each_signature_of_the_page_claims_the_start_for_both_readers() {
    let signatures = signatures();
    assert!(signatures.len() >= 30);
    let mut devices = Vec::new();
    let mut expected = Vec::new();
    // As large as a head can be, so that signatures that stand far behind the start stand in it, too.
    for (count, name, signature, offset) in [128, 1024].into_iter().flat_map(|count| {
        signatures.iter().flat_map(move |(name, signature, offsets)| {
            offsets.iter().map(move |offset| (count, name, signature, *offset))
        })
    }) {
        let mut table = table(512);
        table.count = count;
        table.last = table.alternate - 1 - table.entry_blocks();
        let mut device = with_tables(&table, &table.backup());
        device.wipe(0, 8192);
        device.put(offset, signature);
        let inspection = inspect(&device, None).unwrap();
        assert!(
            inspection.reasons().contains(&format!("{name} at offset 0x{offset:x}")),
            "{name} at {offset}: {}",
            inspection.reasons()
        );
        expected.push((words(&inspection), name));
        devices.push(device);
    }
    for ((said, name), in_c) in expected.iter().zip(judge_in_c(&devices)) {
        assert_eq!((said.as_str(), in_c.as_str()), ("damaged", "damaged"), "{name}");
    }
}
