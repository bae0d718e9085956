//! What it costs to make reports of a scan.

#![allow(missing_docs, reason = "criterion's macros make functions without them")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up has to end")]

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use std::hint::black_box;
use xen_pmem_discover::document::Scan;
use xen_pmem_report::report;

/// Returns a scan with so many prepared devices.
fn scan(count: u64) -> Scan {
    const SIZE: u64 = 512 << 20;
    let devices: Vec<_> = (0..count)
        .map(|number| {
            let base = (4 << 30) + number * SIZE;
            let range = json!({ "base": base, "size": SIZE });
            json!({
                "device": format!("/dev/pmem{number}"), "state": "prepared", "uuid": format!("00000000-0000-4000-8000-{:012x}", number + 1),
                "mode": "raw", "region": range, "namespace": range, "device_range": range, "numa_node": 0,
                "reserved": { "base": base + (2 << 20), "size": 6 << 20 },
                "partitions": [{ "number": 1, "base": base + (8 << 20), "size": 4096 }], "reason": null,
            })
        })
        .collect();
    Scan::from_json(&json!({ "schema": 1, "devices": devices }).to_string()).unwrap()
}

fn reporting(criterion: &mut Criterion) {
    for count in [8, 1000] {
        let scan = scan(count);
        assert!(report::of_all(&scan.devices).iter().all(|(_, report)| report.is_ok()));
        criterion.bench_function(&format!("reports of {count} devices"), |bencher| {
            bencher.iter(|| report::of_all(black_box(&scan.devices)));
        });
    }
}

criterion_group!(benches, reporting);
criterion_main!(benches);
