//! Whatever ranges sysfs names: what is called prepared lies where it may.

use crate::support::UUID;
use crate::support::disk::{Disk, MIB, SIZE};
use proptest::prelude::*;
use std::sync::LazyLock;
use xen_pmem_discover::document::{Mode, Span};
use xen_pmem_discover::placement::{self, Placement};
use xen_pmem_format::inspect::inspect;
use xen_pmem_format::units::{Address, Bytes, PhysAddr, PhysRange, SUPERPAGE};

static PREPARED: LazyLock<Disk> = LazyLock::new(|| Disk::prepared(UUID));

fn range() -> impl Strategy<Value = PhysRange> {
    let base = prop_oneof![0..8u64, Just(u64::MAX / MIB - 64)];
    (base, 32..160u64).prop_map(|(base, size)| PhysRange::clamped(PhysAddr(base * MIB), Bytes(size * MIB)))
}

proptest! {
    #[test]
    fn what_is_reportable_nests_and_is_aligned(region in range(), namespace in range(), start in 0..32u64, far: bool) {
        let start = if far { u64::MAX - start * MIB } else { start * MIB / 2 };
        let placement = Placement {
            device: "pmem0".into(),
            mode: Mode::Raw,
            region,
            namespace,
            start: PhysAddr(start),
            size: Bytes(SIZE),
            numa_node: None,
            platform: Default::default(),
        };
        let device = placement::judge(&placement, &inspect(&PREPARED.bytes, None).unwrap());
        let whole = PhysRange::new(PhysAddr(start), Bytes(SIZE));
        let right = whole.is_some_and(|whole| region.contains(namespace) && namespace.contains(whole))
            && PhysAddr(start).is_aligned(SUPERPAGE);
        prop_assert_eq!(device.state.is_reportable(), right);
        if right {
            let [Span(reserved), Span(device_range)] = [device.reserved.unwrap(), device.device_range.unwrap()];
            prop_assert!(device_range.contains(reserved) && reserved.base().is_aligned(SUPERPAGE));
            for partition in &device.partitions {
                prop_assert!(device_range.contains(partition.range.0) && !partition.range.0.overlaps(reserved));
            }
        } else {
            prop_assert!(device.reason.is_some());
        }
    }
}
