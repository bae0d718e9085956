//! A device as an SVG drawing, for documents: a bar to scale, with a minimum width for each part, and a line below it for each part.

use super::parts::{Kind, Part, scaled};
use crate::geometry::Geometry;
use svg::Document;
use svg::node::element::{Group, Rectangle, Style, Text, Title};

/// Sizes in the drawing's units, which are pixels unless it is scaled.
const WIDTH: usize = 800;
const MARGIN: usize = 20;
const BAR: usize = 60;
const LINE: usize = 22;
/// The minimum width of a part: it must be visible beside the white line around it.
const STEP: usize = 4;
/// The narrowest that has room for a letter.
const ROOM: usize = 16;
/// Where the columns of the list end: offset, address, size; and where the names begin.
const OFFSET: usize = 190;
const ADDRESS: usize = 350;
const SIZE: usize = 460;
const NAME: usize = 480;

const STYLE: &str = "text { font: 13px sans-serif; fill: #222 } text.n { font-family: monospace; text-anchor: end } \
    text.h { fill: #777; text-anchor: end } text.l { fill: #fff; font-weight: bold; text-anchor: middle } \
    rect { stroke: #fff; stroke-width: 0.5 }";

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Table => "#5b8db8",
        Kind::SuperBlock => "#e0a030",
        Kind::Reserved => "#c0392b",
        Kind::Partition(number) if number % 2 == 1 => "#4c9f70",
        Kind::Partition(_) => "#3a7ca5",
        Kind::Unused => "#d8d8d8",
    }
}

/// Returns the drawing, as text.
pub fn draw(title: &str, parts: &[Part], geometry: &Geometry) -> String {
    let height = MARGIN * 3 + BAR + LINE * (parts.len() + 2);
    let mut bar = Group::new();
    let sizes: Vec<_> = parts.iter().map(|part| part.range.size()).collect();
    let mut x = MARGIN;
    for (part, steps) in parts.iter().zip(scaled(&sizes, (WIDTH - 2 * MARGIN) / STEP)) {
        let width = steps * STEP;
        let tip = Title::new(format!("{}, {}", part.name, part.range.size()));
        bar = bar.add(
            Rectangle::new()
                .set("x", x)
                .set("y", MARGIN + LINE)
                .set("width", width)
                .set("height", BAR)
                .set("fill", colour(part.kind))
                .add(tip),
        );
        if width >= ROOM && part.kind != Kind::Unused {
            let letter = Text::new(part.letter().to_string())
                .set("class", "l")
                .set("x", x + width / 2)
                .set("y", MARGIN + LINE + BAR / 2 + 4);
            bar = bar.add(letter);
        }
        x += width;
    }
    let mut list = Group::new();
    let first = MARGIN * 2 + LINE + BAR + LINE / 2;
    let mut columns = vec![(OFFSET, "offset"), (SIZE, "size")];
    if geometry.placement.is_some() {
        columns.push((ADDRESS, "address"));
    }
    for (x, heading) in columns {
        list = list.add(Text::new(heading).set("class", "h").set("x", x).set("y", first));
    }
    for (index, part) in parts.iter().enumerate() {
        let y = first + (index + 1) * LINE;
        let number = |x: usize, text: String| Text::new(text).set("class", "n").set("x", x).set("y", y);
        list = list
            .add(
                Rectangle::new()
                    .set("x", MARGIN)
                    .set("y", y - 11)
                    .set("width", 14)
                    .set("height", 14)
                    .set("fill", colour(part.kind)),
            )
            .add(
                Text::new(part.letter().to_string())
                    .set("class", "l")
                    .set("x", MARGIN + 7)
                    .set("y", y),
            )
            .add(number(OFFSET, format!("{:#x}", part.range.base().0)));
        if let Some(address) = geometry.address(part.range.base()) {
            list = list.add(number(ADDRESS, format!("{:#x}", address.0)));
        }
        list = list
            .add(number(SIZE, part.range.size().to_string()))
            .add(Text::new(part.name.clone()).set("x", NAME).set("y", y));
    }
    Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .add(Style::new(STYLE))
        .add(
            Rectangle::new()
                .set("width", WIDTH)
                .set("height", height)
                .set("fill", "#fff"),
        )
        .add(Text::new(title).set("x", MARGIN).set("y", MARGIN + LINE / 2))
        .add(bar)
        .add(list)
        .to_string()
        + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange, LbaSize};

    #[test]
    fn names_of_partitions_are_no_markup() {
        let parts = [Part {
            kind: Kind::Partition(1),
            range: DeviceRange::new(DeviceOffset(0), Bytes(4096)).unwrap(),
            name: "partition 1 \"<script>&\"".to_owned(),
        }];
        let geometry = Geometry {
            device_size: Bytes(4096),
            lba_size: LbaSize::from_bytes(512).unwrap(),
            placement: None,
        };
        let drawing = draw("a & b", &parts, &geometry);
        assert!(!drawing.contains("<script>"), "{drawing}");
        assert!(
            drawing.contains("a &amp; b") && drawing.starts_with("<svg"),
            "{drawing}"
        );
    }
}
