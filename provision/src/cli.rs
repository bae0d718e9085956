//! The commands, one a module, and how they print and fail.

pub(crate) mod backup;
mod change;
pub(crate) mod init;
pub(crate) mod remove;
pub(crate) mod repair;
pub(crate) mod resize;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod verify;

use serde::Serialize;
use std::io::{self, Write as _};
use std::path::Path;
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_format::inspect::State;
use xen_pmem_provision::target;

/// Why a command failed: one sentence, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) status: ExitStatus,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// What went wrong with a target.
    pub(crate) fn of(target: &Path, status: ExitStatus, error: impl std::fmt::Display) -> Self {
        Self {
            message: format!("{}: {error}", target.display()),
            status,
        }
    }

    /// Why a target cannot be used.
    pub(crate) fn target(path: &Path, error: &target::Error) -> Self {
        Self::of(path, error.exit_status(), error)
    }
}

/// What is printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printing {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Printing {
    /// Prints the document, or the text that says the same.
    pub(crate) fn print(self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string_pretty(document).map_err(|error| stdout(&error))? + "\n"
        } else if self.quiet {
            return Ok(());
        } else {
            text()
        };
        match io::stdout().write_all(text.as_bytes()) {
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| stdout(&error)),
        }
    }
}

fn stdout(error: &dyn std::fmt::Display) -> Failure {
    Failure {
        message: format!("cannot write to standard output: {error}"),
        status: ExitStatus::Failed,
    }
}

/// The exit code that a state is shown with.
pub(crate) fn status_of(state: State) -> ExitStatus {
    match state {
        State::Prepared | State::Degraded => ExitStatus::Done,
        State::Damaged => ExitStatus::Damaged,
        State::Unprepared => ExitStatus::NothingPrepared,
    }
}
