//! A device cut into parts, from its first byte to its last: what pictures are drawn from.

use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::superblock::Which;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange};

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Either copy of the partition table.
    Table,
    /// A copy of the super block.
    SuperBlock,
    /// The area reserved for Xen.
    Reserved,
    /// A partition, by its number.
    Partition(u32),
    /// Nobody's.
    Unused,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub range: DeviceRange,
    /// Its name for people.
    pub name: String,
}

impl Part {
    fn new(kind: Kind, range: DeviceRange, name: impl Into<String>) -> Self {
        Self {
            kind,
            range,
            name: name.into(),
        }
    }

    /// Returns the letter for it: the same in the bar and in the list below it.
    pub fn letter(&self) -> char {
        match self.kind {
            Kind::Table => 'T',
            Kind::SuperBlock => 'S',
            Kind::Reserved => 'X',
            Kind::Partition(number) => number
                .checked_rem(10)
                .and_then(|digit| char::from_digit(digit, 10))
                .unwrap_or('P'),
            Kind::Unused => '.',
        }
    }
}

/// Returns the parts of a device, in order and without a hole: bytes that belong to nobody are a part, too.
pub fn of(inspection: &Inspection) -> Vec<Part> {
    let size = inspection.device_size;
    let mut parts = Vec::new();
    if let Some(table) = inspection.table() {
        parts.push(Part::new(Kind::Table, table.head(), "partition table"));
        parts.extend(table.partitions().iter().map(|it| {
            Part::new(
                Kind::Partition(it.number),
                it.range,
                format!("partition {} {:?}", it.number, it.name),
            )
        }));
        if let Some(backup) = DeviceRange::between(table.usable().end(), DeviceOffset::after(size)) {
            parts.push(Part::new(Kind::Table, backup, "backup of the partition table"));
        }
    }
    if let Some((superblock, _)) = inspection.reservation() {
        parts.extend(
            Which::BOTH.map(|which| Part::new(Kind::SuperBlock, which.range(), format!("super block, {which} copy"))),
        );
        parts.push(Part::new(Kind::Reserved, superblock.reserved, "reserved for Xen"));
    }
    parts.retain(|part| !part.range.is_empty());
    parts.sort_by_key(|part| part.range.base().0);
    filled(parts, size)
}

/// Returns the same with what lies between, before and behind them. A part that begins within another, as damage may have it, is left out.
fn filled(parts: Vec<Part>, size: Bytes) -> Vec<Part> {
    let mut all = Vec::new();
    let mut at = DeviceOffset(0);
    for part in parts {
        let Some(gap) = DeviceRange::between(at, part.range.base()) else {
            continue;
        };
        if !gap.is_empty() {
            all.push(Part::new(Kind::Unused, gap, "unused"));
        }
        at = part.range.end();
        all.push(part);
    }
    if let Some(rest) = DeviceRange::between(at, DeviceOffset::after(size)).filter(|rest| !rest.is_empty()) {
        all.push(Part::new(Kind::Unused, rest, "unused"));
    }
    all
}

/// Returns how many of `cells` each of these sizes gets: at least one, and otherwise in proportion.
///
/// With fewer cells than sizes, the last sizes get none.
pub fn scaled(sizes: &[Bytes], cells: usize) -> Vec<usize> {
    let total: u128 = sizes.iter().map(|size| u128::from(size.0)).sum();
    let spare = cells.saturating_sub(sizes.len());
    let mut widths: Vec<usize> = sizes
        .iter()
        .enumerate()
        .map(|(index, _)| usize::from(index < cells))
        .collect();
    if total == 0 || spare == 0 {
        return widths;
    }
    // What lies before a part decides where it begins: rounding adds up to nothing that way.
    let place = |before: u128| -> usize {
        let spare = u128::try_from(spare).unwrap_or(0);
        usize::try_from(before.saturating_mul(spare).checked_div(total).unwrap_or(0)).unwrap_or(0)
    };
    let mut before: u128 = 0;
    for (width, size) in widths.iter_mut().zip(sizes) {
        let from = place(before);
        before = before.saturating_add(size.0.into());
        *width = width.saturating_add(place(before).saturating_sub(from));
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(kind: Kind, base: u64, size: u64) -> Part {
        Part::new(kind, DeviceRange::new(DeviceOffset(base), Bytes(size)).unwrap(), "")
    }

    #[test]
    fn holes_are_parts_and_overlaps_are_not() {
        let parts = vec![
            part(Kind::Table, 0, 10),
            part(Kind::Reserved, 20, 10),
            part(Kind::Partition(1), 25, 10),
            part(Kind::Partition(2), 30, 5),
        ];
        let all = filled(parts, Bytes(100));
        let found: Vec<_> = all
            .iter()
            .map(|part| (part.letter(), part.range.base().0, part.range.end().0))
            .collect();
        assert_eq!(
            found,
            [
                ('T', 0, 10),
                ('.', 10, 20),
                ('X', 20, 30),
                ('2', 30, 35),
                ('.', 35, 100)
            ]
        );
    }

    proptest! {
        #[test]
        fn every_part_is_seen_and_the_bar_is_full(sizes in prop::collection::vec(1u64..1 << 50, 1..20), cells in 20usize..300) {
            let sizes: Vec<Bytes> = sizes.into_iter().map(Bytes).collect();
            let widths = scaled(&sizes, cells);
            prop_assert_eq!(widths.iter().sum::<usize>(), cells);
            prop_assert!(widths.iter().all(|width| *width >= 1));
            // In proportion, except for the cell that each part has at least, and one for rounding.
            let total: u128 = sizes.iter().map(|size| u128::from(size.0)).sum();
            for (width, size) in widths.iter().zip(&sizes) {
                let fair = u128::from(size.0) * (cells - sizes.len()) as u128 / total;
                prop_assert!((*width as u128).abs_diff(fair + 1) <= 1, "{width} for {fair}");
            }
        }
    }
}
