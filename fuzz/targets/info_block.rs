//! libnvdimm's info block, its checksum made right.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xen_pmem_nvdimm::info_block::{SIZE, fsdax};
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};

fuzz_target!(|input: (u64, u64, &[u8])| {
    let (base, size, bytes) = input;
    let Some(namespace) = PhysRange::new(PhysAddr(base), Bytes(size)) else {
        return;
    };
    let mut block = [0; SIZE];
    for (place, byte) in block.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let _ = fsdax(&block, namespace);
    block[..16].copy_from_slice(b"NVDIMM_PFN_INFO\0");
    let (mut low, mut high) = (0u32, 0u64);
    for word in block[..SIZE - 8].chunks(4) {
        low = low.wrapping_add(u32::from_le_bytes(word.try_into().unwrap()));
        high = high.wrapping_add(u64::from(low));
    }
    high = high.wrapping_add(u64::from(low)).wrapping_add(u64::from(low));
    block[SIZE - 8..].copy_from_slice(&(high << 32 | u64::from(low)).to_le_bytes());
    if let Ok(found) = fsdax(&block, namespace) {
        assert!(namespace.contains(found.device_range) && !found.device_range.is_empty());
    }
});
