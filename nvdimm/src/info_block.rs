//! The info block of a namespace in fsdax mode: where its block device starts, while no driver is there to say so.
//!
//! Source: Linux `drivers/nvdimm/pfn.h` (`struct nd_pfn_sb`), `pfn_devs.c` (`nd_pfn_validate`, `resource_show`, `size_show`),
//! `label.c` (`nd_fletcher64`).

use crate::mode::Mode;
use std::io;
use uuid::Uuid;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{
    Address as _, Bytes, DeviceOffset, NamespaceOffset, PAGE, PhysAddr, PhysRange, SUPERPAGE,
};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where it stands, from the start of the namespace.
pub const OFFSET: NamespaceOffset = NamespaceOffset(4096);
/// Its bytes.
pub const SIZE: usize = 4096;

/// What an fsdax device begins with.
const FSDAX_SIGNATURE: &[u8; 16] = b"NVDIMM_PFN_INFO\0";
/// What other modes begin with.
const OTHER_SIGNATURES: [(&[u8; 16], Mode); 2] = [
    (b"NVDIMM_DAX_INFO\0", Mode::Devdax),
    (b"BTT_ARENA_INFO\0\0", Mode::Sector),
];

/// Where Linux keeps its own structures for the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMap {
    /// In memory (`--map=mem`).
    Memory,
    /// On the device (`--map=dev`), which Linux cannot do as a PV Dom0.
    Device,
}

/// An fsdax device as its info block describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fsdax {
    /// Its own UUID.
    pub uuid: Uuid,
    /// The UUID of the namespace it was made for, if that has labels.
    pub namespace_uuid: Option<Uuid>,
    /// Where Linux keeps its structures.
    pub map: MemoryMap,
    /// The bytes of the block device.
    pub device_range: PhysRange,
}

/// Why there is no fsdax device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotFsdax {
    /// There is no info block: the namespace is raw.
    #[error("there is no info block")]
    Absent,
    /// It is in a mode without a block device at fixed addresses.
    #[error("the namespace is in {0} mode")]
    OtherMode(Mode),
    /// The checksum is wrong.
    #[error("the info block's checksum is wrong")]
    Checksum,
    /// A version that this program does not know.
    #[error("the info block has version {0}, only 1 is known")]
    Version(u16),
    /// A value that makes no sense.
    #[error("the info block's {0} makes no sense")]
    Value(&'static str),
    /// What it describes does not fit in the namespace.
    #[error("what the info block describes does not fit in the namespace {0}")]
    Outside(PhysRange),
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Block {
    signature: [u8; 16],
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    flags: U32,
    version_major: U16,
    version_minor: U16,
    data_offset: U64,
    frames: U64,
    mode: U32,
    start_pad: U32,
    end_truncated: U32,
    align: U32,
    page_size: U32,
    page_struct_size: U16,
    padding: [u8; 3994],
    checksum: U64,
}

const _: () = assert!(size_of::<Block>() == SIZE);

/// Returns the bytes at `offset` of a namespace that `bytes` shows from its start, as the block device of a raw namespace does.
///
/// # Errors
///
/// If they cannot be read.
pub fn read_at(bytes: &impl ReadAt, offset: NamespaceOffset) -> io::Result<[u8; SIZE]> {
    let mut block = [0; SIZE];
    bytes.read_exact_at(DeviceOffset::after(offset.distance()), &mut block)?;
    Ok(block)
}

/// Reads the info block whose bytes stand at [`OFFSET`] of `namespace`.
///
/// # Errors
///
/// Why an fsdax device that the bytes describe is not credible.
pub fn fsdax(bytes: &[u8; SIZE], namespace: PhysRange) -> Result<Fsdax, NotFsdax> {
    let block: &Block = zerocopy::transmute_ref!(bytes);
    if block.signature != *FSDAX_SIGNATURE {
        let other = OTHER_SIGNATURES
            .iter()
            .find(|(signature, _)| block.signature == **signature);
        return Err(other.map_or(NotFsdax::Absent, |(_, mode)| NotFsdax::OtherMode(*mode)));
    }
    if checksum(bytes) != block.checksum.get() {
        return Err(NotFsdax::Checksum);
    }
    if block.version_major.get() != 1 {
        return Err(NotFsdax::Version(block.version_major.get()));
    }
    let map = match block.mode.get() {
        1 => MemoryMap::Memory,
        2 => MemoryMap::Device,
        _ => return Err(NotFsdax::Value("mode")),
    };
    // Before minor version 1 there was no padding, and its fields were not zeroed.
    let padded = block.version_minor.get() >= 1;
    let (start_pad, end_truncated) = if padded {
        (block.start_pad.get(), block.end_truncated.get())
    } else {
        (0, 0)
    };
    let data_offset = Bytes(block.data_offset.get());
    // The info block itself lies before the data.
    if data_offset < RESERVE {
        return Err(NotFsdax::Value("data offset"));
    }
    let start = namespace
        .base()
        .checked_add(data_offset)
        .and_then(|start| start.checked_add(Bytes(start_pad.into())));
    let size = namespace.size().checked_sub(Bytes(end_truncated.into()));
    let end = size.and_then(|size| namespace.base().checked_add(size));
    let device_range = start
        .zip(end)
        .and_then(|(start, end)| PhysRange::between(start, end))
        .filter(|range| !range.is_empty() && namespace.contains(*range))
        .ok_or(NotFsdax::Outside(namespace))?;
    Ok(Fsdax {
        uuid: Uuid::from_bytes(block.uuid),
        namespace_uuid: Some(Uuid::from_bytes(block.parent_uuid)).filter(|uuid| !uuid.is_nil()),
        map,
        device_range,
    })
}

/// The version of a new info block. Minor version 4 says that the page fields count.
const VERSION: (u16, u16) = (1, 4);
/// What Linux plans for a `struct page` (`MAX_STRUCT_PAGE_SIZE`).
const PAGE_STRUCT_SIZE: u16 = 64;
/// What the info block and the page before it take.
const RESERVE: Bytes = Bytes(8192);

/// Why a namespace cannot have an info block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsuitable {
    /// It does not start where a huge page does.
    #[error("it starts at {0}, which is not a multiple of 2 MiB")]
    Start(PhysAddr),
    /// No page is left for data.
    #[error("it has {0}, which leaves nothing for data after the first 2 MiB")]
    Size(Bytes),
}

