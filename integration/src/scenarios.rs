//! The scenarios, one a module.

mod bare_provision;
mod coexistence;
mod concurrency;
mod crashing_guest;
mod image_offline;
mod nothing_there;
mod power_cut;
mod xen_provision_fsdax;
mod xen_report;

use crate::image::{self, MIB};
use crate::machine::{Config, Kind, Nvdimm};
use crate::manifest::Manifest;
use crate::vm::Vm;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// One scenario.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// Runs it.
    pub run: fn(&Run<'_>) -> Result<()>,
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "bare-provision",
        about: "bare Linux prepares a raw NVDIMM; file system and partitioning tool work on it",
        run: bare_provision::run,
    },
    Scenario {
        name: "xen-report",
        about: "the same NVDIMM under Xen: discovered, published in XenStore, withdrawn",
        run: xen_report::run,
    },
    Scenario {
        name: "xen-provision-fsdax",
        about: "Dom0 prepares a fsdax namespace, bare Linux reads it, both with DAX",
        run: xen_provision_fsdax::run,
    },
    Scenario {
        name: "image-offline",
        about: "an image prepared without privileges on the host is an NVDIMM prepared at first boot",
        run: image_offline::run,
    },
    Scenario {
        name: "nothing-there",
        about: "no Xen, no NVDIMM, nothing prepared: clear words, the right exit codes, nothing written",
        run: nothing_there::run,
    },
    Scenario {
        name: "power-cut",
        about: "QEMU is killed 20 times while the guest changes the layout: the host always finds the old or the new one",
        run: power_cut::run,
    },
    Scenario {
        name: "coexistence",
        about: "sgdisk, sfdisk, parted, partprobe and ndctl on a prepared NVDIMM",
        run: coexistence::run,
    },
    Scenario {
        name: "concurrency",
        about: "a second provisioner, a lock, readers of the partition table, a device that disappears",
        run: concurrency::run,
    },
    Scenario {
        name: "crashing-guest",
        about: "a guest that crashes or does not come up is noticed at once, and called what it is",
        run: crashing_guest::run,
    },
];

/// How large the NVDIMMs of these scenarios are.
const NVDIMM_SIZE: u64 = 512 * MIB;

/// One run of a scenario.
pub struct Run<'a> {
    /// The scenario's name.
    name: &'static str,
    /// What there is to boot.
    pub manifest: &'a Manifest,
    /// A folder of its own.
    pub folder: &'a Path,
    step: Mutex<String>,
}

impl<'a> Run<'a> {
    /// A run of the scenario `name` with a folder of its own.
    pub fn new(name: &'static str, manifest: &'a Manifest, folder: &'a Path) -> Self {
        Self {
            name,
            manifest,
            folder,
            step: Mutex::new(String::new()),
        }
    }

    /// Says what comes next. If it fails, this is how people know what it was.
    pub fn step(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
        if let Ok(mut step) = self.step.lock() {
            what.clone_into(&mut step);
        }
    }

    /// The step that the run is at.
    pub fn current_step(&self) -> String {
        self.step.lock().map(|step| step.clone()).unwrap_or_default()
    }

    /// Makes the file of a blank NVDIMM.
    fn blank_nvdimm(&self) -> Result<PathBuf> {
        let file = self.folder.join("nvdimm");
        image::blank(&file, NVDIMM_SIZE)?;
        Ok(file)
    }

    /// Boots a machine with these NVDIMMs and nothing of libnvdimm loaded.
    fn boot(&self, kind: Kind, nvdimms: &[&Path]) -> Result<Vm> {
        self.step(match kind {
            Kind::Bare => "boot Linux",
            Kind::Xen => "boot Xen",
        });
        let nvdimms = nvdimms.iter().map(|file| Nvdimm::unlabelled(file)).collect();
        Ok(Vm::boot(self.manifest, self.folder, &Config::new(kind, nvdimms))?)
    }

    /// Boots a machine as [`Run::boot`] does, has the block device of its NVDIMM appear, and xenstored run if it is under Xen.
    fn boot_with_pmem(&self, kind: Kind, nvdimm: &Path) -> Result<Vm> {
        let mut vm = self.boot(kind, &[nvdimm])?;
        if kind == Kind::Xen {
            self.step("start xenstored");
            vm.start_xenstored(&self.manifest.xen_version)?;
        }
        self.step("load the NVDIMM drivers");
        vm.load_nvdimm_drivers()?;
        vm.wait_for("/dev/pmem0")?;
        Ok(vm)
    }

    /// Turns a machine off in an orderly way.
    fn power_off(&self, vm: Vm) -> Result<()> {
        self.step("power off");
        Ok(vm.power_off()?)
    }
}
