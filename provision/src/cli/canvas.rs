//! What standard output can show.

use crate::picture::bar::Canvas;
use std::io::IsTerminal as _;

/// How wide a picture is where nobody says how wide the terminal is.
const COLUMNS: usize = 80;
/// The widest that is still taken in at a glance.
const WIDEST: usize = 160;

/// What standard output can show. `NO_COLOR` set to anything but nothing keeps colours away (no-color.org).
pub(super) fn canvas() -> Canvas {
    let stdout = std::io::stdout();
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_some_and(|terminal| terminal == "dumb");
    Canvas {
        columns: terminal_size::terminal_size_of(&stdout)
            .map_or(COLUMNS, |(width, _)| width.0.into())
            .min(WIDEST),
        coloured: stdout.is_terminal() && set("NO_COLOR").is_none() && !dumb,
    }
}
