//! The commands, one a module.

pub(crate) mod backup;
mod change;
pub(crate) mod init;
pub(crate) mod remove;
pub(crate) mod repair;
pub(crate) mod resize;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod verify;

use std::path::Path;
use xen_pmem_format::cli::{Failure, Flags};
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_format::inspect::State;
use xen_pmem_provision::document::Document;
use xen_pmem_provision::target;

/// What went wrong with a target.
pub(crate) fn failure(target: &Path, status: ExitStatus, error: impl std::fmt::Display) -> Failure {
    Failure::new(status, format!("{}: {error}", target.display()))
}

/// Why a target cannot be used.
pub(crate) fn unusable(path: &Path, error: &target::Error) -> Failure {
    failure(path, error.exit_status(), error)
}

/// Why a target cannot be looked at; where a document is asked for, it says so too.
pub(crate) fn unusable_document(path: &Path, error: &target::Error, flags: Flags) -> Failure {
    let document = Document::of_unusable(&path.display().to_string(), error.to_string());
    // In words it is said once, on standard error.
    match flags.print(&document, String::new) {
        Ok(()) => unusable(path, error),
        Err(failure) => failure,
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
