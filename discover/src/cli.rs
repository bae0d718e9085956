//! The commands, one a module.

pub(crate) mod guard;
pub(crate) mod monitor;
pub(crate) mod scan;
mod text;

use xen_pmem_format::cli::Failure;
use xen_pmem_format::exit::ExitStatus;

/// The program's name, for messages.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_NAME");

/// Why a build without eBPF does not do what takes it.
#[cfg(not(feature = "bpf"))]
pub(crate) const NO_BPF: &str = "this program was built without eBPF support (the feature `bpf`)";

/// A failure of the system's.
pub(crate) fn failed(message: String) -> Failure {
    Failure::new(ExitStatus::Failed, message)
}
