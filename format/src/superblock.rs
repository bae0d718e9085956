//! The super block: what one 4 KiB copy says, its bytes, and the checks before any of it is believed.
//!
//! The layout is specified in `docs/format.md`; the offsets here are checked at compile time.

use crate::checksum::crc32c;
use crate::sizing::EntrySizes;
use crate::units::{Address, Bytes, DeviceOffset, DeviceRange, NamespaceOffset, PhysAddr, SUPERPAGE};
use core::fmt;
use core::mem::{offset_of, size_of};
use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The bytes of one copy: one page.
pub const COPY_SIZE: usize = 4096;
/// The bytes of one copy, as a size.
pub const COPY: Bytes = Bytes(4096);
/// The bytes of a copy that carry meaning in this version; the rest is zero.
pub const HEADER_SIZE: u32 = 208;
/// The bytes of a copy that follow them.
const REST_SIZE: usize = 3888;
/// The layout's version: another major version is another layout.
pub const VERSION_MAJOR: u16 = 1;
/// The layout's minor version: additions that older readers may ignore.
pub const VERSION_MINOR: u16 = 0;
/// The longest creator string, in bytes of UTF-8.
pub const CREATOR_SIZE: usize = 32;

/// Which of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The one at 512 KiB.
    Primary,
    /// The one at 1536 KiB.
    Backup,
}

impl Which {
    /// Both, in the order of their offsets.
    pub const BOTH: [Self; 2] = [Self::Primary, Self::Backup];

    /// Returns where this copy is written. The two are 1 MiB apart; both are clear of the places where other tools keep signatures
    /// (4 KiB: libnvdimm, mdadm; 64 KiB: btrfs; up to 512 KiB: ZFS).
    pub const fn offset(self) -> DeviceOffset {
        match self {
            Self::Primary => DeviceOffset(512 << 10),
            Self::Backup => DeviceOffset(1536 << 10),
        }
    }

    /// Returns the bytes where this copy is written.
    pub fn range(self) -> DeviceRange {
        DeviceRange::clamped(self.offset(), COPY)
    }

    /// Returns the first eight bytes of this copy.
    pub const fn signature(self) -> [u8; 8] {
        match self {
            Self::Primary => *b"XenPmemP",
            Self::Backup => *b"XenPmemB",
        }
    }

    /// Returns the other copy.
    pub const fn other(self) -> Self {
        match self {
            Self::Primary => Self::Backup,
            Self::Backup => Self::Primary,
        }
    }

    /// Returns the value of the field `copy`.
    const fn code(self) -> u32 {
        match self {
            Self::Primary => 0,
            Self::Backup => 1,
        }
    }

    /// Returns the copy whose signature `bytes` begin with.
    pub fn of_signature(bytes: &[u8]) -> Option<Self> {
        Self::BOTH
            .into_iter()
            .find(|which| bytes.starts_with(&which.signature()))
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        })
    }
}

/// The bits of the feature masks that this version knows: none yet.
const KNOWN_FEATURES: u64 = 0;

/// One copy as it stands on the device.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Page {
    signature: [u8; 8],
    version_major: U16,
    version_minor: U16,
    header_size: U32,
    checksum: U32,
    copy: U32,
    features_compatible: U64,
    features_read_only: U64,
    features_incompatible: U64,
    sequence: U64,
    own_offset: U64,
    uuid: [u8; 16],
    disk_guid: [u8; 16],
    device_size: U64,
    reserved_base: U64,
    reserved_size: U64,
    page_size: U32,
    frame_table_entry: U32,
    m2p_entry: U32,
    compat_m2p_entry: U32,
    namespace_size: U64,
    device_in_namespace: U64,
    address_hint: U64,
    created: U64,
    updated: U64,
    creator: [u8; CREATOR_SIZE],
    rest: [u8; REST_SIZE],
}

const _: () = {
    assert!(size_of::<Page>() == COPY_SIZE);
    assert!(offset_of!(Page, version_major) == 8);
    assert!(offset_of!(Page, header_size) == 12);
    assert!(offset_of!(Page, checksum) == 16);
    assert!(offset_of!(Page, copy) == 20);
    assert!(offset_of!(Page, features_compatible) == 24);
    assert!(offset_of!(Page, sequence) == 48);
    assert!(offset_of!(Page, own_offset) == 56);
    assert!(offset_of!(Page, uuid) == 64);
    assert!(offset_of!(Page, disk_guid) == 80);
    assert!(offset_of!(Page, device_size) == 96);
    assert!(offset_of!(Page, reserved_base) == 104);
    assert!(offset_of!(Page, page_size) == 120);
    assert!(offset_of!(Page, namespace_size) == 136);
    assert!(offset_of!(Page, address_hint) == 152);
    assert!(offset_of!(Page, created) == 160);
    assert!(offset_of!(Page, creator) == 176);
    assert!(offset_of!(Page, rest) == 208);
};

