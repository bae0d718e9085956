//! What other tools left on a device: found before anything is written over it.

use std::io;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange};

/// Something that is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What it is.
    pub what: String,
    /// Where it is.
    pub offset: DeviceOffset,
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at offset {}", self.what, self.offset)
    }
}

/// All that is on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces(pub Vec<Trace>);

impl std::fmt::Display for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(", "))
    }
}

/// A tool's signature: its offset from the start of the device and its bytes.
struct Magic(&'static str, u64, &'static [u8]);

/// The signatures at fixed offsets. Sources: util-linux `libblkid/src/superblocks`, Linux `drivers/nvdimm/{pfn,btt}.h`.
const MAGICS: &[Magic] = &[
    Magic("an ext2, ext3 or ext4 file system", 0x438, &[0x53, 0xef]),
    Magic("an XFS file system", 0, b"XFSB"),
    Magic("a btrfs file system", 0x1_0040, b"_BHRfS_M"),
    Magic("an F2FS file system", 0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    Magic(
        "a bcachefs file system",
        0x1018,
        &[0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9],
    ),
    Magic("an NTFS file system", 3, b"NTFS    "),
    Magic("an exFAT file system", 3, b"EXFAT   "),
    Magic("a FAT file system", 0x36, b"FAT1"),
    Magic("a FAT file system", 0x52, b"FAT32"),
    Magic("an ISO 9660 file system", 0x8001, b"CD001"),
    Magic("a JFS file system", 0x8000, b"JFS1"),
    Magic("a swap area", 0xff6, b"SWAPSPACE2"),
    Magic("a LUKS container", 0, b"LUKS\xba\xbe"),
    Magic("a LUKS2 container's second header", 0x4000, b"SKUL\xba\xbe"),
    Magic("an LVM physical volume", 0x000, b"LABELONE"),
    Magic("an LVM physical volume", 0x200, b"LABELONE"),
    Magic("an LVM physical volume", 0x400, b"LABELONE"),
    Magic("an LVM physical volume", 0x600, b"LABELONE"),
    Magic("a member of an md RAID (version 1.1)", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    Magic(
        "a member of an md RAID (version 1.2)",
        0x1000,
        &[0xfc, 0x4e, 0x2b, 0xa9],
    ),
    Magic(
        "a bcache device",
        0x1018,
        &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca],
    ),
    Magic("libnvdimm's fsdax info block", 0x1000, b"NVDIMM_PFN_INFO\0"),
    Magic("libnvdimm's devdax info block", 0x1000, b"NVDIMM_DAX_INFO\0"),
    Magic("libnvdimm's BTT info block", 0x1000, b"BTT_ARENA_INFO\0"),
];

/// The uberblocks of a ZFS label, their magic number in either byte order.
const ZFS_UBERBLOCKS: (u64, u64, u64) = (0x2_0000, 0x4_0000, 0x400);
const ZFS_MAGIC: [[u8; 8]; 2] = [0x00ba_b10c_u64.to_le_bytes(), 0x00ba_b10c_u64.to_be_bytes()];

/// The bytes at the start of a device that hold signatures.
const HEAD: Bytes = Bytes(256 << 10);
/// Where what a preparation may overwrite ends: all that lies before the reserved area of a default layout.
const HEAD_END: DeviceOffset = DeviceOffset(2 << 20);
/// The same at its end: the backup GPT's, and md's and ZFS's last places.
const TAIL: Bytes = Bytes(128 << 10);

/// Finds what is on a device: partition tables, super blocks, other tools' signatures, and, where nothing of that is known, any
/// other data in the bytes that a preparation overwrites.
///
/// # Errors
///
/// If the device cannot be read there.
pub fn find<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection) -> io::Result<Traces> {
    let Edges {
        mut head,
        tail,
        tail_at,
    } = Edges::read(device, inspection.device_size)?;
    let mut traces = Vec::new();
    if let Some(table) = inspection.table() {
        let count = table.partitions().len();
        traces.push(Trace {
            what: format!("a GPT with {count} partition(s)"),
            offset: DeviceOffset(inspection.lba_size.bytes().0),
        });
    } else if inspection.primary_table.as_ref().is_err_and(|error| error.is_damage())
        || inspection.backup_table.as_ref().is_err_and(|error| error.is_damage())
    {
        traces.push(Trace {
            what: "a damaged GPT".to_owned(),
            offset: DeviceOffset(inspection.lba_size.bytes().0),
        });
    } else if at(&head, 510, &[0x55, 0xaa]) {
        traces.push(Trace {
            what: "an MBR partition table or boot sector".to_owned(),
            offset: DeviceOffset(0),
        });
    }
    for copy in &inspection.copies {
        if !matches!(copy.reading, Reading::Missing) {
            traces.push(Trace {
                what: format!("a {} super block of xen-pmem", copy.which),
                offset: copy.offset,
            });
        }
    }
    traces.extend(foreign(&head, &tail, tail_at));
    if traces.is_empty() {
        let unknown =
            |bytes: &[u8], from: DeviceOffset| from.checked_add(Bytes(u64::try_from(first_not_zero(bytes)?).ok()?));
        let mut found = unknown(&head, DeviceOffset(0));
        let mut from = DeviceOffset(HEAD.0);
        let end = HEAD_END.min(DeviceOffset(inspection.device_size.0));
        while found.is_none()
            && let Some(at) = device.next_data(from)
            && let Some(rest) = DeviceRange::between(at, end).filter(|rest| !rest.is_empty())
        {
            let range = DeviceRange::clamped(at, rest.size().min(HEAD));
            head.resize(usize::try_from(range.size().0).map_err(io::Error::other)?, 0);
            device.read_exact_at(at, &mut head)?;
            found = unknown(&head, at);
            from = range.end();
        }
        traces.extend(found.or_else(|| unknown(&tail, tail_at)).map(|offset| Trace {
            what: "data of an unknown kind".to_owned(),
            offset,
        }));
    }
    Ok(Traces(traces))
}

