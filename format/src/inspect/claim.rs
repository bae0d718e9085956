//! What else claims the start of a device.
//!
//! A backup table alone says little: tools that put a file system, a swap area or a RAID member on the whole disk overwrite the start and
//! leave the end. So where the primary table is not valid, the bytes before the super blocks must be zero, or be what is left of a
//! table.
//!
//! Source of the signatures: util-linux 2.41 `libblkid/src/superblocks`; Linux `drivers/nvdimm/{pfn,btt}.h`, `drivers/md/bcache`.

use crate::mbr::first_set;
use crate::read::ReadAt;
use crate::superblock::{COPY, COPY_SIZE, Which};
use crate::table::{HEADER_SIZE, SIGNATURE, Table};
use crate::units::{Address as _, Bytes, DeviceOffset, DeviceRange, LbaSize};
use std::fmt;

/// Something on the device that is neither ours nor a partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What it is.
    pub what: &'static str,
    /// Where its signature, or its first byte, stands.
    pub at: DeviceOffset,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.what, self.at)
    }
}

/// What to call bytes whose signature is not known.
const UNKNOWN: &str = "data of something else";

/// Signatures that may stand where a primary table was, each with its places. `docs/format.md` has the same table.
pub(super) const SIGNATURES: &[(&str, &[u8], &[u64])] = &[
    ("a swap area", b"SWAPSPACE2", &[4086, 8182, 16374, 32758, 65526]),
    ("a swap area", b"SWAP-SPACE", &[4086, 8182, 16374, 32758, 65526]),
    ("an ext2, ext3 or ext4 file system", &[0x53, 0xef], &[1080]),
    ("an F2FS file system", &[0x10, 0x20, 0xf5, 0xf2], &[1024]),
    ("an EROFS file system", &[0xe2, 0xe1, 0xf5, 0xe0], &[1024]),
    ("an HFS+ file system", &[b'H', b'+', 0, 4], &[1024]),
    ("an HFSX file system", &[b'H', b'X', 0, 5], &[1024]),
    ("an XFS file system", b"XAGF", &[512, 4096]),
    ("an XFS file system", b"XAGI", &[1024, 8192]),
    ("an OCFS2 file system", b"OCFSV2", &[1024, 2048, 4096, 8192]),
    ("a UFS file system", &[0x54, 0x19, 0x01, 0x00], &[9564]),
    ("a UFS2 file system", &[0x19, 0x01, 0x54, 0x19], &[66908]),
    ("an ISO 9660 file system", b"CD001", &[32769]),
    ("a UDF file system", b"BEA01", &[32769]),
    ("a Btrfs file system", b"_BHRfS_M", &[65600]),
    ("a member of an LVM volume group", b"LABELONE", &[0, 512, 1024, 1536]),
    ("a member of an md array", &[0xfc, 0x4e, 0x2b, 0xa9], &[0, 4096]),
    (
        "a bcache or bcachefs member",
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81,
        ],
        &[4120],
    ),
    ("a Stratis member", b"!Stra0tis\x86\xff\x02^\x41rh", &[516, 4612]),
    ("a LUKS container", b"LUKS\xba\xbe", &[0]),
    ("a LUKS container", b"SKUL\xba\xbe", &[16384]),
    (
        "an info block of a namespace in fsdax mode",
        b"NVDIMM_PFN_INFO\0",
        &[4096],
    ),
    (
        "an info block of a namespace in devdax mode",
        b"NVDIMM_DAX_INFO\0",
        &[4096],
    ),
    (
        "an info block of a namespace in sector mode",
        b"BTT_ARENA_INFO\0\0",
        &[4096],
    ),
    ("an XFS file system", b"XFSB", &[0]),
    ("a FAT file system", b"FAT32   ", &[82]),
    ("a FAT file system", b"FAT16   ", &[54]),
    ("a FAT file system", b"FAT12   ", &[54]),
    ("an exFAT file system", b"EXFAT   ", &[3]),
    ("an NTFS file system", b"NTFS    ", &[3]),
];

/// Returns the end of the bytes to look at: the backup copy's place, which is the last one that every reservation has before its reserved
/// area.
fn limit() -> DeviceOffset {
    Which::Backup.offset()
}

