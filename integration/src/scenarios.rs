//! The scenarios, one a module.

mod bare_provision;
mod image_offline;
mod nothing_there;
mod xen_provision_fsdax;
mod xen_report;

use crate::manifest::Manifest;
use anyhow::Result;
use std::path::Path;

/// One scenario.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// Runs it with a folder of its own.
    pub run: fn(&Manifest, &Path) -> Result<()>,
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario { name: "bare-provision", run: bare_provision::run },
    Scenario { name: "xen-report", run: xen_report::run },
    Scenario { name: "xen-provision-fsdax", run: xen_provision_fsdax::run },
    Scenario { name: "image-offline", run: image_offline::run },
    Scenario { name: "nothing-there", run: nothing_there::run },
];
