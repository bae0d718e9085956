//! `cargo xtask bench`: our commands beside those that people use today, in one run; written to `docs/performance.md`.
//!
//! A part is a section of the page. One that is not run keeps the section that it has.

mod events;
mod goal;
mod guard;
mod guest;
mod guests;
mod hypercall;
mod images;
mod machines;
mod page;
mod samples;
mod scenarios;
mod sizes;

pub(crate) use images::NEEDS;

use crate::host;
use crate::progress::step;
use crate::tools;
use anyhow::{Context as _, Result};
use clap::ValueEnum;
use page::Page;
use std::fs;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each command is run on an image
    #[arg(long, default_value_t = 40)]
    runs: usize,
    /// Measure these only, and leave the other sections of the page as they are
    #[arg(value_enum)]
    parts: Vec<Part>,
}

/// A section of the page, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Part {
    /// Commands on images
    Images,
    /// Commands in a Dom0 with one NVDIMM and with eight
    Guest,
    /// From a device's event to its report
    Events,
    /// Telling Xen, and what it uses
    Hypercall,
    /// What a guest gets of persistent memory, and what giving it takes
    Guests,
    /// What the guard costs
    Guard,
    /// Sizes of the static binaries
    Sizes,
    /// How long the scenarios took when all of them were last run
    Scenarios,
}

impl Part {
    /// Returns its name on the command line and in the page.
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Returns whether it is measured in machines.
    fn takes_machines(self) -> bool {
        matches!(
            self,
            Self::Guest | Self::Events | Self::Hypercall | Self::Guests | Self::Guard
        )
    }
}

/// Measures, prints and writes the page.
///
/// # Errors
///
/// If something cannot be measured; then the page stays as it was.
pub(crate) fn run(options: &Options) -> Result<()> {
    let parts: Vec<Part> = Part::value_variants()
        .iter()
        .copied()
        .filter(|part| options.parts.is_empty() || options.parts.contains(part))
        .collect();
    let wanted = |part| parts.contains(&part);
    // A page that nothing can be put into is better told before it all than after it.
    Page::read()?;
    let machine = machine()?;
    let mut sections = Vec::new();
    let mut put = |part: Part, text: &str| {
        println!("{text}");
        sections.push((part, format!("{text}\n{machine}\n")));
    };
    // First of all: it is there or it is not, and no other part takes the time to find that out.
    if wanted(Part::Scenarios) {
        put(Part::Scenarios, &scenarios::section()?);
    }
    if wanted(Part::Sizes) || wanted(Part::Images) {
        host::install(NEEDS)?;
        step("building the tools as static binaries");
        let tools = tools::build()?;
        if wanted(Part::Sizes) {
            put(Part::Sizes, &sizes::section(&tools)?);
        }
        if wanted(Part::Images) {
            put(Part::Images, &images::section(&tools, options.runs)?);
        }
    }
    let names: Vec<Part> = parts.iter().copied().filter(|part| part.takes_machines()).collect();
    if !names.is_empty() {
        let measured = machines::measure(&names)?;
        for part in names {
            let document = measured.get(part.name()).context("a measurement is missing")?.clone();
            let section = match part {
                Part::Guest => guest::section(serde_json::from_value(document)?),
                Part::Events => events::section(serde_json::from_value(document)?),
                Part::Guests => guests::section(serde_json::from_value(document)?),
                Part::Hypercall => hypercall::section(serde_json::from_value(document)?),
                _ => guard::section(serde_json::from_value(document)?),
            };
            put(part, &section?);
        }
    }
    let mut page = Page::read()?;
    for (part, section) in sections {
        page.put(part, section);
    }
    page.write()
}

/// Returns the machine that it was measured on.
fn machine() -> Result<String> {
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let field = |name: &str| {
        let line = processor.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split(':').nth(1)).map(str::trim)
    };
    let model = field("model name").unwrap_or("an unknown processor");
    let hypervisor = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let count = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "*On {model}, {count} processors{}, Linux {}.*",
        if hypervisor { " in a virtual machine" } else { "" },
        kernel.trim()
    ))
}