/// Returns the known thing whose signature `bytes`, the first ones of a device, hold.
fn known(bytes: &[u8]) -> Option<Claim> {
    SIGNATURES.iter().find_map(|(what, signature, places)| {
        let at = places.iter().find(|at| {
            let at = usize::try_from(**at).ok();
            at.and_then(|at| bytes.get(at..))
                .is_some_and(|bytes| bytes.starts_with(signature))
        })?;
        Some(Claim {
            what,
            at: DeviceOffset(*at),
        })
    })
}

/// Returns what the bytes of block 0 are called.
pub(super) fn in_block_0<D: ReadAt + ?Sized>(device: &D, lba_size: LbaSize, foreign_at: DeviceOffset) -> Claim {
    let unknown = Claim {
        what: UNKNOWN,
        at: foreign_at,
    };
    known(&readable(
        device,
        DeviceRange::clamped(DeviceOffset(0), lba_size.bytes()),
    ))
    .unwrap_or(unknown)
}

/// Returns what claims the start of a device whose primary table is not valid; `table` is its backup. Bytes that cannot be read claim
/// nothing.
pub(super) fn of_start<D: ReadAt + ?Sized>(device: &D, table: &Table) -> Option<Claim> {
    let start = readable(device, table.head());
    known(&start)
        .or_else(|| in_header(&start, table.lba_size()))
        .or_else(|| in_gap(device, table))
}

/// Returns what stands in the header's block, unless it is a header or what a torn one leaves: persistent memory writes eight bytes at
/// once, and writers zero the signature first and write it last.
fn in_header(start: &[u8], lba_size: LbaSize) -> Option<Claim> {
    let at = DeviceOffset::after(lba_size.bytes());
    let from = usize::try_from(at.0).ok()?;
    let to = from.checked_add(usize::try_from(lba_size.bytes().0).ok()?)?;
    let block = start.get(from..to)?;
    if block.starts_with(SIGNATURE) {
        return None;
    }
    let word = |at: usize| block.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
    let header_size = usize::try_from(HEADER_SIZE).ok()?;
    let torn = word(0) == Some(0)
        // Revision 1.0; the header's size, which may be any.
        && word(8).is_some_and(|word| word == 0 || word & 0xffff_ffff == 0x0001_0000)
        && word(24).is_some_and(|own_lba| own_lba <= 1)
        && block.get(header_size..).is_some_and(|rest| first_set(rest).is_none());
    (!torn).then_some(Claim { what: UNKNOWN, at })
}

/// Returns the first byte in the gap before the backup copy's place that is neither zero nor part of a copy of the super block.
fn in_gap<D: ReadAt + ?Sized>(device: &D, table: &Table) -> Option<Claim> {
    let gap = table.gap();
    let mut at = gap.base();
    while let Some(next) = device.next_data(at)
        && let end = gap.end().min(limit())
        && next < end
    {
        let page_end = next.align_down(COPY).checked_add(COPY)?.min(end);
        let page = DeviceRange::between(next.align_down(COPY).max(at), page_end)?;
        at = page_end;
        let bytes = readable(device, page);
        let ours = page.base().is_aligned(COPY)
            && (page.base() == Which::Primary.offset() || Which::of_signature(&bytes).is_some());
        if let Some(set) = first_set(&bytes)
            && !ours
        {
            let at = page.base().checked_add(Bytes(u64::try_from(set).ok()?))?;
            let start = readable(
                device,
                DeviceRange::clamped(DeviceOffset(0), Which::Primary.offset().distance()),
            );
            return Some(known(&start).unwrap_or(Claim { what: UNKNOWN, at }));
        }
    }
    None
}

/// Returns the bytes of `range`; zeros where they cannot be read.
fn readable<D: ReadAt + ?Sized>(device: &D, range: DeviceRange) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(range.size().0).unwrap_or(0)];
    if device.read_exact_at(range.base(), &mut bytes).is_ok() {
        return bytes;
    }
    let mut at = range.base();
    for page in bytes.chunks_mut(COPY_SIZE) {
        if device.read_exact_at(at, page).is_err() {
            page.fill(0);
        }
        let Some(next) = u64::try_from(page.len())
            .ok()
            .and_then(|size| at.checked_add(Bytes(size)))
        else {
            break;
        };
        at = next;
    }
    bytes
}
