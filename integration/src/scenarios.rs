//! The scenarios, one a module.

mod bare_provision;
mod coexistence;
mod concurrency;
mod crashing_guest;
mod cxl;
mod documents;
mod guard;
mod guest_fsdax;
mod guest_pmem;
mod guest_stock;
mod guide;
mod image_offline;
mod installed;
mod linux_guest;
mod monitor;
mod nothing_there;
mod power_cut;
mod recording;
mod shapes;
mod snapshots;
mod watch;
mod xen_dma;
mod xen_firmware;
pub(crate) mod xen_guest;
mod xen_guest_pmem;
mod xen_hotplug;
mod xen_lives;
mod xen_mce;
mod xen_operations;
mod xen_provision_fsdax;
mod xen_refuses;
mod xen_report;
mod xen_sizing;

use crate::image::{self, MIB};
use crate::layout::Layout;
use crate::machine::{Config, Iommu, Kind, Nvdimm};
use crate::manifest::{Hypervisor, Manifest};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// What only some scenarios need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// An installed system.
    System,
    /// The toolstack with the project's patches.
    Toolstack,
    /// An emulator with CXL memory.
    Cxl,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::System, Self::Toolstack, Self::Cxl];

    /// Returns the word for it in the list for `cargo xtask e2e`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Toolstack => "toolstack",
            Self::Cxl => "cxl",
        }
    }
}

/// One scenario.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// The hypervisors that it is run on; for one without any, the first.
    pub on: &'static [Hypervisor],
    /// What it needs beside a hypervisor.
    pub needs: &'static [Need],
    /// Runs it.
    pub run: fn(&Run<'_>) -> Result<()>,
}

const STOCK: &[Hypervisor] = &[Hypervisor::Stock];
const PATCHED: &[Hypervisor] = &[Hypervisor::Patched];
const PATCHED_AND_DEBUG: &[Hypervisor] = &[Hypervisor::Patched, Hypervisor::Debug];
const ALL_HYPERVISORS: &[Hypervisor] = &Hypervisor::ALL;
const BOTH: &[Hypervisor] = &[Hypervisor::Stock, Hypervisor::Patched];

/// A scenario on a hypervisor: what is run.
#[derive(Clone, Copy)]
pub struct Variant {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// The hypervisor.
    pub hypervisor: Hypervisor,
}

impl Variant {
    /// Returns its name: the scenario's, followed by the hypervisor's unless that is the stock one.
    pub fn name(&self) -> String {
        match self.hypervisor {
            Hypervisor::Stock => self.scenario.name.to_owned(),
            other => format!("{}@{}", self.scenario.name, other.as_str()),
        }
    }

    /// Returns whether `name` is its name or that of its scenario.
    pub fn is_called(&self, name: &str) -> bool {
        self.scenario.name == name || self.name() == name
    }
}