/// Makes the info block with which a namespace without labels comes up in fsdax mode with its memory map in memory: the bytes that
/// Linux 6.12 writes for `ndctl create-namespace --mode=fsdax --map=mem`, to stand at [`OFFSET`].
///
/// Only the namespace's address modulo 2 MiB matters, so the info block is valid at every guest address that is equal modulo 2 MiB.
///
/// # Errors
///
/// If Linux would not make one.
pub fn encode(uuid: Uuid, namespace: PhysRange) -> Result<[u8; SIZE], Unsuitable> {
    if !namespace.base().is_aligned(SUPERPAGE) {
        return Err(Unsuitable::Start(namespace.base()));
    }
    let small = Unsuitable::Size(namespace.size());
    let data_offset = RESERVE.align_up(SUPERPAGE).ok_or(small)?;
    let usable = namespace.size().align_down(SUPERPAGE);
    let end_truncated = namespace.size().checked_sub(usable).ok_or(small)?;
    let data = usable.checked_sub(data_offset).filter(|data| data.0 > 0).ok_or(small)?;
    let frames = data.0.checked_div(PAGE.0).ok_or(small)?;
    let narrow = |bytes: Bytes| u32::try_from(bytes.0).map(U32::new).map_err(|_| small);
    let mut block = Block {
        signature: *FSDAX_SIGNATURE,
        uuid: uuid.into_bytes(),
        parent_uuid: [0; 16],
        flags: U32::ZERO,
        version_major: U16::new(VERSION.0),
        version_minor: U16::new(VERSION.1),
        data_offset: U64::new(data_offset.0),
        frames: U64::new(frames),
        mode: U32::new(1),
        start_pad: U32::ZERO,
        end_truncated: narrow(end_truncated)?,
        align: narrow(SUPERPAGE)?,
        page_size: narrow(PAGE)?,
        page_struct_size: U16::new(PAGE_STRUCT_SIZE),
        padding: [0; 3994],
        checksum: U64::ZERO,
    };
    block.checksum = U64::new(checksum(zerocopy::transmute_ref!(&block)));
    Ok(zerocopy::transmute!(block))
}

