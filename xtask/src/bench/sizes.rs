//! Sizes of the static binaries.

use crate::tools::{self, Tools};
use anyhow::Result;
use std::fmt::Write as _;
use std::fs;

pub(super) fn section(tools: &Tools) -> Result<String> {
    let mut text = "### Static binaries\n\n| program | size |\n|---|---:|\n".to_owned();
    for program in tools::PROGRAMS {
        let bytes = fs::metadata(tools.path(program))?.len();
        let _ = writeln!(text, "| {program} | {} KiB |", bytes / 1024);
    }
    Ok(text)
}