/// Returns all that can be run.
pub fn variants() -> impl Iterator<Item = Variant> {
    ALL.iter().flat_map(|scenario| {
        scenario.on.iter().map(move |hypervisor| Variant {
            scenario,
            hypervisor: *hypervisor,
        })
    })
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "bare-provision",
        about: "bare Linux prepares a raw NVDIMM; file system and partitioning tool work on it",
        on: STOCK,
        needs: &[],
        run: bare_provision::run,
    },
    Scenario {
        name: "xen-report",
        about: "the same NVDIMM under Xen: discovered, published in XenStore, withdrawn",
        on: BOTH,
        needs: &[],
        run: xen_report::run,
    },
    Scenario {
        name: "xen-provision-fsdax",
        about: "Dom0 prepares a fsdax namespace, bare Linux reads it, both with DAX",
        on: BOTH,
        needs: &[],
        run: xen_provision_fsdax::run,
    },
    Scenario {
        name: "image-offline",
        about: "an image prepared without privileges on the host is an NVDIMM prepared at first boot",
        on: BOTH,
        needs: &[],
        run: image_offline::run,
    },
    Scenario {
        name: "nothing-there",
        about: "no Xen, no NVDIMM, nothing prepared: clear words, the right exit codes, nothing written",
        on: BOTH,
        needs: &[],
        run: nothing_there::run,
    },
    Scenario {
        name: "installed",
        about: "a Debian system with the packages: reports at boot and on hotplug; upgrade, removal, purge",
        on: BOTH,
        needs: &[Need::System],
        run: installed::lifecycle,
    },
    Scenario {
        name: "installed-dracut",
        about: "the same from an initramfs made by dracut",
        on: PATCHED,
        needs: &[Need::System],
        run: installed::dracut,
    },
    Scenario {
        name: "installed-not-early",
        about: "without the early report, or without time for it, boot goes on and the reason is said",
        on: PATCHED,
        needs: &[Need::System],
        run: installed::not_early,
    },
    Scenario {
        name: "installed-bare",
        about: "on bare Linux the installed units are quiet",
        on: STOCK,
        needs: &[Need::System],
        run: installed::bare,
    },
    Scenario {
        name: "guide",
        about: "the commands of the operator's guide, one after the other: from the packages to a guest that finds its file after a power failure",
        on: PATCHED,
        needs: &[Need::System, Need::Toolstack],
        run: guide::run,
    },
    Scenario {
        name: "documents",
        about: "the commands of all other documents, and what they are shown to print",
        on: PATCHED,
        needs: &[],
        run: documents::run,
    },
    Scenario {
        name: "xen-lives",
        about: "Xen's structures live in the reserved areas: which frames change, and that file systems go on",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_lives::run,
    },
    Scenario {
        name: "xen-refuses",
        about: "reports that Xen refuses or that fail midway leave it as it was; late reports of raw devices",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_refuses::run,
    },
    Scenario {
        name: "xen-operations",
        about: "operations are sent to a hypervisor that advertises them, and to no other",
        on: ALL_HYPERVISORS,
        needs: &[],
        run: xen_operations::run,
    },
    Scenario {
        name: "xen-firmware",
        about: "what the NFIT says decides what can be reported: attributes, flags, overlaps, structures that are malformed",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_firmware::run,
    },
    Scenario {
        name: "xen-dma",
        about: "with an IOMMU devices reach the data, and cannot write to the reserved area",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_dma::run,
    },
    Scenario {
        name: "xen-mce",
        about: "memory errors in persistent memory: told to Dom0, contained, and named where they are in Xen's structures",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_mce::run,
    },
    Scenario {
        name: "xen-guest",
        about: "after a report a guest domain starts and stops; what it has as its disk is in use",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_guest::run,
    },
    Scenario {
        name: "guest-fsdax",
        about: "a partition comes up in fsdax mode in a guest, by the kernel's own bytes; partitions are wiped",
        on: STOCK,
        needs: &[],
        run: guest_fsdax::run,
    },
    Scenario {
        name: "guest-stock",
        about: "a PVH guest of stock Xen has partitions of its own, claimed from Dom0's use and released when it is gone",
        on: STOCK,
        needs: &[],
        run: guest_stock::run,
    },
    Scenario {
        name: "guest-pmem",
        about: "a guest has partitions by one line in its configuration: mounts, DAX, reboots, a power cut; Dom0 and others are kept off",
        on: PATCHED,
        needs: &[Need::Toolstack],
        run: guest_pmem::run,
    },
    Scenario {
        name: "xen-guest-pmem",
        about: "guests are given partitions as memory: what is refused, what comes back, and when",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_guest_pmem::run,
    },
    Scenario {
        name: "xen-hotplug",
        about: "NVDIMMs plugged into a running host are reported before their driver binds",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_hotplug::run,
    },
    Scenario {
        name: "xen-sizing",
        about: "what init reserves against what Xen uses, 128 MiB to 64 GiB at odd addresses",
        on: PATCHED_AND_DEBUG,
        needs: &[],
        run: xen_sizing::run,
    },
    Scenario {
        name: "monitor",
        about: "the events of boot, hotplug, preparing, repartitioning, disabling and enabling, one for one",
        on: STOCK,
        needs: &[],
        run: monitor::bare,
    },
    Scenario {
        name: "monitor-dom0",
        about: "the same in a Dom0",
        on: STOCK,
        needs: &[],
        run: monitor::in_dom0,
    },
    Scenario {
        name: "guard",
        about: "writes to reserved areas are seen, attributed, counted, and their processes killed if so wished",
        on: STOCK,
        needs: &[],
        run: guard::run,
    },
    Scenario {
        name: "shapes-labels",
        about: "namespaces of all modes in one region, bare and under Xen",
        on: STOCK,
        needs: &[],
        run: shapes::labels,
    },
    Scenario {
        name: "shapes-many",
        about: "eight NVDIMMs of odd sizes, at addresses that move between boots",
        on: STOCK,
        needs: &[],
        run: shapes::many,
    },
    Scenario {
        name: "shapes-legacy",
        about: "memory that the kernel's command line declares to be persistent",
        on: STOCK,
        needs: &[],
        run: shapes::legacy,
    },
    Scenario {
        name: "watch",
        about: "reports come and go with their devices, without udev; copied disks; xenstored and watch started anew",
        on: STOCK,
        needs: &[],
        run: watch::run,
    },
    Scenario {
        name: "power-cut",
        about: "QEMU is killed 20 times while the guest changes the layout: the host always finds the old or the new one",
        on: STOCK,
        needs: &[],
        run: power_cut::run,
    },
    Scenario {
        name: "coexistence",
        about: "sgdisk, sfdisk, parted, partprobe and ndctl on a prepared NVDIMM",
        on: STOCK,
        needs: &[],
        run: coexistence::run,
    },
    Scenario {
        name: "concurrency",
        about: "a second provisioner, a lock, readers of the partition table, a device that disappears",
        on: STOCK,
        needs: &[],
        run: concurrency::run,
    },
    Scenario {
        name: "cxl-bare",
        about: "bare Linux prepares CXL memory, of one device and interleaved; the reservation outlives its region",
        on: STOCK,
        needs: &[Need::Cxl],
        run: cxl::bare,
    },
    Scenario {
        name: "cxl-report",
        about: "CXL memory in a Dom0 on stock Xen: published, diagnosed, withdrawn when its region is destroyed",
        on: STOCK,
        needs: &[Need::Cxl],
        run: cxl::report,
    },
    Scenario {
        name: "cxl-lives",
        about: "Xen's structures live in CXL memory, if Xen is told to take Dom0's word for it",
        on: PATCHED,
        needs: &[Need::Cxl],
        run: cxl::lives,
    },
    Scenario {
        name: "cxl-guest",
        about: "a guest has a partition of CXL memory by one line in its configuration",
        on: PATCHED,
        needs: &[Need::Toolstack, Need::Cxl],
        run: cxl::guest,
    },
    Scenario {
        name: "cxl-installed",
        about: "an installed Dom0 reports a region of CXL memory when it is made, before the driver binds",
        on: PATCHED,
        needs: &[Need::System, Need::Cxl],
        run: cxl::installed,
    },
    Scenario {
        name: "snapshots",
        about: "machines woken up from one snapshot are machines of their own, with the tools as they are now",
        on: STOCK,
        needs: &[],
        run: snapshots::run,
    },
    Scenario {
        name: "crashing-guest",
        about: "a guest that crashes or does not come up is noticed at once, and called what it is",
        on: STOCK,
        needs: &[],
        run: crashing_guest::run,
    },
];

