//! The commands, one a module, and how they print and fail.

pub(crate) mod apply;
pub(crate) mod status;
pub(crate) mod withdraw;

use serde::Serialize;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use xen_pmem_discover::document::Scan;
use xen_pmem_discover::node::Nodes;
use xen_pmem_discover::scan::{self, Options};
use xen_pmem_discover::sysfs::SysfsRoot;
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_report::host::{self, Unfit};

/// The schema's number of the documents that the commands print.
pub(crate) const SCHEMA: u32 = 1;

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
    pub(crate) fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(ExitStatus::Failed, format!("{error:#}"))
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        let status = if matches!(unfit, Unfit::Io { .. }) {
            ExitStatus::Failed
        } else {
            ExitStatus::Unsupported
        };
        Self::new(status, unfit.to_string())
    }
}

/// Refuses to go on where there is nothing to report to.
pub(crate) fn require_dom0() -> Result<(), Failure> {
    Ok(host::check(Path::new("/"))?)
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
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(ExitStatus::Failed, format!("cannot write to standard output: {error}"))
        };
        let text = if self.json {
            serde_json::to_string_pretty(document).map_err(|error| failed(&error))? + "\n"
        } else if self.quiet {
            return Ok(());
        } else {
            text()
        };
        match io::stdout().write_all(text.as_bytes()) {
            // The reader has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| failed(&error)),
        }
    }
}

/// Looks at this host's devices; those that cannot be read are said and left out. The second value says that there are some.
pub(crate) fn scan_host(devices: &[PathBuf]) -> Result<(Scan, bool), Failure> {
    let options = Options {
        sysfs: SysfsRoot::new("/sys"),
        nodes: Nodes::System,
        devices: devices.to_vec(),
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
