//! The commands, one a module.

pub(crate) mod monitor;
pub(crate) mod scan;
mod text;

/// The program's name, for messages.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_NAME");