/// How large the NVDIMMs of these scenarios are.
const NVDIMM_SIZE: u64 = 512 * MIB;

/// An NVDIMM that was prepared on this machine.
struct Prepared {
    /// What is on it.
    file: PathBuf,
    /// Where its parts are, and which it is.
    layout: Layout,
}

/// One run of a scenario.
pub struct Run<'a> {
    /// What is run.
    name: String,
    /// The Xen to boot.
    pub hypervisor: Hypervisor,
    /// What there is to boot.
    pub manifest: &'a Manifest,
    /// Its own folder.
    pub folder: &'a Path,
    /// The IOMMU of machines with Xen whose scenario does not say which they have.
    iommu: Option<Iommu>,
    step: Mutex<String>,
}

impl<'a> Run<'a> {
    /// Returns a run of a scenario with its own folder.
    pub fn new(variant: Variant, manifest: &'a Manifest, folder: &'a Path, iommu: Option<Iommu>) -> Self {
        Self {
            name: variant.name(),
            hypervisor: variant.hypervisor,
            manifest,
            folder,
            iommu,
            step: Mutex::new(String::new()),
        }
    }

    /// Names the next step. If the step fails, the name says which one it was.
    pub fn step(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
        if let Ok(mut step) = self.step.lock() {
            what.clone_into(&mut step);
        }
    }