/// What other tools than partitioners and ourselves have left on a prepared device, outside its partitions.
///
/// # Errors
///
/// If the device cannot be read there.
pub fn foreign_in<D: ReadAt + ?Sized>(device: &D, inspection: &Inspection) -> io::Result<Traces> {
    let Edges { head, tail, tail_at } = Edges::read(device, inspection.device_size)?;
    let partitions = inspection.table().map(|table| table.partitions()).unwrap_or_default();
    let in_partition = |trace: &Trace| {
        let byte = DeviceRange::clamped(trace.offset, Bytes(1));
        partitions.iter().any(|partition| partition.range.contains(byte))
    };
    let found = foreign(&head, &tail, tail_at).into_iter();
    Ok(Traces(found.filter(|trace| !in_partition(trace)).collect()))
}

/// The first and the last bytes of a device.
struct Edges {
    head: Vec<u8>,
    tail: Vec<u8>,
    tail_at: DeviceOffset,
}

impl Edges {
    fn read<D: ReadAt + ?Sized>(device: &D, size: Bytes) -> io::Result<Self> {
        let tail_at = DeviceOffset(size.0.saturating_sub(TAIL.0.min(size.0)));
        Ok(Self {
            head: read(device, DeviceRange::clamped(DeviceOffset(0), HEAD.min(size)))?,
            tail: read(device, DeviceRange::clamped(tail_at, TAIL.min(size)))?,
            tail_at,
        })
    }
}

/// The traces of other tools than partitioners and ourselves, in the first and the last bytes of a device.
fn foreign(head: &[u8], tail: &[u8], tail_at: DeviceOffset) -> Vec<Trace> {
    let mut traces: Vec<Trace> = MAGICS
        .iter()
        .filter(|Magic(_, offset, bytes)| at(head, *offset, bytes))
        .map(|Magic(what, offset, _)| Trace {
            what: (*what).to_owned(),
            offset: DeviceOffset(*offset),
        })
        .collect();
    let (first, end, step) = ZFS_UBERBLOCKS;
    let mut uberblocks = (first..end).step_by(usize::try_from(step).unwrap_or(1024));
    if let Some(offset) = uberblocks.find(|offset| ZFS_MAGIC.iter().any(|magic| at(head, *offset, magic))) {
        traces.push(Trace {
            what: "a member of a ZFS pool".to_owned(),
            offset: DeviceOffset(offset),
        });
    }
    // md 0.90 keeps its super block in the last whole, aligned 64 KiB, 1.0 in the last 8 to 12 KiB: look at each sector.
    let mut sectors = (0u64..).step_by(512).zip(tail.chunks(512));
    if let Some((offset, _)) = sectors.find(|(_, sector)| sector.starts_with(&[0xfc, 0x4e, 0x2b, 0xa9]))
        && let Some(offset) = tail_at.checked_add(Bytes(offset))
    {
        traces.push(Trace {
            what: "a member of an md RAID".to_owned(),
            offset,
        });
    }
    traces
}

