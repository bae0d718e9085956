//! The test vectors of the specification: this crate writes the same bytes, and reads the same results from them.
//!
//! `XEN_PMEM_WRITE_VECTORS=1 cargo test -p xen-pmem-format --test specification` writes them anew.

use std::fmt::Write as _;
use uuid::Uuid;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::{COPY_SIZE, Creator, Features, Planned, SuperBlock, UnixTime, Which};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, NamespaceOffset, PhysAddr};

pub(crate) type Page = [u8; COPY_SIZE];

pub(crate) fn content() -> SuperBlock {
    SuperBlock {
        sequence: 3,
        uuid: Uuid::from_u128(0x00112233_4455_4677_8899_aabbccddeeff),
        disk_guid: Uuid::from_u128(0x01234567_89ab_4def_8123_456789abcdef),
        device_size: Bytes(510 << 20),
        reserved: DeviceRange::new(DeviceOffset(2 << 20), Bytes(6 << 20)).unwrap(),
        planned: Planned {
            entries: EntrySizes::XEN_X86_64,
            namespace_size: Bytes(512 << 20),
            device_in_namespace: NamespaceOffset(2 << 20),
        },
        address_hint: Some(PhysAddr(0x1_0020_0000)),
        created: UnixTime(1_767_225_600),
        updated: UnixTime(1_767_225_660),
        creator: Creator::new("xen-pmem test vector").unwrap(),
        features: Features::default(),
    }
}

/// Returns the page with `bytes` put at `offset` and its checksum made right again.
pub(crate) fn changed(which: Which, offset: usize, bytes: &[u8]) -> Page {
    let mut page = content().encode(which);
    page[offset..offset + bytes.len()].copy_from_slice(bytes);
    page[16..20].fill(0);
    let checksum = crc32c::crc32c(&page);
    page[16..20].copy_from_slice(&checksum.to_le_bytes());
    page
}

