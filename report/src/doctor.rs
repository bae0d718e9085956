//! What a host needs for reports, judged one step after the other: what was found, and what to do where it is not as it should be.

pub mod guests;

use crate::host::Unfit;
use crate::hypercall::Registered;
use crate::status::Reservation;
use xen_pmem_discover::document::{Device, Mode, State};
use xen_pmem_format::units::PhysRange;
use xen_pmem_nvdimm::firmware;
use xen_pmem_nvdimm::nfit::{Nfit, Range};
use xen_pmem_nvdimm::sysfs::SysfsRoot;

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// As it should be.
    Good,
    /// Reports work without it, or less well.
    Note,
    /// Reports fail for it.
    Bad,
    /// It could not be looked at, for a step before it is bad.
    Skipped,
}

impl Grade {
    /// Returns the word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    /// How it went.
    pub verdict: Grade,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Step {
    fn new(name: &'static str, verdict: Grade, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            found: found.into(),
            hint: None,
        }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Returns a step that was not taken, because of another.
    pub fn skipped(name: &'static str, because: &str) -> Self {
        Self::new(name, Grade::Skipped, because)
    }
}

/// Returns whether this is a Dom0 that can report.
pub fn host(found: &Result<(), Unfit>) -> Vec<Step> {
    let xen = || Step::new("Xen", Grade::Good, "this is a Xen host");
    let dom0 = || Step::new("Dom0", Grade::Good, "this is Dom0");
    match found {
        Ok(()) => vec![xen(), dom0(), Step::new("PV", Grade::Good, "Dom0 is a PV guest")],
        Err(unfit @ (Unfit::NotXen(_) | Unfit::Io { .. } | Unfit::Sysfs(_))) => vec![
            Step::new("Xen", Grade::Bad, unfit.to_string())
                .hint("boot Xen (Debian: install xen-system-amd64, and choose it in the boot menu)"),
        ],
        Err(unfit @ Unfit::NotDom0) => vec![
            xen(),
            Step::new("Dom0", Grade::Bad, unfit.to_string()).hint("run it in Dom0"),
        ],
        Err(unfit @ Unfit::Pvh) => vec![
            xen(),
            dom0(),
            Step::new("PV", Grade::Bad, unfit.to_string()).hint("remove dom0=pvh from Xen's command line"),
        ],
    }
}

/// A module that persistent memory requires in Dom0, what is missing without it, and how bad that is.
type Module = (&'static str, &'static str, Grade);

/// The modules of all persistent memory.
const MODULES: [Module; 2] = [
    ("libnvdimm", "regions and namespaces", Grade::Bad),
    ("nd_pmem", "block devices", Grade::Note),
];
/// The module of NVDIMMs.
const NVDIMM_MODULES: [Module; 1] = [("nfit", "NVDIMMs that firmware lists", Grade::Bad)];
/// The modules of CXL memory.
const CXL_MODULES: [Module; 2] = [
    ("cxl_acpi", "windows for CXL memory", Grade::Bad),
    ("cxl_pmem", "persistent memory of CXL devices", Grade::Bad),
];

/// Checks whether the drivers are there. `has_cxl` says whether firmware has windows for persistent memory of CXL devices.
pub fn modules(sysfs: &SysfsRoot, has_cxl: bool) -> Vec<Step> {
    let loaded = sysfs.directory("module");
    let has_nvdimms = !has_cxl || sysfs.directory("firmware/acpi/tables").has("NFIT");
    let nvdimm = NVDIMM_MODULES.iter().filter(|_| has_nvdimms);
    let cxl = CXL_MODULES.iter().filter(|_| has_cxl);
    let modules: Vec<&Module> = MODULES.iter().chain(nvdimm).chain(cxl).collect();
    let missing = modules.iter().filter(|(module, _, _)| !loaded.has(module));
    let steps: Vec<Step> = missing
        .map(|(module, what, verdict)| {
            Step::new("modules", *verdict, format!("{module} is not loaded: no {what}")).hint(format!(
                "modprobe {module}; udev does so by itself where there is persistent memory"
            ))
        })
        .collect();
    if steps.is_empty() {
        let names: Vec<&str> = modules.iter().map(|(module, _, _)| *module).collect();
        let names = names.join(", ");
        return vec![Step::new("modules", Grade::Good, format!("{names} are loaded"))];
    }
    steps
}

/// Checks what firmware says about CXL memory. `makes_regions` says whether Linux makes regions on this processor.
pub fn cxl(windows: &Result<Vec<PhysRange>, firmware::Error>, makes_regions: bool) -> Vec<Step> {
    let windows = match windows {
        Ok(windows) => windows,
        Err(error) => return vec![unreadable("CEDT", error)],
    };
    if windows.is_empty() {
        return Vec::new();
    }
    let ranges: Vec<String> = windows.iter().map(ToString::to_string).collect();
    let found = format!("CXL devices may have persistent memory in {}", ranges.join(", "));
    let mut steps = vec![Step::new("CEDT", Grade::Good, found)];
    if !makes_regions {
        let found = "Linux makes no CXL regions, because the processor says that there is a hypervisor";
        steps.push(Step::new("CXL", Grade::Note, found).hint("boot Xen with dom0-cpuid=no-hypervisor"));
    }
    steps
}

/// Returns a table that is there and cannot be used.
fn unreadable(table: &'static str, error: &firmware::Error) -> Step {
    let step = Step::new(table, Grade::Bad, error.to_string());
    match error {
        firmware::Error::Io { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => {
            step.hint("run as root")
        }
        firmware::Error::Io { .. } => step,
        _ => step.hint("update the firmware"),
    }
}

/// Checks what firmware says about NVDIMMs. Where there is CXL memory instead (`has_cxl`), a table of NVDIMMs is not expected.
pub fn firmware(answer: &Result<Option<Nfit>, firmware::Error>, has_cxl: bool) -> Vec<Step> {
    let step = |verdict, found: String| Step::new("NFIT", verdict, found);
    let nfit = match answer {
        Ok(Some(nfit)) => nfit,
        Ok(None) if has_cxl => return Vec::new(),
        Ok(None) => {
            return vec![step(Grade::Note, "firmware has no NFIT: no NVDIMMs at boot".to_owned())
                .hint("look into the firmware's set-up whether NVDIMMs are enabled; memory of `memmap=` and NVDIMMs plugged in later have none")];
        }
        Err(error) => return vec![unreadable("NFIT", error)],
    };
    let which = |is: fn(&Range) -> bool| {
        let ranges = nfit.ranges.iter().filter(|range| is(range));
        let ranges: Vec<String> = ranges.map(|range| range.range.to_string()).collect();
        (!ranges.is_empty()).then(|| ranges.join(", "))
    };
    let mut steps = Vec::new();
    if let Some(ranges) = which(|range| range.state.obstacle().is_some()) {
        let found = format!("NVDIMMs behind {ranges} are not armed or not mapped");
        steps.push(step(Grade::Bad, found).hint("see `ndctl list -DH`; the hypervisor takes no report on them"));
    }
    if let Some(ranges) = which(|range| !range.write_back) {
        let found = format!("firmware does not allow {ranges} to be mapped write-back, as Xen maps its structures");
        steps.push(step(Grade::Bad, found).hint("update the firmware; the hypervisor takes no report on them"));
    }
    if let Some(ranges) = which(|range| range.state.has_lost_data()) {
        let found =
            format!("NVDIMMs behind {ranges} failed to save, restore or flush: data written earlier may be lost");
        steps.push(step(Grade::Note, found).hint("check the data on their partitions; reports work"));
    }
    for left_out in &nfit.left_out {
        steps.push(step(Grade::Note, format!("firmware's NFIT: {left_out}")).hint("update the firmware; reports work"));
    }
    if steps.is_empty() {
        steps.push(step(
            Grade::Good,
            format!("firmware lists {} of persistent memory", ranges_of(nfit.ranges.len())),
        ));
    }
    steps
}

fn ranges_of(count: usize) -> String {
    if count == 1 {
        "1 range".to_owned()
    } else {
        format!("{count} ranges")
    }
}

/// Returns what namespaces there are, and whether their modes can hold a reservation.
pub fn namespaces(devices: &[Device]) -> Vec<Step> {
    if devices.is_empty() {
        return vec![
            Step::new("namespaces", Grade::Bad, "there is no persistent memory")
                .hint("`ndctl list -RNi` shows regions and what could become a namespace"),
        ];
    }
    devices
        .iter()
        .map(|device| {
            let name = &device.device;
            let found = |word: &str| format!("{name}: {word}");
            match device.mode {
                Mode::Fsdax => Step::new("namespaces", Grade::Good, found("fsdax")),
                Mode::Raw => Step::new("namespaces", Grade::Good, found("raw")),
                Mode::Image => Step::new("namespaces", Grade::Note, found("an image")),
                Mode::Devdax => Step::new("namespaces", Grade::Note, found("devdax: it has no block device, and cannot be prepared"))
                    .hint("ndctl create-namespace --reconfig=NAMESPACE --mode=fsdax --map=mem gives it one, and gives up its content"),
                Mode::Sector => Step::new("namespaces", Grade::Note, found("sector (BTT): its blocks have no fixed address; it cannot be prepared"))
                    .hint("ndctl create-namespace --reconfig=NAMESPACE --mode=fsdax --map=mem changes that, and gives up its content"),
            }
        })
        .collect()
}

/// Returns what is prepared.
pub fn superblocks(devices: &[Device]) -> Vec<Step> {
    let able = devices.iter().filter(|device| device.state != State::Unsupported);
    let steps: Vec<Step> = able
        .map(|device| {
            let name = &device.device;
            let reason = device.reason.as_deref().unwrap_or("no reason was given");
            let step = |verdict, found: String| Step::new("super blocks", verdict, format!("{name}: {found}"));
            match device.state {
                State::Prepared => step(Grade::Good, "prepared".to_owned()),
                State::Degraded => step(Grade::Note, format!("prepared, and degraded: {reason}"))
                    .hint(format!("xen-pmem-provision repair {name}")),
                State::Damaged => {
                    step(Grade::Bad, format!("damaged: {reason}")).hint(format!("xen-pmem-provision verify {name}"))
                }
                State::Unprepared | State::Unsupported => {
                    step(Grade::Note, "not prepared: an ordinary disk".to_owned())
                        .hint(format!("xen-pmem-provision init {name} --dry-run"))
                }
            }
        })
        .collect();
    if steps.is_empty() {
        return vec![Step::skipped("super blocks", "there is no device that could have one")];
    }
    steps
}

/// Returns whether XenStore answers.
pub fn xenstore(answer: &Result<(), String>) -> Step {
    match answer {
        Ok(()) => Step::new("xenstored", Grade::Good, "XenStore answers"),
        Err(error) => Step::new("xenstored", Grade::Bad, error.clone())
            .hint("start Xen's daemons (Debian: systemctl start xen; the package xen-utils-common has them)"),
    }
}

/// Returns whether the hypervisor takes reports.
pub fn hypercall(answer: &Result<Option<Vec<Registered>>, String>) -> Step {
    match answer {
        Ok(Some(known)) => Step::new(
            "hypercall",
            Grade::Good,
            format!("the hypervisor takes reports, and knows {}", ranges_of(known.len())),
        ),
        Ok(None) => Step::new(
            "hypercall",
            Grade::Note,
            "the hypervisor has no pmem support: reports end in XenStore",
        )
        .hint("boot a Xen with the project's patches to have its structures on the pmem"),
        Err(error) => Step::new("hypercall", Grade::Bad, error.clone()).hint("modprobe xen-privcmd; run as root"),
    }
}

/// Returns what is reported, and whether all sides agree.
pub fn reports(reservations: &[Reservation]) -> Vec<Step> {
    if reservations.is_empty() {
        return vec![Step::skipped("reports", "nothing is prepared and nothing is published")];
    }
    reservations
        .iter()
        .flat_map(|it| {
            let name = it
                .device
                .as_deref()
                .or(it.uuid.as_deref())
                .unwrap_or("a range of the hypervisor's");
            if it.disagreements.is_empty() {
                return vec![Step::new(
                    "reports",
                    Grade::Good,
                    format!("{name}: reported, and all sides agree"),
                )];
            }
            it.disagreements
                .iter()
                .map(|what| {
                    Step::new("reports", Grade::Bad, format!("{name}: {what}"))
                        .hint("`xen-pmem-report status` has the details, `journalctl -t xen-pmem-report` what happened")
                })
                .collect()
        })
        .collect()
}

/// Returns whether the kernel has what eBPF programs need.
pub fn btf(sysfs: &SysfsRoot) -> Step {
    if sysfs.has_btf() {
        Step::new("BTF", Grade::Good, "the kernel describes its types")
    } else {
        Step::new(
            "BTF",
            Grade::Note,
            "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF)",
        )
        .hint("`xen-pmem-discover guard` and `monitor --source bpf` need a kernel that does; all else works")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::device;
    use crate::status::{InHypervisor, InStore};
    use std::fs;
    use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
    use xen_pmem_nvdimm::nfit::{State as Flags, Table};

    fn verdicts(steps: &[Step]) -> Vec<Grade> {
        steps.iter().map(|step| step.verdict).collect()
    }

    /// Asserts that each check that is not good says what to do, unless it was not made.
    fn has_hints(steps: &[Step]) {
        for step in steps {
            let wanted = matches!(step.verdict, Grade::Note | Grade::Bad);
            assert_eq!(step.hint.is_some(), wanted, "{step:?}");
        }
    }

    #[test]
    fn hosts() {
        use Grade::{Bad, Good};
        for (found, expected) in [
            (Ok(()), &[Good, Good, Good][..]),
            (Err(Unfit::NotXen("there is none")), &[Bad]),
            (Err(Unfit::NotDom0), &[Good, Bad]),
            (Err(Unfit::Pvh), &[Good, Good, Bad]),
        ] {
            let steps = host(&found);
            assert_eq!(verdicts(&steps), expected, "{found:?}");
            has_hints(&steps);
        }
    }

    #[test]
    fn tables_of_firmware() {
        use Grade::{Bad, Good, Note};
        let root = tempfile::tempdir().unwrap();
        let sysfs = SysfsRoot::new(root.path());
        let tables = root.path().join("firmware/acpi/tables");
        let steps = firmware(&firmware::nfit(&sysfs), false);
        assert_eq!(verdicts(&steps), [Note]);
        has_hints(&steps);
        assert_eq!(firmware(&firmware::nfit(&sysfs), true), []);
        assert_eq!(cxl(&firmware::cxl_windows(&sysfs), false), []);
        let window = PhysRange::new(PhysAddr(1 << 40), Bytes(1 << 32)).unwrap();
        assert_eq!(verdicts(&cxl(&Ok(vec![window]), true)), [Good]);
        assert_eq!(verdicts(&cxl(&Ok(vec![window]), false)), [Good, Note]);
        fs::create_dir_all(&tables).unwrap();
        let range = PhysRange::new(PhysAddr(1 << 32), Bytes(1 << 29)).unwrap();
        let of = |state| Table::default().range(1, range).mapping(1, 1, Flags(state));
        for (table, expected) in [
            (Table::default(), &[Good][..]),
            (of(0), &[Good]),
            (of(0x21), &[Note]),
            (of(1 << 3), &[Bad]),
            (of(1 << 6), &[Bad]),
            (of(0x1f), &[Bad, Note]),
            (of(0).structure(&[0; 4]), &[Note]),
            (of(0).structure(&[0, 0, 1, 0]), &[Bad]),
        ] {
            fs::write(tables.join("NFIT"), table.to_bytes().unwrap()).unwrap();
            let steps = firmware(&firmware::nfit(&sysfs), false);
            assert_eq!(verdicts(&steps), expected, "{steps:?}");
            let not_good: Vec<Step> = steps.into_iter().filter(|step| step.verdict != Good).collect();
            has_hints(&not_good);
        }
        fs::write(tables.join("CEDT"), b"CEDT").unwrap();
        let steps = cxl(&firmware::cxl_windows(&sysfs), true);
        assert_eq!(verdicts(&steps), [Bad]);
        has_hints(&steps);
    }

    #[test]
    fn modules_and_types() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = SysfsRoot::new(root.path());
        let names = |steps: &[Step]| -> Vec<String> {
            let first = |step: &Step| step.found.split(' ').next().unwrap_or_default().to_owned();
            steps.iter().map(first).collect()
        };
        let steps = modules(&sysfs, false);
        assert_eq!(verdicts(&steps), [Grade::Bad, Grade::Note, Grade::Bad]);
        assert_eq!(names(&steps), ["libnvdimm", "nd_pmem", "nfit"]);
        has_hints(&steps);
        let steps = modules(&sysfs, true);
        assert_eq!(names(&steps), ["libnvdimm", "nd_pmem", "cxl_acpi", "cxl_pmem"]);
        fs::create_dir_all(root.path().join("firmware/acpi/tables/NFIT")).unwrap();
        let steps = modules(&sysfs, true);
        assert_eq!(names(&steps), ["libnvdimm", "nd_pmem", "nfit", "cxl_acpi", "cxl_pmem"]);
        for (module, _, _) in MODULES.iter().chain(&NVDIMM_MODULES).chain(&CXL_MODULES) {
            fs::create_dir_all(root.path().join("module").join(module)).unwrap();
        }
        for has_cxl in [false, true] {
            assert_eq!(verdicts(&modules(&sysfs, has_cxl)), [Grade::Good]);
        }

        has_hints(&[btf(&sysfs)]);
        assert_eq!(btf(&sysfs).verdict, Grade::Note);
        fs::create_dir_all(root.path().join("kernel/btf")).unwrap();
        fs::write(root.path().join("kernel/btf/vmlinux"), b"").unwrap();
        assert_eq!(btf(&sysfs).verdict, Grade::Good);
    }

    #[test]
    fn devices() {
        for (mode, expected) in [
            (Mode::Raw, Grade::Good),
            (Mode::Fsdax, Grade::Good),
            (Mode::Devdax, Grade::Note),
            (Mode::Sector, Grade::Note),
        ] {
            let steps = namespaces(&[Device { mode, ..device() }]);
            assert_eq!(verdicts(&steps), [expected], "{mode:?}");
            has_hints(&steps);
        }
        for (state, expected) in [
            (State::Prepared, Grade::Good),
            (State::Degraded, Grade::Note),
            (State::Damaged, Grade::Bad),
            (State::Unprepared, Grade::Note),
            (State::Unsupported, Grade::Skipped),
        ] {
            let steps = superblocks(&[Device { state, ..device() }]);
            assert_eq!(verdicts(&steps), [expected], "{state:?}");
            has_hints(&steps);
        }
        assert_eq!(verdicts(&namespaces(&[])), [Grade::Bad]);
    }

    #[test]
    fn answers() {
        for (step, expected) in [
            (xenstore(&Ok(())), Grade::Good),
            (xenstore(&Err("no socket".into())), Grade::Bad),
            (hypercall(&Ok(None)), Grade::Note),
            (hypercall(&Ok(Some(Vec::new()))), Grade::Good),
            (hypercall(&Err("no device".into())), Grade::Bad),
        ] {
            assert_eq!(step.verdict, expected, "{step:?}");
            has_hints(&[step]);
        }
        let reservation = |disagreements: &[&str]| Reservation {
            uuid: None,
            device: Some("/dev/pmem0".into()),
            range: None,
            reserved: None,
            partitions: None,
            xenstore: InStore::Ready,
            hypervisor: InHypervisor::Unsupported,
            disagreements: disagreements.iter().map(|it| (*it).to_owned()).collect(),
        };
        let steps = reports(&[reservation(&[]), reservation(&["one", "two"])]);
        assert_eq!(verdicts(&steps), [Grade::Good, Grade::Bad, Grade::Bad]);
        has_hints(&steps);
        assert_eq!(verdicts(&reports(&[])), [Grade::Skipped]);
    }
}