/// What the area was sized for, kept so that a reader can tell whether it still suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The entry sizes that the need was computed with.
    pub entries: EntrySizes,
    /// The bytes of the namespace that the reservation serves, the kernel's own part included.
    pub namespace_size: Bytes,
    /// Where the block device starts within the namespace: 0 in raw mode, past the info block and the memory map in fsdax mode.
    pub device_in_namespace: NamespaceOffset,
}

/// Bits that say which additions a copy uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// A reader that does not know one of these may read and write.
    pub compatible: u64,
    /// A reader that does not know one of these may read, and must not write.
    pub read_only: u64,
    /// A reader that does not know one of these must not read on.
    pub incompatible: u64,
}

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

/// The name and version of the program that wrote a super block: at most 32 bytes of UTF-8 without control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creator([u8; CREATOR_SIZE]);

impl Creator {
    /// Returns the creator called `name`; `None` if it is too long or has a control character.
    pub fn new(name: &str) -> Option<Self> {
        if name.chars().any(char::is_control) {
            return None;
        }
        let mut bytes = [0; CREATOR_SIZE];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self(bytes))
    }

    fn from_bytes(bytes: [u8; CREATOR_SIZE]) -> Option<Self> {
        let creator = Self::new(core::str::from_utf8(&bytes).ok()?.trim_end_matches('\0'))?;
        (creator.0 == bytes).then_some(creator)
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default().trim_end_matches('\0')
    }
}

/// What a super block says: the content that both copies share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuperBlock {
    /// Counts the writes: the copy with the higher one is the newer. Starts at 1.
    pub sequence: u64,
    /// Names the reservation, for as long as it exists.
    pub uuid: Uuid,
    /// The disk GUID of the partition table that the reservation belongs to.
    pub disk_guid: Uuid,
    /// The bytes of the block device that it was written for.
    pub device_size: Bytes,
    /// The area reserved for Xen.
    pub reserved: DeviceRange,
    /// What the area was sized for.
    pub planned: Planned,
    /// Where the device started in physical address space when this was written. A hint for people; never trusted.
    pub address_hint: Option<PhysAddr>,
    /// When the reservation was made.
    pub created: UnixTime,
    /// When this version of it was written.
    pub updated: UnixTime,
    /// What wrote it.
    pub creator: Creator,
    /// Which additions it uses.
    pub features: Features,
}

