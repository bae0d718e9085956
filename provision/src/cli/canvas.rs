//! What standard output can show.

use crate::picture::bar::Canvas;
use xen_pmem_cli as cli;

/// The width of a picture if the terminal's width is unknown.
const COLUMNS: usize = 80;
/// The widest that is still taken in at a glance.
const WIDEST: usize = 160;

/// Returns what standard output can show.
pub(super) fn canvas() -> Canvas {
    Canvas {
        columns: terminal_size::terminal_size_of(std::io::stdout())
            .map_or(COLUMNS, |(width, _)| width.0.into())
            .min(WIDEST),
        coloured: cli::has_colours(),
    }
}
