//! What planning costs, and looking at a device: as it should be, and with a large gap in which both copies have to be searched for, in
//! memory and in a file.

#![allow(missing_docs, reason = "criterion's macros make functions without them")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up has to end")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt as _;
use uuid::Uuid;
use xen_pmem_format::inspect::inspect;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::{UnixTime, Which};
use xen_pmem_format::units::{Bytes, DeviceOffset, LbaSize};
use xen_pmem_provision::geometry::Geometry;
use xen_pmem_provision::init::{self, Request};
use xen_pmem_provision::layout::{LINUX_DATA, NewPartition, PartitionSize, Reserve};
use xen_pmem_provision::plan::{Before, Checked};
use xen_pmem_provision::step::Step;

const PAGE: u64 = 4096;

/// A device of zeros except for the pages that were written.
struct Sparse {
    size: u64,
    pages: BTreeMap<u64, [u8; PAGE as usize]>,
}

impl Sparse {
    fn blank(size: u64) -> Self {
        Self {
            size,
            pages: BTreeMap::new(),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            let page = self.pages.entry(at / PAGE).or_insert([0; PAGE as usize]);
            page[usize::try_from(at % PAGE).unwrap()] = *byte;
        }
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> io::Result<Bytes> {
        Ok(Bytes(self.size))
    }

    fn read_exact_at(&self, offset: DeviceOffset, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(0);
        let end = offset.0 + buf.len() as u64;
        for (number, page) in self.pages.range(offset.0 / PAGE..end.div_ceil(PAGE)) {
            for (at, byte) in (number * PAGE..).zip(page) {
                if (offset.0..end).contains(&at) {
                    buf[usize::try_from(at - offset.0).unwrap()] = *byte;
                }
            }
        }
        Ok(())
    }
}

fn geometry(size: u64) -> Geometry {
    Geometry {
        device_size: Bytes(size),
        lba_size: LbaSize::from_bytes(512).unwrap(),
        placement: None,
    }
}

fn plan(device: &Sparse, reserve: Reserve) -> Checked {
    let geometry = geometry(device.size);
    let request = Request {
        reserve,
        entries: EntrySizes::XEN_X86_64,
        partitions: vec![NewPartition {
            size: PartitionSize::Rest,
            name: "pmem".to_owned(),
            type_guid: LINUX_DATA,
            guid: Uuid::from_u128(3),
        }],
        uuid: Uuid::from_u128(1),
        disk_guid: Uuid::from_u128(2),
        now: UnixTime(1),
    };
    let before = Before {
        device,
        own_lba_size: Some(geometry.lba_size),
        inspection: &inspect(device, Some(geometry.lba_size)).unwrap(),
        force: false,
    };
    let plan = init::plan(&before, &geometry, &request).unwrap();
    plan.plan.check(&before).unwrap()
}

fn prepared(size: u64, reserve: Reserve) -> Sparse {
    let mut device = Sparse::blank(size);
    for step in plan(&device, reserve).steps() {
        if let Step::Write { offset, bytes, .. } = step {
            device.write(offset.0, bytes);
        }
    }
    device
}

fn planning(criterion: &mut Criterion) {
    let blank = Sparse::blank(1 << 40);
    criterion.bench_function("plan and check a layout for 1 TiB", |bencher| {
        bencher.iter(|| plan(black_box(&blank), Reserve::Auto));
    });
    let device = prepared(1 << 40, Reserve::Auto);
    criterion.bench_function("inspect a prepared device of 1 TiB", |bencher| {
        bencher.iter(|| inspect(black_box(&device), None).unwrap());
    });
}

fn searching(criterion: &mut Criterion) {
    let gap = 16 << 30;
    let mut device = prepared(1 << 42, Reserve::Size(Bytes(64 << 30)));
    for which in Which::BOTH {
        device.write(which.offset().0, &[0; PAGE as usize]);
    }
    let mut group = criterion.benchmark_group("a gap without a copy at the fixed places");
    group.sample_size(10).throughput(Throughput::Bytes(gap));
    group.bench_function("16 GiB", |bencher| {
        bencher.iter(|| inspect(black_box(&device), None).unwrap());
    });
}

/// Measures the same in a file in which each page of the gap is full, and most are read past the page cache.
fn searching_a_file(criterion: &mut Criterion) {
    let gap = 1 << 30;
    let reserved = Bytes(gap - (4 << 20));
    let device = prepared(2 * gap, Reserve::Size(reserved));
    // On the disk that has the build: a folder for temporary files may be in memory.
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.set_len(device.size).unwrap();
    let full = vec![0xd1; 1 << 20];
    for offset in (PAGE * 5..gap - (1 << 20)).step_by(full.len()) {
        file.write_all_at(&full, offset).unwrap();
    }
    for (number, page) in &device.pages {
        let offset = number * PAGE;
        if !Which::BOTH.iter().any(|which| which.offset().0 == offset) {
            file.write_all_at(page, offset).unwrap();
        }
    }
    file.sync_all().unwrap();
    let inspection = inspect(&file, None).unwrap();
    assert!(inspection.table().is_some() && inspection.reservation().is_none());
    let mut group = criterion.benchmark_group("a full gap of a file without a copy at the fixed places");
    group.sample_size(10).throughput(Throughput::Bytes(gap));
    group.bench_function("1 GiB", |bencher| {
        bencher.iter(|| inspect(black_box(&file), None).unwrap());
    });
}

criterion_group!(benches, planning, searching, searching_a_file);
criterion_main!(benches);
