//! A device as a bar of letters for a terminal, to scale. Parts that are too small to be seen are one letter wide.

use super::parts::{Kind, Part, scaled};
use anstyle::{AnsiColor, Color, Style};
use std::fmt::Write as _;

/// What a bar is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// How many columns there are.
    pub columns: usize,
    /// Whether there are colours.
    pub coloured: bool,
}

/// The margin on each side, in columns.
const MARGIN: usize = 2;

fn style(kind: Kind) -> Style {
    let colour = match kind {
        Kind::Table => AnsiColor::Cyan,
        Kind::SuperBlock => AnsiColor::Yellow,
        Kind::Reserved => AnsiColor::Red,
        Kind::Partition(number) if number % 2 == 1 => AnsiColor::Green,
        Kind::Partition(_) => AnsiColor::Blue,
        Kind::Unused => return Style::new().dimmed(),
    };
    Style::new().fg_color(Some(Color::Ansi(colour))).bold()
}

/// Returns a part's letter, in its colour.
pub fn letter(part: &Part, canvas: Canvas) -> String {
    letters(part, 1, canvas)
}

fn letters(part: &Part, count: usize, canvas: Canvas) -> String {
    let text = part.letter().to_string().repeat(count);
    if !canvas.coloured || count == 0 {
        return text;
    }
    let style = style(part.kind);
    format!("{style}{text}{style:#}")
}

/// Returns the bar as a line.
pub fn draw(parts: &[Part], canvas: Canvas) -> String {
    let sizes: Vec<_> = parts.iter().map(|part| part.range.size()).collect();
    // Two more columns for its ends.
    let cells = canvas.columns.saturating_sub(2 * MARGIN + 2);
    let mut text = format!("{:MARGIN$}[", "");
    for (part, count) in parts.iter().zip(scaled(&sizes, cells)) {
        // Writing to a string does not fail.
        let _ = write!(text, "{}", letters(part, count, canvas));
    }
    text + "]\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_pmem_format::units::{Bytes, DeviceOffset, DeviceRange};

    fn parts() -> Vec<Part> {
        [
            (Kind::Table, 0, 1),
            (Kind::Reserved, 1, 9),
            (Kind::Partition(1), 10, 90),
        ]
        .map(|(kind, base, size)| Part {
            kind,
            range: DeviceRange::new(DeviceOffset(base), Bytes(size)).unwrap(),
            name: String::new(),
        })
        .to_vec()
    }

    #[test]
    fn plain_is_plain() {
        let canvas = Canvas {
            columns: 29,
            coloured: false,
        };
        assert_eq!(draw(&parts(), canvas), "  [TXXX1111111111111111111]\n");
    }

    #[test]
    fn colours_change_no_letter() {
        let plain = Canvas {
            columns: 60,
            coloured: false,
        };
        let coloured = draw(
            &parts(),
            Canvas {
                coloured: true,
                ..plain
            },
        );
        assert!(coloured.contains('\u{1b}'));
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            stripped += before;
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(stripped + rest, draw(&parts(), plain));
    }
}