    /// Returns the step that the run is at.
    pub fn current_step(&self) -> String {
        self.step.lock().map(|step| step.clone()).unwrap_or_default()
    }

    /// Makes the file of a blank NVDIMM.
    fn blank_nvdimm(&self) -> Result<PathBuf> {
        let file = self.folder.join("nvdimm");
        image::blank(&file, NVDIMM_SIZE)?;
        Ok(file)
    }

    /// Makes the file of an NVDIMM that the provisioner has prepared on this machine.
    fn prepared_nvdimm(&self, name: &str, size: u64) -> Result<Prepared> {
        self.provisioned(name, size, &[])
    }

    /// Does so with partitions as the provisioner is asked for them; without any it makes one.
    fn provisioned(&self, name: &str, size: u64, partitions: &[&str]) -> Result<Prepared> {
        let file = self.folder.join(name);
        let partitions = partitions.iter().flat_map(|partition| ["--partition", partition]);
        let output = Command::new(&self.manifest.provision)
            .args(["init", "--size", &size.to_string()])
            .args(partitions)
            .arg(&file)
            .output()
            .context("cannot start xen-pmem-provision on the host")?;
        ensure!(
            output.status.success(),
            "init on the host fails: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let layout = Layout::read(&file, 0, size)?;
        Ok(Prepared { file, layout })
    }

    /// Boots a machine with these NVDIMMs, without any module of libnvdimm.
    fn boot(&self, kind: Kind, nvdimms: &[&Path]) -> Result<Vm> {
        self.step(match kind {
            Kind::Bare => "boot Linux",
            Kind::Xen => "boot Xen",
        });
        let nvdimms = nvdimms.iter().map(|file| Nvdimm::unlabelled(file)).collect();
        self.boot_as(Config::new(kind, nvdimms))
    }

    /// Boots a machine that is made as `config` says, with the run's hypervisor if it has one.
    fn boot_as(&self, config: Config) -> Result<Vm> {
        let config = Config {
            hypervisor: self.hypervisor,
            iommu: config.iommu.or(self.iommu.filter(|_| config.kind == Kind::Xen)),
            ..config
        };
        Ok(Vm::boot(self.manifest, self.folder, &config)?)
    }

    /// Boots a machine as [`Run::boot`] does, makes the block device of its NVDIMM appear, and starts xenstored if it is under Xen.
    fn boot_with_pmem(&self, kind: Kind, nvdimm: &Path) -> Result<Vm> {
        let mut vm = self.boot(kind, &[nvdimm])?;
        if kind == Kind::Xen {
            self.bring_up_dom0(&mut vm)?;
        }
        self.step("load the NVDIMM drivers");
        vm.load_nvdimm_drivers()?;
        vm.wait_for("/dev/pmem0")?;
        Ok(vm)
    }

    /// Does what a Dom0 does at boot before the driver nd_pmem is there: starts xenstored, and reports early to a Xen that accepts reports.
    fn bring_up_dom0(&self, vm: &mut Vm) -> Result<()> {
        self.step("start xenstored");
        vm.start_xenstored(&self.manifest.xen_version)?;
        if self.hypervisor.knows_pmem() {
            self.step("report what is prepared before the driver binds");
            vm.load_nvdimm_core()?;
            let output = vm.exec(&["xen-pmem-report", "apply", "--early", "--all"], "")?;
            let nothing_prepared = 4;
            ensure!(
                matches!(output.code, Some(0)) || output.code == Some(nothing_prepared),
                "{output:?}"
            );
        }
        Ok(())
    }

    /// Turns a machine off in an orderly way.
    fn power_off(&self, vm: Vm) -> Result<()> {
        self.step("power off");
        Ok(vm.power_off()?)
    }

    /// Ends a machine at once, after a look at its console for bad news. What it has not written yet is lost.
    fn leave(&self, vm: Vm) -> Result<()> {
        Ok(vm.leave()?)
    }
}
