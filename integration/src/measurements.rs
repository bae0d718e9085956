//! What is measured in machines, one a module: `cargo xtask bench` renders what they return.
//!
//! Times are nanoseconds of the guest's clock. Where that clock counts instructions ([`Config::counted`]), what else the host does is
//! left out of them.

mod commands;
mod event;
mod guard;
mod guests;
mod hypercall;

use crate::layout::Layout;
use crate::machine::{Config, Nvdimm};
use crate::manifest::{Hypervisor, Manifest};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One measurement.
pub struct Measurement {
    /// Its name on the command line, and in the document.
    pub name: &'static str,
    /// The hypervisor that it takes.
    pub hypervisor: Hypervisor,
    /// Whether it boots an installed system.
    pub system: bool,
    /// Whether it uses the toolstack of the series.
    pub toolstack: bool,
    run: fn(&Bench<'_>) -> Result<Value>,
}

/// All measurements.
pub const ALL: &[Measurement] = &[
    Measurement {
        name: "guest",
        hypervisor: Hypervisor::Stock,
        system: false,
        toolstack: false,
        run: commands::run,
    },
    Measurement {
        name: "events",
        hypervisor: Hypervisor::Stock,
        system: true,
        toolstack: false,
        run: event::run,
    },
    Measurement {
        name: "hypercall",
        hypervisor: Hypervisor::Patched,
        system: false,
        toolstack: false,
        run: hypercall::run,
    },
    Measurement {
        name: "guests",
        hypervisor: Hypervisor::Patched,
        system: false,
        toolstack: true,
        run: guests::run,
    },
    Measurement {
        name: "guard",
        hypervisor: Hypervisor::Stock,
        system: false,
        toolstack: false,
        run: guard::run,
    },
];

impl Measurement {
    /// Measures, in its own folder.
    ///
    /// # Errors
    ///
    /// If anything that is measured fails.
    pub fn run(&self, manifest: &Manifest, folder: &Path) -> Result<Value> {
        let bench = Bench {
            name: self.name,
            hypervisor: self.hypervisor,
            manifest,
            folder,
        };
        (self.run)(&bench)
    }
}

/// Where a measurement is at work.
struct Bench<'a> {
    name: &'static str,
    hypervisor: Hypervisor,
    manifest: &'a Manifest,
    folder: &'a Path,
}

impl Bench<'_> {
    /// Says what comes next.
    fn step(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
    }

    /// Boots a machine that is made as `config` says, with the measurement's hypervisor if it has one.
    fn boot(&self, config: Config) -> Result<Vm> {
        let config = Config {
            hypervisor: self.hypervisor,
            ..config
        };
        Ok(Vm::boot(self.manifest, self.folder, &config)?)
    }

    /// Returns an NVDIMM that was prepared on this machine, at this address if one is given, and the UUID of its reservation.
    fn prepared(&self, name: &str, size: u64, address: Option<u64>) -> Result<(Nvdimm, String)> {
        self.partitioned(name, size, address, &[])
    }

    /// Returns the same with these partitions; without any it has one.
    fn partitioned(
        &self,
        name: &str,
        size: u64,
        address: Option<u64>,
        partitions: &[&str],
    ) -> Result<(Nvdimm, String)> {
        let file: PathBuf = self.folder.join(name);
        let mut init = Command::new(&self.manifest.provision);
        init.args(["init", "--quiet", "--size", &size.to_string()]).arg(&file);
        init.args(partitions.iter().flat_map(|partition| ["--partition", partition]));
        if let Some(address) = address {
            init.args(["--base", &format!("{address:#x}")]);
        }
        let output = init.output().context("starting xen-pmem-provision on the host")?;
        ensure!(
            output.status.success(),
            "init fails: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let uuid = Layout::read(&file, 0, size)?.uuid;
        let nvdimm = Nvdimm {
            address,
            ..Nvdimm::unlabelled(&file)
        };
        Ok((nvdimm, uuid))
    }
}
