//! What a copy of the super block costs: writing it, and reading it with all its checks.

#![allow(missing_docs, reason = "criterion's macros make functions without them")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up has to end")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use uuid::Uuid;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::{Creator, Features, Planned, SuperBlock, UnixTime, Which};
use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, NamespaceOffset};

fn sample() -> SuperBlock {
    SuperBlock {
        sequence: 1,
        uuid: Uuid::from_u128(1),
        disk_guid: Uuid::from_u128(2),
        device_size: Bytes(1 << 40),
        reserved: DeviceRange::new(DeviceOffset(2 << 20), Bytes(10 << 30)).unwrap(),
        planned: Planned {
            entries: EntrySizes::XEN_X86_64,
            namespace_size: Bytes(1 << 40),
            device_in_namespace: NamespaceOffset(0),
        },
        address_hint: None,
        created: UnixTime(0),
        updated: UnixTime(0),
        creator: Creator::new("bench").unwrap(),
        features: Features::default(),
    }
}

fn superblock(criterion: &mut Criterion) {
    let superblock = sample();
    let which = Which::Primary;
    let page = superblock.encode(which);
    criterion.bench_function("encode a copy", |bencher| {
        bencher.iter(|| black_box(&superblock).encode(which));
    });
    criterion.bench_function("parse and verify a copy", |bencher| {
        bencher.iter(|| SuperBlock::decode(black_box(&page), which.offset()).unwrap());
    });
}

criterion_group!(benches, superblock);
criterion_main!(benches);
