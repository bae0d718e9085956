//! `doctor`: checks a host step by step.

use super::status::{compared, hypervisor_of};
use super::{SCHEMA, When, scan_host};
use crate::doctor::guests::{Found, Hypervisor};
use crate::doctor::{self, Grade, Step};
use crate::guest::{dm, domains};
use crate::host;
use crate::hypercall::Hypercall;
use crate::xenstore::XenStore;
use anstyle::{AnsiColor, Style};
use serde::{Serialize, Serializer};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{self as cli, Failure, Flags};
use xen_pmem_nvdimm::firmware;
use xen_pmem_nvdimm::guest_claim::Claim;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Document {
    schema: u32,
    steps: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    #[serde(serialize_with = "as_word")]
    verdict: Grade,
    found: String,
    hint: Option<String>,
}

fn as_word<S: Serializer>(verdict: &Grade, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.as_str())
}

impl From<Step> for Line {
    fn from(step: Step) -> Self {
        Self {
            name: step.name,
            verdict: step.verdict,
            found: step.found,
            hint: step.hint,
        }
    }
}

pub(crate) fn run(_: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let (steps, status) = examine()?;
    let document = Document {
        schema: SCHEMA,
        steps: steps.into_iter().map(Line::from).collect(),
    };
    flags.print(&document, || text(&document, cli::has_colours()))?;
    Ok(status)
}

/// Returns whether Linux makes regions of CXL memory here: not where the processor says that there is a hypervisor, because then the caches
/// cannot be flushed (Linux `arch/x86/mm/pat/set_memory.c`, `cpu_cache_has_invalidate_memregion`).
fn makes_cxl_regions() -> bool {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processors.lines().find(|line| line.starts_with("flags"));
    !flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// Takes all steps, and says how the program ends.
fn examine() -> Result<(Vec<Step>, ExitStatus), Failure> {
    let sysfs = SysfsRoot::default();
    let fit = host::check(&sysfs, Path::new(host::XENFS));
    let is_fit = fit.is_ok();
    let mut steps = doctor::host(&fit);
    let windows = firmware::cxl_windows(&sysfs);
    let has_cxl = windows.as_ref().is_ok_and(|windows| !windows.is_empty());
    steps.extend(doctor::modules(&sysfs, has_cxl));
    steps.extend(doctor::firmware(&firmware::nfit(&sysfs), has_cxl));
    steps.extend(doctor::cxl(&windows, makes_cxl_regions()));
    let (scan, unreadable) = scan_host(&[], When::Late)?;
    steps.extend(doctor::namespaces(&scan.devices));
    steps.extend(doctor::superblocks(&scan.devices));
    if is_fit {
        let store = XenStore::connect().and_then(|store| store.published());
        let mut xen = Hypercall::open();
        let answer = match &mut xen {
            Ok(xen) => xen.registered().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        steps.push(doctor::xenstore(
            &store.as_ref().map(|_| ()).map_err(ToString::to_string),
        ));
        steps.push(doctor::hypercall(&answer));
        let takes_reports = matches!(answer, Ok(Some(_)));
        match store {
            Ok(published) => {
                let hypervisor = hypervisor_of(answer.ok());
                steps.extend(doctor::reports(&compared(&scan, &published, &hypervisor)));
            }
            Err(_) => steps.push(Step::skipped("reports", "XenStore does not answer")),
        }
        let hypervisor = match &mut xen {
            Ok(xen) if takes_reports => match xen.maps_into_guests() {
                Ok(true) => Hypervisor::Maps,
                // An error would have been one of the step above, too.
                Ok(false) | Err(_) => Hypervisor::ReportsOnly,
            },
            _ => Hypervisor::Stock,
        };
        steps.extend(guests(&sysfs, hypervisor)?);
    } else {
        for name in ["xenstored", "hypercall", "reports", "guests"] {
            steps.push(Step::skipped(name, "nothing can be reported from here"));
        }
    }
    steps.push(doctor::btf(&sysfs));
    let bad = steps.iter().any(|step| step.verdict == Grade::Bad);
    let status = if !is_fit {
        ExitStatus::Unsupported
    } else if bad || unreadable {
        ExitStatus::Failed
    } else {
        ExitStatus::Done
    };
    Ok((steps, status))
}

/// Looks at what guests need.
fn guests(sysfs: &SysfsRoot, hypervisor: Hypervisor) -> Result<Vec<Step>, Failure> {
    // Its list of commands has one that only the series has.
    let help = Command::new("xl").arg("help").output().ok();
    Ok(doctor::guests::steps(&Found {
        hypervisor,
        xl: help.map(|help| String::from_utf8_lossy(&help.stdout).contains("pmem-list")),
        device_mapper: Path::new(dm::CONTROL).exists(),
        claims: Claim::all(sysfs).map_err(Failure::failed)?,
        // That XenStore does not answer has been said above.
        domains: domains::of_host().ok(),
    }))
}

fn text(document: &Document, coloured: bool) -> String {
    let mut text = String::new();
    for Line {
        name,
        verdict,
        found,
        hint,
    } in &document.steps
    {
        let style = if coloured { style(*verdict) } else { Style::new() };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{style}{:<7}{style:#} {name:<13} {found}", verdict.as_str());
        if let Some(hint) = hint {
            let _ = writeln!(text, "{:22}-> {hint}", "");
        }
    }
    text
}

fn style(verdict: Grade) -> Style {
    let colour = match verdict {
        Grade::Good => AnsiColor::Green,
        Grade::Note => AnsiColor::Yellow,
        Grade::Bad => AnsiColor::Red,
        Grade::Skipped => return Style::new().dimmed(),
    };
    colour.on_default().bold()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_change_no_word() {
        let document = Document {
            schema: SCHEMA,
            steps: vec![
                Line {
                    name: "one",
                    verdict: Grade::Good,
                    found: "is there".to_owned(),
                    hint: None,
                },
                Line {
                    name: "two",
                    verdict: Grade::Bad,
                    found: "is not".to_owned(),
                    hint: Some("do it".to_owned()),
                },
            ],
        };
        let plain = text(&document, false);
        assert_eq!(
            plain,
            "good    one           is there\nbad     two           is not\n                      -> do it\n"
        );
        let coloured = text(&document, true);
        assert_eq!(coloured.matches('\u{1b}').count(), 6, "{coloured:?}");
        let json = serde_json::to_value(&document).unwrap();
        assert_eq!(json["steps"][1]["verdict"], "bad");
    }
}
