//! A device as people see it.

pub mod bar;
pub mod drawing;
pub mod parts;

use self::bar::Canvas;
use crate::geometry::Geometry;
use crate::layout::Layout;
use crate::note::Note;
use crate::step::Step;
use std::fmt::Write as _;
use xen_pmem_format::inspect::{Inspection, State};
use xen_pmem_format::sizing::Need;
use xen_pmem_format::superblock::Which;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, DeviceRange};

/// A row of the picture.
struct Row {
    range: DeviceRange,
    what: String,
}

/// Returns the rows as aligned text, with physical addresses where they are known.
fn rows(rows: &[Row], geometry: &Geometry) -> String {
    let mut text = String::new();
    for Row { range, what } in rows {
        let address = geometry
            .address(range.base())
            .map(|address| format!("  {:>#14x}", address.0))
            .unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {:>#14x}{address}  {:>10}  {what}",
            range.base().0,
            range.size().to_string()
        );
    }
    text
}

fn heading(geometry: &Geometry) -> String {
    let address = if geometry.placement.is_some() {
        format!("  {:>14}", "address")
    } else {
        String::new()
    };
    format!("  {:>14}{address}  {:>10}\n", "offset", "size")
}

/// Returns the rows that every prepared device has, up to the reserved area.
fn head_rows(table_end: DeviceOffset, reserved: DeviceRange) -> Vec<Row> {
    let head = DeviceRange::clamped(DeviceOffset(0), table_end.distance());
    let mut rows = vec![Row {
        range: head,
        what: "partition table".to_owned(),
    }];
    rows.extend(Which::BOTH.map(|which| Row {
        range: which.range(),
        what: format!("super block, {which} copy"),
    }));
    rows.push(Row {
        range: reserved,
        what: "reserved for Xen".to_owned(),
    });
    rows
}

/// Returns a device as it is: a summary, and its parts as a bar and as a list.
pub fn of_device(target: &str, inspection: &Inspection, geometry: &Geometry, canvas: Canvas) -> String {
    let mut text = format!("{target}: {}, {}\n", inspection.state.as_str(), inspection.device_size);
    for finding in &inspection.findings {
        let _ = writeln!(text, "  - {finding}");
    }
    if let Some(advice) = advice(target, inspection) {
        let _ = writeln!(text, "  {advice}");
    }
    if let Some((superblock, _)) = inspection.reservation() {
        let _ = writeln!(
            text,
            "  reservation {}, sequence {}, written by {}",
            superblock.uuid,
            superblock.sequence,
            superblock.creator.as_str()
        );
    }
    if let Some(table) = inspection.table() {
        let _ = writeln!(text, "  disk GUID {}", table.disk_guid());
        let parts = parts::of(inspection);
        text.push_str(&bar::draw(&parts, canvas));
        let _ = writeln!(text, "   {}", heading(geometry).trim_end());
        for part in &parts {
            let row = Row {
                range: part.range,
                what: part.name.clone(),
            };
            let _ = write!(text, "  {}{}", bar::letter(part, canvas), rows(&[row], geometry));
        }
    }
    text
}

/// Notes, one a line.
pub fn of_notes(notes: &[Note]) -> String {
    notes.iter().map(|note| format!("  note: {note}\n")).collect()
}

/// Returns what to do about a state.
fn advice(target: &str, inspection: &Inspection) -> Option<String> {
    match inspection.state {
        State::Prepared => None,
        State::Degraded => Some("it is reported to Xen as it is, but the next damage may be one too many".to_owned()),
        State::Damaged => Some("it is not reported to Xen; its partitions can be used as they are".to_owned()),
        State::Unprepared if inspection.table().is_some() => Some(format!(
            "to prepare it anew, giving up the partitions: xen-pmem-provision init --force {target}"
        )),
        State::Unprepared => Some(format!("to prepare it: xen-pmem-provision init {target}")),
    }
}

/// Returns a plan, before it is carried out.
pub fn of_plan(target: &str, layout: &Layout, geometry: &Geometry) -> String {
    let mut text = format!("{target}: {}\n", geometry.device_size);
    text.push_str(&heading(geometry));
    let head = xen_pmem_format::table::head(geometry.lba_size, xen_pmem_format::table::DEFAULT_ENTRIES);
    let mut all = head_rows(head.end(), layout.reserved);
    for (number, (request, range)) in (1..).zip(&layout.partitions) {
        all.push(Row {
            range: *range,
            what: format!("partition {number} {:?}", request.name),
        });
    }
    if let Some(backup) = DeviceRange::between(layout.usable.end(), DeviceOffset::after(geometry.device_size)) {
        all.push(Row {
            range: backup,
            what: "backup of the partition table".to_owned(),
        });
    }
    text.push_str(&rows(&all, geometry));
    text.push_str(&of_need(&layout.need, geometry, layout.reserved.size()));
    text
}

/// Returns how a reservation's size comes about.
fn of_need(need: &Need, geometry: &Geometry, reserved: Bytes) -> String {
    let place = match geometry.placement {
        Some(placement) => format!("at {}", placement.namespace),
        None => format!(
            "of {} at an unknown address (the worst alignment is assumed)",
            geometry.device_size
        ),
    };
    let mut text = format!("  to manage the namespace {place}, Xen needs\n");
    let parts = [
        ("the frame table", Some(need.frame_table)),
        ("the M2P", Some(need.m2p)),
        ("the compat M2P", need.compat_m2p),
    ];
    for (name, part) in parts {
        let Some(part) = part else { continue };
        let size = part.size().unwrap_or_default();
        let _ = writeln!(
            text,
            "    {:>10}  for {name}: {} x 2 MiB, one for each {} touched",
            size.to_string(),
            part.chunks,
            part.group
        );
    }
    let _ = writeln!(
        text,
        "    {:>10}  in all; {reserved} are reserved",
        need.total.to_string()
    );
    text
}

/// Returns the writes of a plan.
pub fn of_steps(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        let _ = match step {
            Step::Write { offset, bytes, what } => {
                writeln!(text, "  write {:>6} bytes at {:>#14x}: {what}", bytes.len(), offset.0)
            }
            Step::Flush => writeln!(text, "  flush"),
        };
    }
    text
}
