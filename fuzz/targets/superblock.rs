//! One page as a copy of the super block. The checksum is made right, so that what it covers is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xen_pmem_format::superblock::{COPY_SIZE, SuperBlock, Which};

fuzz_target!(|input: (bool, bool, &[u8])| {
    let (backup, own_place, bytes) = input;
    let which = if backup { Which::Backup } else { Which::Primary };
    let mut page = [0; COPY_SIZE];
    for (place, byte) in page.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let _ = SuperBlock::decode(&page, which.offset());
    page[..8].copy_from_slice(&which.signature());
    page[20] = u8::from(backup);
    if own_place {
        page[56..64].copy_from_slice(&which.offset().0.to_le_bytes());
    }
    page[16..20].fill(0);
    let checksum = crc32c::crc32c(&page);
    page[16..20].copy_from_slice(&checksum.to_le_bytes());
    if let Ok((found, content)) = SuperBlock::decode(&page, which.offset()) {
        assert_eq!(found, which);
        assert!(content.reserved.end().0 <= content.device_size.0);
        assert!(!content.reserved.overlaps(which.range()) && !content.reserved.overlaps(which.other().range()));
        let again = SuperBlock::decode(&content.encode(which), which.offset());
        assert_eq!(again, Ok((which, content)), "what was read is what would be written");
    }
});