/// The position of the first byte that is not zero. Whole blocks are compared first: of a blank device all are zero.
fn first_not_zero(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 4096;
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let zeros = blocks.iter().take_while(|block| **block == [0; BLOCK]).count();
    let from = zeros.checked_mul(BLOCK)?;
    let rest = bytes.get(from..)?.iter().position(|byte| *byte != 0)?;
    from.checked_add(rest)
}

fn at(bytes: &[u8], offset: u64, magic: &[u8]) -> bool {
    let Ok(start) = usize::try_from(offset) else {
        return false;
    };
    bytes.get(start..).is_some_and(|rest| rest.starts_with(magic))
}

fn read<D: ReadAt + ?Sized>(device: &D, range: DeviceRange) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.size().0).map_err(io::Error::other)?];
    device.read_exact_at(range.base(), &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_pmem_format::inspect::inspect;

    const SIZE: usize = 4 << 20;

    fn found(device: &Vec<u8>) -> Vec<Trace> {
        find(device, &inspect(device, None).unwrap()).unwrap().0
    }

    #[test]
    fn the_first_byte_that_is_not_zero_is_found() {
        let mut bytes = vec![0; 3 * 4096 + 5];
        assert_eq!(first_not_zero(&bytes), None);
        assert_eq!(first_not_zero(&[]), None);
        for place in [3 * 4096 + 4, 3 * 4096, 8192, 8191, 4096, 1, 0] {
            bytes[place] = 1;
            assert_eq!(first_not_zero(&bytes), Some(place));
        }
    }

    #[test]
    fn nothing_is_found_on_a_blank_device() {
        assert_eq!(found(&vec![0; SIZE]), []);
    }

    #[test]
    fn each_signature_is_found_where_its_tool_puts_it() {
        for Magic(what, offset, bytes) in MAGICS {
            let mut device = vec![0; SIZE];
            let start = usize::try_from(*offset).unwrap();
            device[start..start + bytes.len()].copy_from_slice(bytes);
            let expected = Trace {
                what: (*what).to_owned(),
                offset: DeviceOffset(*offset),
            };
            assert!(found(&device).contains(&expected), "{what}: {:?}", found(&device));
            // A byte off it is somebody's data.
            device[start..start + bytes.len()].fill(0);
            device[start + 1..start + 1 + bytes.len()].copy_from_slice(bytes);
            assert!(!found(&device).contains(&expected), "{what}");
            assert_ne!(found(&device), [], "{what}");
        }
    }

    #[test]
    fn what_is_kept_at_other_places_is_found() {
        let [magic, swapped] = ZFS_MAGIC;
        for (what, offset, bytes) in [
            ("a member of a ZFS pool", 0x2_0400, &magic[..]),
            ("a member of a ZFS pool", 0x3_fc00, &swapped[..]),
            ("a member of an md RAID", SIZE - (64 << 10), &[0xfc, 0x4e, 0x2b, 0xa9]),
            ("a member of an md RAID", SIZE - (8 << 10), &[0xfc, 0x4e, 0x2b, 0xa9]),
            ("data of an unknown kind", 77, b"x"),
            ("data of an unknown kind", (256 << 10) - 1, b"x"),
            ("data of an unknown kind", 256 << 10, b"x"),
            ("data of an unknown kind", (2 << 20) - 1, b"x"),
            ("data of an unknown kind", SIZE - 1, b"x"),
            ("an MBR partition table or boot sector", 510, &[0x55, 0xaa]),
        ] {
            let mut device = vec![0; SIZE];
            device[offset..offset + bytes.len()].copy_from_slice(bytes);
            assert!(
                found(&device).iter().any(|trace| trace.what == what),
                "{what}: {:?}",
                found(&device)
            );
        }
    }
}