/// Why 4096 bytes are not a valid copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotACopy {
    /// Neither copy's signature.
    #[error("the signature of a super block is missing")]
    NoSignature,
    /// The checksum is wrong.
    #[error("checksum {found:#010x} does not match the content's {computed:#010x}")]
    Checksum {
        /// What the copy says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Another layout.
    #[error("format version {major}.{minor} is not known (this program knows version {VERSION_MAJOR})")]
    Version {
        /// The major version found.
        major: u16,
        /// The minor version found.
        minor: u16,
    },
    /// It uses features that this program must know to read it.
    #[error("needs features {0:#x} that this program does not know")]
    Features(u64),
    /// The header is smaller than this version's, or larger than the page.
    #[error("header size {0} is out of range")]
    HeaderSize(u32),
    /// The signature is one copy's, the field `copy` says another.
    #[error("signature and copy number {0} contradict each other")]
    CopyNumber(u32),
    /// It was written for another place.
    #[error("was written for offset {says} but is at {found}")]
    Place {
        /// Where it says that it stands.
        says: DeviceOffset,
        /// Where it was found.
        found: DeviceOffset,
    },
    /// A field that must not be zero is.
    #[error("{0} is zero")]
    Zero(&'static str),
    /// The reserved area's end does not fit in 64 bits, or lies past the device's.
    #[error("reserved area at {base} of {size} does not fit in a device of {device_size}")]
    ReservedOutside {
        /// The area's base.
        base: DeviceOffset,
        /// The area's size.
        size: Bytes,
        /// The device's size, as the copy says it.
        device_size: Bytes,
    },
    /// The reserved area is not made of whole superpages, or does not start on a page.
    #[error("reserved area at {base} of {size} is misaligned (base: 4 KiB, size: 2 MiB)")]
    ReservedMisaligned {
        /// The area's base.
        base: DeviceOffset,
        /// The area's size.
        size: Bytes,
    },
    /// The reserved area covers a copy of the super block.
    #[error("reserved area {0} covers a copy of the super block")]
    ReservedCoversCopy(DeviceRange),
    /// Xen cannot have the sizes that it was planned with.
    #[error("was planned with entry sizes that make no sense ({0})")]
    EntrySizes(EntrySizes),
    /// The creator is not text.
    #[error("the creator's name is not text")]
    Creator,
}

/// Returns the checksum of a copy: CRC-32C of the whole page, the checksum's own field taken as zero.
fn checksum(page: &Page) -> u32 {
    let bytes = page.as_bytes();
    let (before, rest) = bytes
        .split_at_checked(offset_of!(Page, checksum))
        .unwrap_or((bytes, &[]));
    let after = rest.get(size_of::<U32>()..).unwrap_or(&[]);
    crc32c(&[before, &[0; size_of::<U32>()], after])
}

fn entry_field(entry: Bytes) -> U32 {
    U32::new(u32::try_from(entry.0).unwrap_or(u32::MAX))
}

fn entry(field: U32) -> Bytes {
    Bytes(u64::from(field.get()))
}

impl SuperBlock {
    /// Returns the bytes of copy `which`, for its fixed place on the device.
    pub fn encode(&self, which: Which) -> [u8; COPY_SIZE] {
        self.encode_at(which, which.offset())
    }

    /// Returns the bytes of copy `which`, for a place of the writer's choice: a 4 KiB-aligned offset in the gap between the partition
    /// table and the first partition.
    pub fn encode_at(&self, which: Which, offset: DeviceOffset) -> [u8; COPY_SIZE] {
        zerocopy::transmute!(self.page(which, offset, VERSION_MINOR, HEADER_SIZE, [0; _]))
    }

    /// Returns the bytes of copy `which` for `offset`, with all that this version does not know taken from `base`, a valid copy of the same
    /// reservation: the minor version, the header size and the bytes behind the known fields.
    pub fn encode_over(&self, base: &[u8; COPY_SIZE], which: Which, offset: DeviceOffset) -> [u8; COPY_SIZE] {
        let base: Page = zerocopy::transmute!(*base);
        let (minor, header_size) = (base.version_minor.get(), base.header_size.get());
        zerocopy::transmute!(self.page(which, offset, minor, header_size, base.rest))
    }

    fn page(&self, which: Which, offset: DeviceOffset, minor: u16, header_size: u32, rest: [u8; REST_SIZE]) -> Page {
        let mut page = Page {
            signature: which.signature(),
            version_major: U16::new(VERSION_MAJOR),
            version_minor: U16::new(minor),
            header_size: U32::new(header_size),
            checksum: U32::new(0),
            copy: U32::new(which.code()),
            features_compatible: U64::new(self.features.compatible),
            features_read_only: U64::new(self.features.read_only),
            features_incompatible: U64::new(self.features.incompatible),
            sequence: U64::new(self.sequence),
            own_offset: U64::new(offset.0),
            uuid: self.uuid.into_bytes(),
            disk_guid: self.disk_guid.to_bytes_le(),
            device_size: U64::new(self.device_size.0),
            reserved_base: U64::new(self.reserved.base().0),
            reserved_size: U64::new(self.reserved.size().0),
            page_size: entry_field(self.planned.entries.page),
            frame_table_entry: entry_field(self.planned.entries.frame_table),
            m2p_entry: entry_field(self.planned.entries.m2p),
            compat_m2p_entry: entry_field(self.planned.entries.compat_m2p),
            namespace_size: U64::new(self.planned.namespace_size.0),
            device_in_namespace: U64::new(self.planned.device_in_namespace.0),
            address_hint: U64::new(self.address_hint.map_or(0, |address| address.0)),
            created: U64::new(self.created.0),
            updated: U64::new(self.updated.0),
            creator: self.creator.0,
            rest,
        };
        page.checksum = U32::new(checksum(&page));
        page
    }

    /// Reads and checks the copy whose bytes stand at `found` on the device.
    ///
    /// The caller checks what this function cannot see: whether the partition table is the one named, whether the device has the size
    /// named, whether a partition overlaps the reserved area.
    ///
    /// # Errors
    ///
    /// The first of [`NotACopy`]'s reasons that applies.
    pub fn decode(bytes: &[u8; COPY_SIZE], found: DeviceOffset) -> Result<(Which, Self), NotACopy> {
        let page: Page = zerocopy::transmute!(*bytes);
        let which = Which::of_signature(&page.signature).ok_or(NotACopy::NoSignature)?;
        let computed = checksum(&page);
        if page.checksum.get() != computed {
            return Err(NotACopy::Checksum {
                found: page.checksum.get(),
                computed,
            });
        }
        check_header(&page, which, found)?;
        let content = Self::from_page(&page)?;
        Ok((which, content))
    }

    fn from_page(page: &Page) -> Result<Self, NotACopy> {
        for (value, name) in [
            (page.sequence.get(), "the sequence number"),
            (page.reserved_size.get(), "the size of the reserved area"),
            (page.reserved_base.get(), "the base of the reserved area"),
            (page.namespace_size.get(), "the size of the namespace"),
            (u64::from(page.page_size.get()), "the page size"),
            (
                u64::from(page.frame_table_entry.get()),
                "the size of a frame table entry",
            ),
            (u64::from(page.m2p_entry.get()), "the size of an M2P entry"),
        ] {
            if value == 0 {
                return Err(NotACopy::Zero(name));
            }
        }
        let uuid = Uuid::from_bytes(page.uuid);
        let disk_guid = Uuid::from_bytes_le(page.disk_guid);
        if uuid.is_nil() {
            return Err(NotACopy::Zero("the reservation's UUID"));
        }
        if disk_guid.is_nil() {
            return Err(NotACopy::Zero("the disk GUID"));
        }
        let entries = EntrySizes {
            page: entry(page.page_size),
            frame_table: entry(page.frame_table_entry),
            m2p: entry(page.m2p_entry),
            compat_m2p: entry(page.compat_m2p_entry),
        };
        if !entries.are_possible() {
            return Err(NotACopy::EntrySizes(entries));
        }
        let device_size = Bytes(page.device_size.get());
        let reserved = reserved_range(page, device_size)?;
        Ok(Self {
            sequence: page.sequence.get(),
            uuid,
            disk_guid,
            device_size,
            reserved,
            planned: Planned {
                entries,
                namespace_size: Bytes(page.namespace_size.get()),
                device_in_namespace: NamespaceOffset(page.device_in_namespace.get()),
            },
            address_hint: Some(PhysAddr(page.address_hint.get())).filter(|hint| hint.0 != 0),
            created: UnixTime(page.created.get()),
            updated: UnixTime(page.updated.get()),
            creator: Creator::from_bytes(page.creator).ok_or(NotACopy::Creator)?,
            features: Features {
                compatible: page.features_compatible.get(),
                read_only: page.features_read_only.get(),
                incompatible: page.features_incompatible.get(),
            },
        })
    }

    /// Returns the features that forbid this program to write a new version of the super block; zero if it may.
    pub fn unknown_read_only_features(&self) -> u64 {
        self.features.read_only & !KNOWN_FEATURES
    }
}

fn check_header(page: &Page, which: Which, found: DeviceOffset) -> Result<(), NotACopy> {
    if page.version_major.get() != VERSION_MAJOR {
        return Err(NotACopy::Version {
            major: page.version_major.get(),
            minor: page.version_minor.get(),
        });
    }
    let unknown = page.features_incompatible.get() & !KNOWN_FEATURES;
    if unknown != 0 {
        return Err(NotACopy::Features(unknown));
    }
    let header_size = page.header_size.get();
    if header_size < HEADER_SIZE || u64::from(header_size) > COPY.0 {
        return Err(NotACopy::HeaderSize(header_size));
    }
    if page.copy.get() != which.code() {
        return Err(NotACopy::CopyNumber(page.copy.get()));
    }
    let says = DeviceOffset(page.own_offset.get());
    if says != found {
        return Err(NotACopy::Place { says, found });
    }
    Ok(())
}

fn reserved_range(page: &Page, device_size: Bytes) -> Result<DeviceRange, NotACopy> {
    let base = DeviceOffset(page.reserved_base.get());
    let size = Bytes(page.reserved_size.get());
    let reserved = DeviceRange::new(base, size)
        .filter(|reserved| reserved.end() <= DeviceOffset::after(device_size))
        .ok_or(NotACopy::ReservedOutside {
            base,
            size,
            device_size,
        })?;
    if !base.is_aligned(COPY) || !size.is_aligned(SUPERPAGE) {
        return Err(NotACopy::ReservedMisaligned { base, size });
    }
    let own = DeviceRange::clamped(DeviceOffset(page.own_offset.get()), COPY);
    if Which::BOTH
        .into_iter()
        .map(Which::range)
        .chain([own])
        .any(|copy| copy.overlaps(reserved))
    {
        return Err(NotACopy::ReservedCoversCopy(reserved));
    }
    Ok(reserved)
}

#[cfg(test)]
#[path = "superblock_tests.rs"]
pub(crate) mod tests;
