//! A scan document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xen_pmem_discover::document::Scan;

fuzz_target!(|text: &str| {
    let _ = Scan::from_json(text);
});
