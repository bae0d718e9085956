use super::*;

const MIB: u64 = 1 << 20;

fn at(base: u64) -> PhysRange {
    PhysRange::new(PhysAddr(base), Bytes(512 * MIB)).unwrap()
}

fn read(table: &Table) -> Result<Nfit, NotAnNfit> {
    parse(&table.to_bytes().unwrap())
}

/// Returns one range, and an NVDIMM behind it that is well.
fn one() -> Table {
    Table::default().range(1, at(1 << 32)).mapping(7, 1, State(0))
}

fn found(index: u16, base: u64, state: State) -> Range {
    Range {
        index,
        range: at(base),
        state,
        write_back: true,
    }
}

#[test]
fn persistent_ranges_are_found_in_the_order_of_their_addresses() {
    let volatile = Uuid::from_u128(7);
    let table = Table::default()
        .range(3, at(1 << 33))
        .structure(&[9, 0, 8, 0, 1, 2, 3, 4])
        .range(1, at(1 << 32))
        .range_of(volatile, 2, PhysAddr(1 << 34), Bytes(512 * MIB))
        .mapping(1, 1, State(0))
        .mapping(3, 3, State::NOT_ARMED);
    let nfit = read(&table).unwrap();
    assert_eq!(
        nfit.ranges,
        [found(1, 1 << 32, State(0)), found(3, 1 << 33, State::NOT_ARMED)]
    );
    assert_eq!(nfit.left_out, []);
}

/// ACPI 6.4 appended a location cookie to a range.
#[test]
fn longer_structures_are_read_as_far_as_they_are_known() {
    let mut bytes = one().to_bytes().unwrap()[HEADER..].to_vec();
    bytes.splice(56..56, [0; 8]);
    bytes[2] = 64;
    let nfit = read(&Table::default().structure(&bytes)).unwrap();
    assert_eq!(nfit.ranges, [found(1, 1 << 32, State(0))]);
}

#[test]
fn what_means_nothing_is_left_out_and_the_rest_counts() {
    let empty = |table: Table| table.range_of(PERSISTENT_MEMORY, 5, PhysAddr(1 << 32), Bytes(0));
    let beyond = |table: Table| table.range_of(PERSISTENT_MEMORY, 6, PhysAddr(u64::MAX), Bytes(2));
    let rest = |bytes| LeftOut::Rest { offset: 144, bytes };
    for (table, left_out) in [
        (one().structure(&[0]), rest(1)),
        (one().structure(&[0, 0, 3]), rest(3)),
        (one().structure(&[0, 0, 0, 0]), rest(4)),
        (one().structure(&[8, 0, 0, 0]).range(2, at(1 << 33)), rest(60)),
        (empty(one()), LeftOut::Empty(5)),
        (beyond(one()), LeftOut::Beyond(6)),
        (one().range(0, at(1 << 33)), LeftOut::Unnumbered),
    ] {
        let nfit = read(&table).unwrap();
        assert_eq!(nfit.ranges, [found(1, 1 << 32, State(0))], "{left_out}");
        assert_eq!(nfit.left_out, [left_out]);
    }
    let nfit = read(&beyond(empty(Table::default())).range(1, at(1 << 32))).unwrap();
    assert_eq!((nfit.ranges.len(), nfit.left_out.len()), (1, 2));
}

/// The table of `docs/trust.md`.
#[test]
fn each_state_flag_has_its_meaning() {
    for (bit, unfit, has_lost_data) in [
        (0, None, true),
        (1, None, true),
        (2, None, true),
        (3, Some(Obstacle::NotArmed), false),
        (4, None, false),
        (5, None, false),
        (6, Some(Obstacle::NotMapped), false),
        (7, None, false),
        (15, None, false),
    ] {
        let nfit = read(&Table::default().range(1, at(1 << 32)).mapping(7, 1, State(1 << bit))).unwrap();
        let state = nfit.ranges[0].state;
        assert_eq!(
            (state.obstacle(), state.has_lost_data()),
            (unfit, has_lost_data),
            "bit {bit}"
        );
    }
    // Real firmware: the last save failed, and health events are reported.
    assert_eq!(State(0x21).obstacle(), None);
    assert_eq!(State(0x1f).obstacle(), Some(Obstacle::NotArmed));
}

#[test]
fn xen_lives_where_it_may_map_write_back() {
    // EFI_MEMORY_UC, _WC, _WT, _WB, _NV.
    for (attributes, obstacle) in [
        (0x8, None),
        (0x8008, None),
        (0xf, None),
        (0, Some(Obstacle::NotWriteBack)),
        (0x8000, Some(Obstacle::NotWriteBack)),
        (0x7, Some(Obstacle::NotWriteBack)),
    ] {
        let range = at(1 << 32);
        let table = Table::default().range_as(PERSISTENT_MEMORY, 1, range.base(), range.size(), attributes);
        let nfit = read(&table).unwrap();
        assert_eq!(nfit.ranges[0].obstacle(), obstacle, "{attributes:#x}");
    }
}

#[test]
fn the_flags_of_an_nvdimm_are_those_of_all_its_mappings() {
    let table = Table::default()
        .range(1, at(1 << 32))
        .range(2, at(1 << 33))
        .mapping(7, 1, State(0))
        .mapping(8, 1, State::SAVE_FAILED)
        .mapping(9, 2, State(0))
        // Not of a range of persistent memory.
        .mapping(7, 0, State::NOT_ARMED)
        .mapping(10, 0, State::MAP_FAILED);
    let nfit = read(&table).unwrap();
    let both = State::SAVE_FAILED.and(State::NOT_ARMED);
    assert_eq!(nfit.ranges, [found(1, 1 << 32, both), found(2, 1 << 33, State(0))]);
}

#[test]
fn what_is_not_a_table_is_refused() {
    let good = one().to_bytes().unwrap();
    assert_eq!(parse(&[]), Err(NotAnNfit::Signature));
    assert_eq!(parse(b"APIC"), Err(NotAnNfit::Signature));
    assert_eq!(parse(b"NFIT"), Err(NotAnNfit::Signature));
    let short = &good[..good.len() - 1];
    assert!(matches!(parse(short), Err(NotAnNfit::Length { .. })));
    let mut flipped = good.clone();
    flipped[60] ^= 1;
    assert_eq!(parse(&flipped), Err(NotAnNfit::Checksum));
    // A table with nothing in it is one.
    assert_eq!(read(&Table::default()), Ok(Nfit::default()));
    // Shorter than any structure; than a range; than a mapping; longer than the table.
    for (kind, length) in [(9, 1), (0, 3), (0, 55), (1, 47), (0, 57), (9, 200)] {
        let mut structure = [0; 56];
        (structure[0], structure[2]) = (kind, length);
        let table = one().structure(&structure);
        assert_eq!(read(&table), Err(NotAnNfit::Structure(144)), "{kind} {length}");
    }
}

#[test]
fn an_nvdimm_that_is_its_range_reads_back() {
    let table = Table::default().nvdimm(1, at(1 << 32), 7).nvdimm(2, at(1 << 33), 8);
    let nfit = read(&table).unwrap();
    assert_eq!(nfit.ranges, [found(1, 1 << 32, State(0)), found(2, 1 << 33, State(0))]);
    assert_eq!(nfit.left_out, []);
    assert_eq!(table.to_bytes().unwrap().len(), 40 + 2 * (56 + 48 + 80));
}
