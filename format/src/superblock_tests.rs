use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const MIB: u64 = 1 << 20;

pub(crate) fn sample() -> SuperBlock {
    SuperBlock {
        sequence: 7,
        uuid: Uuid::from_u128(0x11111111_2222_4333_8444_555555555555),
        disk_guid: Uuid::from_u128(0xaaaaaaaa_bbbb_4ccc_8ddd_eeeeeeeeeeee),
        device_size: Bytes(512 * MIB),
        reserved: DeviceRange::new(DeviceOffset(2 * MIB), Bytes(6 * MIB)).unwrap(),
        planned: Planned {
            entries: EntrySizes::XEN_X86_64,
            namespace_size: Bytes(512 * MIB),
            device_in_namespace: NamespaceOffset(0),
        },
        address_hint: Some(PhysAddr(0x1_0000_0000)),
        created: UnixTime(1_700_000_000),
        updated: UnixTime(1_700_000_001),
        creator: Creator::new("xen-pmem-provision 0.1.0").unwrap(),
        features: Features::default(),
    }
}

/// Returns a sample changed by hand, its checksum made right again.
fn forged(which: Which, change: impl FnOnce(&mut Page)) -> [u8; COPY_SIZE] {
    let mut page: Page = zerocopy::transmute!(sample().encode(which));
    change(&mut page);
    page.checksum = U32::new(checksum(&page));
    zerocopy::transmute!(page)
}

#[test]
fn every_single_bit_flip_is_detected() {
    for which in Which::BOTH {
        let good = sample().encode(which);
        assert_eq!(SuperBlock::decode(&good, which.offset()), Ok((which, sample())));
        for bit in 0..COPY_SIZE * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                SuperBlock::decode(&bad, which.offset()).is_err(),
                "{which} copy, bit {bit}"
            );
        }
    }
}

#[test]
fn a_copy_read_from_elsewhere_is_invalid() {
    let bytes = sample().encode(Which::Primary);
    let elsewhere = Which::Backup.offset();
    let expected = NotACopy::Place {
        says: Which::Primary.offset(),
        found: elsewhere,
    };
    assert_eq!(SuperBlock::decode(&bytes, elsewhere), Err(expected));
}

