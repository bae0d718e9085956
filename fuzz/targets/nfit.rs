//! The NFIT, its length and checksum made right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xen_pmem_nvdimm::nfit;

fuzz_target!(|input: &[u8]| {
    let _ = nfit::parse(input);
    let mut table = input.to_vec();
    if table.len() < 40 {
        return;
    }
    let length = u32::try_from(table.len()).unwrap();
    table[..4].copy_from_slice(b"NFIT");
    table[4..8].copy_from_slice(&length.to_le_bytes());
    table[9] = 0;
    table[9] = table
        .iter()
        .fold(0u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg();
    if let Ok(nfit) = nfit::parse(&table) {
        assert!(
            nfit.ranges
                .windows(2)
                .all(|pair| pair[0].range.base() <= pair[1].range.base())
        );
        assert!(
            nfit.ranges
                .iter()
                .all(|range| !range.range.is_empty() && range.index != 0)
        );
    }
});
