//! How a command fails, and how a program ends.

use crate::exit::{ExitStatus, Exits};
use crate::log::in_journal;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why a command failed: one sentence, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened, to what, and what to do.
    pub message: String,
    /// How the program ends.
    pub status: ExitStatus,
}

impl Failure {
    /// Returns a failure with this message.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status,
        }
    }
}

impl Failure {
    /// Returns a failure of the ordinary kind: I/O and the like.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self::new(ExitStatus::Failed, error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl<E: Exits + fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.exit_status(), error.told())
    }
}

/// Ends a program: says why it failed, if it did.
pub fn end(program: &str, result: Result<ExitStatus, Failure>) -> ExitCode {
    match result {
        Ok(status) => status.into(),
        Err(failure) => {
            complain(program, &failure);
            failure.status.into()
        }
    }
}

/// Writes a message for people to standard error. Ignores a failure to write there: no other place is left for a message.
pub fn say(what: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Tells people what went wrong.
pub fn complain(program: &str, what: &dyn fmt::Display) {
    if in_journal() {
        tracing::error!("{what}");
        return;
    }
    say(&format_args!("{program}: {what}"));
}
