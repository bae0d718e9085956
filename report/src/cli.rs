//! The commands, one a module, and what they begin with.

pub(crate) mod apply;
pub(crate) mod status;
pub(crate) mod watch;
pub(crate) mod withdraw;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use xen_pmem_discover::document::Scan;
use xen_pmem_discover::node::Nodes;
use xen_pmem_discover::physical_memory::DEV_MEM;
use xen_pmem_discover::scan::{self, Options};
use xen_pmem_discover::sysfs::SysfsRoot;
use xen_pmem_format::cli::Failure;
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_report::host::{self, Unfit};
use xen_pmem_report::turn::{self, Turn};

/// The schema's number of the documents that the commands print.
pub(crate) const SCHEMA: u32 = 1;

/// A sink's failure as the program's.
pub(crate) fn failed(error: anyhow::Error) -> Failure {
    Failure::new(ExitStatus::Failed, format!("{error:#}"))
}

/// Refuses to go on where there is nothing to report to.
pub(crate) fn require_dom0() -> Result<(), Failure> {
    host::check(Path::new("/")).map_err(|unfit| {
        let status = if matches!(unfit, Unfit::Io { .. }) {
            ExitStatus::Failed
        } else {
            ExitStatus::Unsupported
        };
        Failure::new(status, unfit.to_string())
    })
}

/// The lock that keeps runs which change something apart.
pub(crate) fn take_turn() -> Result<Turn, Failure> {
    turn::take(Path::new(turn::LOCK)).map_err(failed)
}

/// When a host's devices are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// With their drivers bound.
    Late,
    /// Maybe before.
    Early,
}

/// Looks at these devices of this host, or at all of them; those that cannot be read are said and left out. The second value says
/// that there are some.
pub(crate) fn scan_host(devices: &[PathBuf], when: When) -> Result<(Scan, bool), Failure> {
    let options = Options {
        sysfs: SysfsRoot::new("/sys"),
        nodes: Nodes::System,
        devices: devices.to_vec(),
        memory: (when == When::Early).then(|| DEV_MEM.into()),
    };
    let outcome = scan::scan(&options).map_err(|error| Failure::new(error.exit_status(), error.to_string()))?;
    for failure in &outcome.failures {
        tracing::error!("{}: {}", failure.device, failure.error);
    }
    Ok((outcome.scan, !outcome.failures.is_empty()))
}

/// Reads a scan document from a file, or from standard input if it is called `-`.
pub(crate) fn read_scan(path: &Path) -> Result<Scan, Failure> {
    let name = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let text = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| Failure::new(ExitStatus::Failed, format!("{name}: cannot be read: {error}")))?;
    Scan::from_json(&text).map_err(|error| Failure::new(ExitStatus::Usage, format!("{name}: {error}")))
}
