//! Where a guest finds its partitions.

use xen_pmem_format::units::{Address as _, Bytes, PAGE, PhysAddr, PhysRange};

/// A guest's memory ends here, or continues here.
const LOW_END: Bytes = Bytes(4 << 30);
/// Addresses of host and guest are the same modulo this: as much as the largest page that can map them.
const CONGRUENT: Bytes = Bytes(1 << 30);

/// A partition, and where the guest finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its machine addresses.
    pub machine: PhysRange,
    /// Its addresses in the guest.
    pub guest: PhysRange,
}

impl Placed {
    /// Returns the entry of `iomem=` in the guest's configuration: frame numbers, all hexadecimal. `None` if it is not made of whole pages.
    pub fn iomem(&self) -> Option<String> {
        let frame = |address: PhysAddr| {
            let is_page = address.is_aligned(PAGE) && self.machine.size().is_aligned(PAGE);
            is_page.then(|| address.0.checked_div(PAGE.0)).flatten()
        };
        let (machine, guest) = (frame(self.machine.base())?, frame(self.guest.base())?);
        let count = self.machine.size().0.checked_div(PAGE.0)?;
        Some(format!("{machine:x},{count:x}@{guest:x}"))
    }
}

/// Places partitions in the address space of a guest that has at most `memory`: above its memory, one behind the other, each at an
/// address that Xen can map with large pages. `None` if the address space is too small.
pub fn place(machine: &[PhysRange], memory: Bytes) -> Option<Vec<Placed>> {
    let mut next = PhysAddr::after(LOW_END.checked_add(memory)?);
    let mut all = Vec::new();
    for range in machine {
        let within = Bytes(range.base().0.checked_rem(CONGRUENT.0)?);
        let base = next.align_up(CONGRUENT)?.checked_add(within)?;
        let guest = PhysRange::new(base, range.size())?;
        all.push(Placed { machine: *range, guest });
        next = guest.end();
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn guests_find_partitions_above_their_memory_apart_and_congruent(
            ranges in prop::collection::vec((0u64..1 << 30, 1u64..1 << 26), 1..8),
            memory in 0u64..1 << 44,
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(base, size)| {
                PhysRange::new(PhysAddr(base * PAGE.0), Bytes(size * PAGE.0)).unwrap()
            }).collect();
            let placed = place(&ranges, Bytes(memory)).unwrap();
            prop_assert_eq!(placed.len(), ranges.len());
            let mut end = PhysAddr((4 << 30) + memory);
            for (placed, range) in placed.iter().zip(&ranges) {
                prop_assert_eq!(placed.machine, *range);
                prop_assert_eq!(placed.guest.size(), range.size());
                prop_assert!(placed.guest.base() >= end);
                prop_assert_eq!(placed.guest.base().0 % (1 << 30), range.base().0 % (1 << 30));
                end = placed.guest.end();
            }
        }
    }

    #[test]
    fn iomem_has_frame_numbers() {
        let range = |base, size| PhysRange::new(PhysAddr(base), Bytes(size)).unwrap();
        let placed = place(&[range(0x1_0080_0000, 496 << 20)], Bytes(512 << 20)).unwrap();
        assert_eq!(placed[0].iomem().unwrap(), "100800,1f000@140800");
        let odd = Placed {
            machine: range(4096, 512),
            guest: range(4096, 512),
        };
        assert_eq!(odd.iomem(), None);
        assert_eq!(place(&[range(0, 4096)], Bytes(u64::MAX)), None);
    }
}