#[test]
fn forged_fields_with_a_right_checksum_are_refused() {
    let reserved_outside = |base, size| NotACopy::ReservedOutside {
        base: DeviceOffset(base),
        size: Bytes(size),
        device_size: Bytes(512 * MIB),
    };
    let entry_sizes = |page, frame_table, m2p, compat_m2p| {
        NotACopy::EntrySizes(EntrySizes {
            page: Bytes(page),
            frame_table: Bytes(frame_table),
            m2p: Bytes(m2p),
            compat_m2p: Bytes(compat_m2p),
        })
    };
    type Forgery = fn(&mut Page);
    let table: &[(Forgery, NotACopy)] = &[
        (|p| p.version_major = 2.into(), NotACopy::Version { major: 2, minor: 0 }),
        (|p| p.version_major = 0.into(), NotACopy::Version { major: 0, minor: 0 }),
        (|p| p.features_incompatible = 0x10.into(), NotACopy::Features(0x10)),
        (|p| p.header_size = 207.into(), NotACopy::HeaderSize(207)),
        (|p| p.header_size = 4097.into(), NotACopy::HeaderSize(4097)),
        (|p| p.copy = 1.into(), NotACopy::CopyNumber(1)),
        (|p| p.sequence = 0.into(), NotACopy::Zero("the sequence number")),
        (|p| p.uuid = [0; 16], NotACopy::Zero("the reservation's UUID")),
        (|p| p.disk_guid = [0; 16], NotACopy::Zero("the disk GUID")),
        (
            |p| p.reserved_size = 0.into(),
            NotACopy::Zero("the size of the reserved area"),
        ),
        (
            |p| p.reserved_base = 0.into(),
            NotACopy::Zero("the base of the reserved area"),
        ),
        (
            |p| p.namespace_size = 0.into(),
            NotACopy::Zero("the size of the namespace"),
        ),
        (|p| p.page_size = 0.into(), NotACopy::Zero("the page size")),
        (
            |p| p.frame_table_entry = 0.into(),
            NotACopy::Zero("the size of a frame table entry"),
        ),
        (|p| p.m2p_entry = 0.into(), NotACopy::Zero("the size of an M2P entry")),
        (
            |p| p.reserved_base = (510 * MIB).into(),
            reserved_outside(510 * MIB, 6 * MIB),
        ),
        (
            |p| p.reserved_base = (u64::MAX - 0xfff).into(),
            reserved_outside(u64::MAX - 0xfff, 6 * MIB),
        ),
        (
            |p| p.reserved_size = u64::MAX.into(),
            reserved_outside(2 * MIB, u64::MAX),
        ),
        (
            |p| p.reserved_size = (5 * MIB).into(),
            NotACopy::ReservedMisaligned {
                base: DeviceOffset(2 * MIB),
                size: Bytes(5 * MIB),
            },
        ),
        (
            |p| p.reserved_base = (2 * MIB + 512).into(),
            NotACopy::ReservedMisaligned {
                base: DeviceOffset(2 * MIB + 512),
                size: Bytes(6 * MIB),
            },
        ),
        (
            |p| p.reserved_base = MIB.into(),
            NotACopy::ReservedCoversCopy(DeviceRange::new(DeviceOffset(MIB), Bytes(6 * MIB)).unwrap()),
        ),
        (|p| p.page_size = 2048.into(), entry_sizes(2048, 32, 8, 0)),
        (|p| p.page_size = 4097.into(), entry_sizes(4097, 32, 8, 0)),
        (|p| p.frame_table_entry = 4097.into(), entry_sizes(4096, 4097, 8, 0)),
        (|p| p.m2p_entry = 4097.into(), entry_sizes(4096, 32, 4097, 0)),
        (|p| p.compat_m2p_entry = 4097.into(), entry_sizes(4096, 32, 8, 4097)),
        (
            |p| {
                p.page_size = (1 << 30).into();
                p.m2p_entry = ((2 << 20) + 1).into();
            },
            entry_sizes(1 << 30, 32, (2 << 20) + 1, 0),
        ),
        (|p| p.creator = [0xff; CREATOR_SIZE], NotACopy::Creator),
        (|p| p.creator[30] = b'x', NotACopy::Creator),
    ];
    for (change, expected) in table {
        let bytes = forged(Which::Primary, change);
        assert_eq!(SuperBlock::decode(&bytes, Which::Primary.offset()), Err(*expected));
    }
}

#[test]
fn additions_of_a_minor_version_are_ignored() {
    let bytes = forged(Which::Primary, |p| {
        p.version_minor = 9.into();
        // As large as there is room for.
        p.header_size = 4096.into();
        p.rest[0] = 1;
        p.features_compatible = 1.into();
        p.features_read_only = 2.into();
    });
    let (_, read) = SuperBlock::decode(&bytes, Which::Primary.offset()).unwrap();
    assert_eq!(read.reserved, sample().reserved);
    assert_eq!(read.unknown_read_only_features(), 2);
}

#[test]
fn what_is_not_known_is_kept_when_a_copy_is_written_over_another() {
    let base = forged(Which::Primary, |p| {
        p.version_minor = 7.into();
        p.header_size = 300.into();
        p.rest = [0x5a; _];
        p.features_compatible = 1.into();
    });
    let (_, content) = SuperBlock::decode(&base, Which::Primary.offset()).unwrap();
    assert_eq!(
        content.encode_over(&base, Which::Primary, Which::Primary.offset()),
        base,
        "the same content at the same place is the same page"
    );
    let elsewhere = DeviceOffset(64 << 10);
    let backup = content.encode_over(&base, Which::Backup, elsewhere);
    assert_eq!(SuperBlock::decode(&backup, elsewhere), Ok((Which::Backup, content)));
    let differ: Vec<usize> = (0..COPY_SIZE).filter(|at| base[*at] != backup[*at]).collect();
    let own = [0..8, 16..24, 56..64];
    assert!(
        differ.iter().all(|at| own.iter().any(|field| field.contains(at))),
        "{differ:?}"
    );
    let newer = SuperBlock {
        sequence: content.sequence + 1,
        ..content
    };
    let changed = newer.encode_over(&base, Which::Backup, elsewhere);
    assert_eq!(changed[208..], base[208..]);
    assert_eq!(changed[10..16], base[10..16]);
}

