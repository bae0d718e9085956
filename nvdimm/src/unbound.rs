//! A namespace that no driver is bound to: what device it will present once nd_pmem binds it.
//!
//! The same decision as the kernel's, from the namespace's bytes. Source: Linux 6.12, `drivers/nvdimm/pmem.c` (`nd_pmem_probe`: BTT, then
//! pfn, then dax, else raw), `btt_devs.c` (`nd_btt_version`: at 4 KiB, or for labelled namespaces at 0), `pfn_devs.c` (`nd_pfn_validate`:
//! ignores an info block of another namespace).

use crate::info_block::{self, Fsdax, MemoryMap, NotFsdax};
use crate::mode::Mode;
use crate::obstacle::Obstacle;
use std::io;
use uuid::Uuid;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Address as _, LbaSize, NamespaceOffset, PhysAddr, PhysRange, SECTOR};

/// What sysfs, or the firmware, says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unbound {
    /// The UUID that labels give it, if it has labels.
    pub uuid: Option<Uuid>,
    /// Whether it was forced to raw mode, regardless of its content.
    pub force_raw: bool,
    /// The logical block size that its block device will have, if it is known.
    pub lba_size: Option<LbaSize>,
    /// Known media errors.
    pub bad: Vec<PhysRange>,
}

/// What it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WillBe {
    /// A block device of these bytes.
    Block(Mode, PhysRange),
    /// A device that cannot hold a reservation.
    Unusable(Mode, Obstacle),
}

/// Returns what will become of the namespace at `range` whose bytes are `bytes`.
///
/// # Errors
///
/// If the bytes cannot be read.
pub fn foresee(unbound: &Unbound, range: PhysRange, bytes: &impl ReadAt) -> io::Result<WillBe> {
    let raw = Ok(WillBe::Block(Mode::Raw, range));
    if unbound.force_raw {
        return raw;
    }
    let block = info_block::read_at(bytes, NamespaceOffset(0))?;
    if let Err(NotFsdax::OtherMode(Mode::Sector)) = info_block::fsdax(&block, range) {
        return Ok(WillBe::Unusable(Mode::Sector, Obstacle::Sector));
    }
    let block = info_block::read_at(bytes, info_block::OFFSET)?;
    match info_block::fsdax(&block, range) {
        Err(NotFsdax::Absent) => raw,
        Ok(Fsdax { namespace_uuid, .. }) if namespace_uuid != unbound.uuid => raw,
        Ok(Fsdax {
            map: MemoryMap::Device, ..
        }) => Ok(WillBe::Unusable(Mode::Fsdax, Obstacle::MapOnDevice)),
        Ok(Fsdax { device_range, .. }) => Ok(WillBe::Block(Mode::Fsdax, device_range)),
        Err(NotFsdax::OtherMode(Mode::Sector)) => Ok(WillBe::Unusable(Mode::Sector, Obstacle::Sector)),
        Err(NotFsdax::OtherMode(_)) => Ok(WillBe::Unusable(Mode::Devdax, Obstacle::Devdax)),
        // What the driver will make of it is hard to foresee, and there is no hurry: the report can wait for the driver.
        Err(error) => Ok(WillBe::Unusable(Mode::Fsdax, error.into())),
    }
}

/// Reads media errors as the attribute `badblocks` lists them: a line for each run, with its first 512-byte sector, counted from `base`,
/// and its number of sectors (Linux `block/badblocks.c`, `badblocks_show`). `None` if the text is something else.
pub fn bad_blocks(text: &str, base: PhysAddr) -> Option<Vec<PhysRange>> {
    text.lines()
        .map(|line| {
            let (first, count) = line.trim().split_once(char::is_whitespace)?;
            let bytes = |number: &str| SECTOR.checked_mul(number.trim().parse().ok()?);
            PhysRange::new(base.checked_add(bytes(first)?)?, bytes(count)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info_block::tests::{block, namespace};
    use xen_pmem_format::units::Bytes;

    /// Returns a namespace with `info` at its 4 KiB.
    fn bytes(info: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 16384];
        bytes[4096..4096 + info.len()].copy_from_slice(info);
        bytes
    }

    fn foreseen(unbound: &Unbound, bytes: &Vec<u8>) -> WillBe {
        foresee(unbound, namespace(), bytes).unwrap()
    }

    #[test]
    fn the_mode_is_what_the_driver_will_make_of_the_bytes() {
        let unbound = Unbound::default();
        let raw = WillBe::Block(Mode::Raw, namespace());
        assert_eq!(foreseen(&unbound, &bytes(&[])), raw);
        let fsdax = bytes(&block(|_| {}));
        let WillBe::Block(Mode::Fsdax, range) = foreseen(&unbound, &fsdax) else {
            panic!("{:?}", foreseen(&unbound, &fsdax));
        };
        assert_eq!(range.base().0, namespace().base().0 + (2 << 20));
        assert_eq!(range.end(), namespace().end());
        let forced = Unbound {
            force_raw: true,
            ..Unbound::default()
        };
        assert_eq!(foreseen(&forced, &fsdax), raw);
        let labelled = Unbound {
            uuid: Some(Uuid::from_u128(7)),
            ..Unbound::default()
        };
        assert_eq!(
            foreseen(&labelled, &fsdax),
            raw,
            "the info block is another namespace's"
        );
        let on_device = bytes(&block(|block| block[72] = 2));
        assert_eq!(
            foreseen(&unbound, &on_device),
            WillBe::Unusable(Mode::Fsdax, Obstacle::MapOnDevice)
        );
        let mut damaged = fsdax.clone();
        damaged[4096 + 60] ^= 1;
        assert_eq!(
            foreseen(&unbound, &damaged),
            WillBe::Unusable(Mode::Fsdax, Obstacle::InfoBlock(NotFsdax::Checksum))
        );
        let devdax = bytes(b"NVDIMM_DAX_INFO\0");
        assert_eq!(
            foreseen(&unbound, &devdax),
            WillBe::Unusable(Mode::Devdax, Obstacle::Devdax)
        );
        let mut sector = bytes(b"BTT_ARENA_INFO\0\0");
        assert_eq!(
            foreseen(&unbound, &sector),
            WillBe::Unusable(Mode::Sector, Obstacle::Sector)
        );
        sector.rotate_left(4096);
        assert_eq!(
            foreseen(&unbound, &sector),
            WillBe::Unusable(Mode::Sector, Obstacle::Sector)
        );
        foresee(&unbound, namespace(), &vec![0; 4096]).unwrap_err();
    }

    #[test]
    fn bad_blocks_are_read() {
        let range = |base, size| PhysRange::new(PhysAddr(base), Bytes(size)).unwrap();
        let found = bad_blocks("8 1\n16 8\n", PhysAddr(1 << 32));
        assert_eq!(
            found,
            Some(vec![range((1 << 32) + 4096, 512), range((1 << 32) + 8192, 4096)])
        );
        assert_eq!(bad_blocks("", PhysAddr(0)), Some(Vec::new()));
        for text in ["8", "a b", "8 -1", "18446744073709551615 1"] {
            assert_eq!(bad_blocks(text, PhysAddr(0)), None, "{text}");
        }
    }
}
