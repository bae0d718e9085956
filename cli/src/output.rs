//! Standard output.

use crate::failure::Failure;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

/// Whether what was printed can have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// It was written.
    Written,
    /// The reader has closed its end.
    NobodyReads,
}

pub(crate) fn unwritable(error: &dyn fmt::Display) -> Failure {
    Failure::failed(format_args!("cannot write to standard output: {error}"))
}

/// Writes at once.
pub(crate) fn write(text: &str) -> Result<Printed, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Printed::Written),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Printed::NobodyReads),
        Err(error) => Err(unwritable(&error)),
    }
}

/// Returns whether standard output shows colours: it is a terminal that has them, and `NO_COLOR` is unset or empty (no-color.org).
pub fn has_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb
}