#[test]
fn a_creator_is_short_text() {
    assert_eq!(Creator::new("ndctl-like 1.0").unwrap().as_str(), "ndctl-like 1.0");
    assert!(Creator::new(&"x".repeat(CREATOR_SIZE)).is_some());
    assert_eq!(Creator::new(&"x".repeat(CREATOR_SIZE + 1)), None);
    assert_eq!(Creator::new("esc\u{1b}[0m"), None);
}

prop_compose! {
    fn any_superblock()(
        sequence in 1..u64::MAX,
        ids in (1..u128::MAX, 1..u128::MAX),
        base in 1u64..1 << 30,
        chunks in 1u64..1 << 20,
        spare in 0..1u64 << 40,
        namespace in 1..u64::MAX,
        start: u64,
        hint in proptest::option::of(1..u64::MAX),
        times: (u64, u64),
        creator in "[ -~é]{0,16}",
        features: (u64, u64),
        sizes in (12..32u32, 1..=4096u64, 1..=4096u64, 0..=4096u64),
    ) -> SuperBlock {
        let reserved = DeviceRange::new(DeviceOffset(2 * MIB + base * 4096), Bytes(chunks * 2 * MIB)).unwrap();
        SuperBlock {
            sequence,
            uuid: Uuid::from_u128(ids.0),
            disk_guid: Uuid::from_u128(ids.1),
            device_size: Bytes(reserved.end().0 + spare),
            reserved,
            planned: Planned {
                entries: EntrySizes {
                    page: Bytes(1 << sizes.0),
                    frame_table: Bytes(sizes.1),
                    m2p: Bytes(sizes.2),
                    compat_m2p: Bytes(sizes.3),
                },
                namespace_size: Bytes(namespace),
                device_in_namespace: NamespaceOffset(start),
            },
            address_hint: hint.map(PhysAddr),
            created: UnixTime(times.0),
            updated: UnixTime(times.1),
            creator: Creator::new(&creator).unwrap(),
            features: Features { compatible: features.0, read_only: features.1, incompatible: 0 },
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(content in any_superblock(), backup: bool) {
        let which = if backup { Which::Backup } else { Which::Primary };
        prop_assert_eq!(SuperBlock::decode(&content.encode(which), which.offset()), Ok((which, content)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), COPY_SIZE), backup: bool, offset: u64) {
        let mut page: Page = zerocopy::transmute!(<[u8; COPY_SIZE]>::try_from(bytes).unwrap());
        let _ = SuperBlock::decode(&zerocopy::transmute!(page), DeviceOffset(offset));
        // Past the signature, the checksum and the header, so that the content's checks are reached.
        page.signature = if backup { Which::Backup.signature() } else { Which::Primary.signature() };
        page.version_major = 1.into();
        page.header_size = HEADER_SIZE.into();
        page.copy = u32::from(backup).into();
        page.features_incompatible = 0.into();
        page.own_offset = offset.into();
        page.checksum = U32::new(checksum(&page));
        if let Ok((_, content)) = SuperBlock::decode(&zerocopy::transmute!(page), DeviceOffset(offset)) {
            prop_assert!(content.reserved.end().0 <= content.device_size.0);
        }
    }

    #[test]
    fn a_torn_copy_is_never_taken_for_either_version(mask: Vec<bool>, more in 1..u64::MAX / 2) {
        let old = sample();
        let new = SuperBlock { sequence: old.sequence + more, device_size: Bytes(old.device_size.0 + more), ..old };
        let (from, to) = (old.encode(Which::Primary), new.encode(Which::Primary));
        let mut torn = from;
        for (index, word) in torn.chunks_exact_mut(8).enumerate() {
            if mask.get(index).copied().unwrap_or(false) {
                word.copy_from_slice(&to[index * 8..index * 8 + 8]);
            }
        }
        if let Ok((_, read)) = SuperBlock::decode(&torn, Which::Primary.offset()) {
            prop_assert!(read == old || read == new);
        }
    }
}