/// Fletcher's checksum over 32-bit words, the checksum's own field taken as zero.
fn checksum(bytes: &[u8; SIZE]) -> u64 {
    let (words, _) = bytes.as_chunks::<4>();
    let content = words.len().saturating_sub(2);
    let (mut low, mut high) = (0u32, 0u64);
    for (index, word) in words.iter().enumerate() {
        let word = if index < content { u32::from_le_bytes(*word) } else { 0 };
        low = low.wrapping_add(word);
        high = high.wrapping_add(u64::from(low));
    }
    high << 32 | u64::from(low)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    pub(crate) fn namespace() -> PhysRange {
        PhysRange::new(PhysAddr(1 << 32), Bytes(512 * MIB)).unwrap()
    }

    pub(crate) fn block(change: impl FnOnce(&mut [u8; SIZE])) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..16].copy_from_slice(FSDAX_SIGNATURE);
        bytes[16] = 1;
        bytes[52] = 1;
        bytes[54] = 4;
        bytes[56..64].copy_from_slice(&(2 * MIB).to_le_bytes());
        bytes[72] = 1;
        change(&mut bytes);
        let sum = checksum(&bytes);
        bytes[4088..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn the_device_starts_behind_the_data_offset() {
        let found = fsdax(&block(|_| {}), namespace()).unwrap();
        let expected = PhysRange::new(PhysAddr((1 << 32) + 2 * MIB), Bytes(510 * MIB)).unwrap();
        assert_eq!((found.device_range, found.map), (expected, MemoryMap::Memory));
        let padded = block(|b| {
            b[76..80].copy_from_slice(&u32::try_from(MIB).unwrap().to_le_bytes());
            b[80..84].copy_from_slice(&u32::try_from(3 * MIB).unwrap().to_le_bytes());
            b[72] = 2;
        });
        let found = fsdax(&padded, namespace()).unwrap();
        let expected = PhysRange::new(PhysAddr((1 << 32) + 3 * MIB), Bytes(506 * MIB)).unwrap();
        assert_eq!((found.device_range, found.map), (expected, MemoryMap::Device));
    }

    #[test]
    fn what_is_written_reads_back_and_only_huge_pages_hold_data() {
        let uuid = Uuid::from_u128(9);
        for (base, size, data) in [
            (1 << 32, 512 * MIB, 510 * MIB),
            ((1 << 32) + 8 * MIB, 16 * MIB, 14 * MIB),
            (2 * MIB, 5 * MIB, 2 * MIB),
            (0, 1 << 43, (1 << 43) - 2 * MIB),
        ] {
            let namespace = PhysRange::new(PhysAddr(base), Bytes(size)).unwrap();
            let bytes = encode(uuid, namespace).unwrap();
            let expected = Fsdax {
                uuid,
                namespace_uuid: None,
                map: MemoryMap::Memory,
                device_range: PhysRange::new(PhysAddr(base + 2 * MIB), Bytes(data)).unwrap(),
            };
            assert_eq!(fsdax(&bytes, namespace), Ok(expected));
            // The bytes are the same at every address, as long as huge pages fit.
            let elsewhere = PhysRange::new(PhysAddr(base + (6 << 30)), Bytes(size)).unwrap();
            assert_eq!(encode(uuid, elsewhere), Ok(bytes));
            let frames = u64::from_le_bytes(bytes[64..72].try_into().unwrap());
            assert_eq!(frames * 4096, data);
        }
        let refused = |base, size| encode(uuid, PhysRange::new(PhysAddr(base), Bytes(size)).unwrap()).unwrap_err();
        assert_eq!(refused(MIB, 16 * MIB), Unsuitable::Start(PhysAddr(MIB)));
        for size in [0, MIB, 2 * MIB, 4 * MIB - 1] {
            assert_eq!(refused(0, size), Unsuitable::Size(Bytes(size)));
        }
    }

    #[test]
    fn what_is_no_fsdax_info_block_is_refused() {
        assert_eq!(fsdax(&[0; SIZE], namespace()), Err(NotFsdax::Absent));
        let renamed = |signature: &[u8; 16]| block(|b| b[..16].copy_from_slice(signature));
        assert_eq!(
            fsdax(&renamed(b"NVDIMM_DAX_INFO\0"), namespace()),
            Err(NotFsdax::OtherMode(Mode::Devdax))
        );
        assert_eq!(
            fsdax(&renamed(b"BTT_ARENA_INFO\0\0"), namespace()),
            Err(NotFsdax::OtherMode(Mode::Sector))
        );
        let mut flipped = block(|_| {});
        flipped[100] ^= 1;
        assert_eq!(fsdax(&flipped, namespace()), Err(NotFsdax::Checksum));
        assert_eq!(fsdax(&block(|b| b[52] = 2), namespace()), Err(NotFsdax::Version(2)));
        assert_eq!(fsdax(&block(|b| b[72] = 3), namespace()), Err(NotFsdax::Value("mode")));
        assert_eq!(
            fsdax(&block(|b| b[56..64].fill(0)), namespace()),
            Err(NotFsdax::Value("data offset"))
        );
        for change in [(56..64, 0xff), (80..84, 0xff)] {
            let bytes = block(|b| b[change.0.clone()].fill(change.1));
            assert_eq!(fsdax(&bytes, namespace()), Err(NotFsdax::Outside(namespace())));
        }
    }
}
