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
use xen_pmem_format::cli::Failure;
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_format::inspect::State;
use xen_pmem_provision::target;

/// What went wrong with a target.
pub(crate) fn failure(target: &Path, status: ExitStatus, error: impl std::fmt::Display) -> Failure {
    Failure::new(status, format!("{}: {error}", target.display()))
}

/// Why a target cannot be used.
pub(crate) fn unusable(path: &Path, error: &target::Error) -> Failure {
    failure(path, error.exit_status(), error)
}

/// The exit code that a state is shown with.
pub(crate) fn status_of(state: State) -> ExitStatus {
    match state {
        State::Prepared | State::Degraded => ExitStatus::Done,
        State::Damaged => ExitStatus::Damaged,
        State::Unprepared => ExitStatus::NothingPrepared,
    }
}