/// Returns each vector's name, page, the offset where it was found, and what a reader says.
pub(crate) fn vectors() -> Vec<(&'static str, Page, DeviceOffset, &'static str)> {
    use Which::{Backup, Primary};
    let at = |which: Which| which.offset();
    let flipped = {
        let mut page = content().encode(Primary);
        page[4000] ^= 1;
        page
    };
    vec![
        ("primary", content().encode(Primary), at(Primary), "valid"),
        ("backup", content().encode(Backup), at(Backup), "valid"),
        (
            "minor-version",
            changed(Primary, 10, &[7, 0, 0, 1, 0, 0]),
            at(Primary),
            "valid",
        ),
        ("blank", [0; COPY_SIZE], at(Primary), "missing"),
        ("bit-flip", flipped, at(Primary), "corrupt"),
        ("elsewhere", content().encode(Primary), at(Backup), "corrupt"),
        ("copy-number", changed(Primary, 20, &[1]), at(Primary), "corrupt"),
        ("major-version", changed(Primary, 8, &[2]), at(Primary), "corrupt"),
        (
            "incompatible-feature",
            changed(Primary, 40, &[1]),
            at(Primary),
            "corrupt",
        ),
        ("header-too-small", changed(Primary, 12, &[207]), at(Primary), "corrupt"),
        ("sequence-zero", changed(Primary, 48, &[0; 8]), at(Primary), "corrupt"),
        ("uuid-nil", changed(Primary, 64, &[0; 16]), at(Primary), "corrupt"),
        ("reserved-zero", changed(Primary, 112, &[0; 8]), at(Primary), "corrupt"),
        (
            "reserved-overflows",
            changed(Primary, 104, &[0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            at(Primary),
            "corrupt",
        ),
        (
            "reserved-outside",
            changed(Primary, 104, &0x1fe0_0000u64.to_le_bytes()),
            at(Primary),
            "corrupt",
        ),
        (
            "reserved-misaligned",
            changed(Primary, 112, &0x60_0001u64.to_le_bytes()),
            at(Primary),
            "corrupt",
        ),
        (
            "reserved-covers-copy",
            changed(Primary, 104, &0x10_0000u64.to_le_bytes()),
            at(Primary),
            "corrupt",
        ),
        (
            "creator-control",
            changed(Primary, 176, &[0x1b]),
            at(Primary),
            "corrupt",
        ),
        // U+0085 in UTF-8: a control character of category Cc that is not in ASCII.
        (
            "creator-control-c1",
            changed(Primary, 176, &[0xc2, 0x85]),
            at(Primary),
            "corrupt",
        ),
        (
            "creator-nul-inside",
            changed(Primary, 179, &[0]),
            at(Primary),
            "corrupt",
        ),
        ("creator-empty", changed(Primary, 176, &[0; 32]), at(Primary), "valid"),
        (
            "creator-not-utf-8",
            changed(Primary, 176, &[0xff]),
            at(Primary),
            "corrupt",
        ),
        ("header-size-208", changed(Primary, 12, &[208]), at(Primary), "valid"),
        (
            "header-size-4096",
            changed(Primary, 12, &4096u32.to_le_bytes()),
            at(Primary),
            "valid",
        ),
        (
            "header-size-4097",
            changed(Primary, 12, &4097u32.to_le_bytes()),
            at(Primary),
            "corrupt",
        ),
        // Valid where it stands; which copy belongs there is for who looks at a device.
        (
            "other-signature",
            content().encode_at(Backup, at(Primary)),
            at(Primary),
            "valid",
        ),
        // One page does not say which table there is, or how large the device: these are for who looks at a device.
        ("foreign", changed(Primary, 80, &[0x55; 16]), at(Primary), "valid"),
        (
            "device-size",
            changed(Primary, 96, &(4096u64 << 20).to_le_bytes()),
            at(Primary),
            "valid",
        ),
        (
            "device-size-too-small",
            changed(Primary, 96, &(8u64 << 20).wrapping_sub(1).to_le_bytes()),
            at(Primary),
            "corrupt",
        ),
        ("disk-guid-nil", changed(Primary, 80, &[0; 16]), at(Primary), "corrupt"),
        ("read-only-feature", changed(Primary, 32, &[1]), at(Primary), "valid"),
        (
            "page-size-no-power",
            changed(Primary, 120, &4097u32.to_le_bytes()),
            at(Primary),
            "corrupt",
        ),
        (
            "entry-larger-than-page",
            changed(Primary, 124, &4097u32.to_le_bytes()),
            at(Primary),
            "corrupt",
        ),
    ]
}

/// Returns the rows of 32 bytes that are not all zero, after where the page was found and what is expected. What is left out is zero.
fn to_hex(page: &Page, found: DeviceOffset, expected: &str) -> String {
    let mut text = format!("# found at {found}\n# expect {expected}\n");
    for (row, bytes) in page
        .chunks(32)
        .enumerate()
        .filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
    {
        write!(text, "{:04x}:", row * 32).unwrap();
        bytes.iter().for_each(|byte| write!(text, " {byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Page {
    let mut page = [0; COPY_SIZE];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (offset, bytes) = line.split_once(':').unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        for (index, byte) in bytes.split_whitespace().enumerate() {
            page[offset + index] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    page
}

#[test]
fn the_vectors_are_what_the_crate_writes_and_says() {
    let folder = crate::docs().join("vectors");
    let write = std::env::var_os("XEN_PMEM_WRITE_VECTORS").is_some();
    for (name, page, found, expected) in vectors() {
        let path = folder.join(name).with_extension("hex");
        let text = to_hex(&page, found, expected);
        if write {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(committed, text, "{name}");
        let said = match SuperBlock::decode(&from_hex(&committed), found) {
            Ok((which, read)) => {
                let bytes = read.encode_over(&page, which, found);
                assert_eq!(bytes, page, "{name}: what is read is what is written");
                "valid"
            }
            Err(xen_pmem_format::superblock::NotACopy::NoSignature) => "missing",
            Err(_) => "corrupt",
        };
        assert_eq!(said, expected, "{name}");
    }
    let files = std::fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_file())
        .count();
    assert_eq!(files, vectors().len(), "each file is a vector");
}
