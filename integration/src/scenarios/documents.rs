//! The commands of all documents but the operator's guide, and what they are shown to print: those of bare Linux first, then those of
//! Dom0, on one NVDIMM.

use super::Run;
use crate::documents::{self, Command, Document, GUIDE, Place};
use crate::machine::{Config, Kind, Nvdimm};
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::time::Duration;

/// Where commands are run.
const FOLDER: &str = "/root";
/// What commands print that stand with what they print.
const LOG: &str = "/run/printed";
/// How long a line of output may take.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimm = run.blank_nvdimm()?;
    let documents: Vec<Document> = documents::all()?;
    let mut blocks = Vec::new();
    for document in documents.iter().filter(|document| document.name != GUIDE) {
        let found = documents::blocks(&document.text).into_iter();
        blocks.extend(found.filter_map(|block| Some((block.place()?, &document.name, block))));
    }
    // In the order of the documents otherwise, the README first: it prepares the device.
    blocks.sort_by_key(|(place, _, _)| *place);
    let mut machine: Option<(Place, Vm)> = None;
    let mut commands = 0;
    for (place, name, block) in blocks {
        let mut vm = arrive(run, machine.take(), place, &nvdimm)?;
        let mut session = Session::new(&mut vm)?;
        for command in block.commands() {
            run.step(&format!("{name}: {}", command.line));
            session.run(&command)?;
            commands += 1;
        }
        session.end()?;
        machine = Some((place, vm));
    }
    ensure!(commands > 10, "the documents have {commands} commands only");
    let (_, vm) = machine.context("the documents have no commands")?;
    run.power_off(vm)
}

/// Returns the machine at this place: the one that is there, if it can be brought there, or another.
fn arrive(run: &Run<'_>, machine: Option<(Place, Vm)>, place: Place, nvdimm: &Path) -> Result<Vm> {
    match machine {
        Some((before, vm)) if before == place => Ok(vm),
        Some((Place::Initramfs, mut vm)) if place == Place::Dom0 => {
            run.step("what an initramfs is followed by: the driver's devices, and xenstored");
            vm.wait_for("/dev/pmem0p1")?;
            vm.start_xenstored(&run.manifest.xen_version)?;
            Ok(vm)
        }
        other => {
            if let Some((_, vm)) = other {
                run.power_off(vm)?;
            }
            match place {
                Place::Linux => run.boot_with_pmem(Kind::Bare, nvdimm),
                Place::Initramfs => {
                    run.step("boot Xen");
                    let nvdimms = vec![Nvdimm::unlabelled(nvdimm)];
                    let xen = vec!["pmem=hotplug".to_owned()];
                    run.boot_as(Config {
                        xen,
                        ..Config::new(Kind::Xen, nvdimms)
                    })
                }
                Place::Dom0 => bail!("no document has commands for the initramfs, which those for Dom0 come after"),
                Place::Guest => bail!("{GUIDE} alone has commands for guests"),
            }
        }
    }
}

/// The commands of one block, one after the other.
struct Session<'a> {
    vm: &'a mut Vm,
    /// Those that go on until the block ends.
    running: Vec<u32>,
    /// How many lines have been looked at.
    seen: usize,
}

impl<'a> Session<'a> {
    fn new(vm: &'a mut Vm) -> Result<Self> {
        vm.script(&format!(": >{LOG}"))?;
        Ok(Self {
            vm,
            running: Vec::new(),
            seen: 0,
        })
    }

    fn run(&mut self, command: &Command) -> Result<()> {
        let line = &command.line;
        match (line.strip_suffix('&'), &command.prints) {
            (None, None) => {
                self.vm.script(&format!("cd {FOLDER}\n{line}"))?;
                Ok(())
            }
            (None, Some(shown)) => {
                let end = self
                    .vm
                    .script(&format!("cd {FOLDER}\n{{ {line}; }} >>{LOG} 2>&1 || echo $?"))?;
                let printed = self.printed()?;
                ensure!(end.is_empty(), "it ends with {end}{}", printed.join("\n"));
                // All of it, unless a command before prints as well.
                self.compare(shown, self.running.is_empty())
            }
            (Some(line), shown) => {
                let script = format!("cd {FOLDER}; exec {line} >>{LOG} 2>&1");
                self.running.push(self.vm.spawn(&["sh", "-c", &script])?);
                self.compare(shown.as_deref().unwrap_or_default(), false)
            }
        }
    }

    fn printed(&mut self) -> Result<Vec<String>> {
        let text = self.vm.run(&format!("cat {LOG}"))?;
        Ok(text.lines().skip(self.seen).map(str::to_owned).collect())
    }

    /// Waits for the lines that the document shows, in their order; with `exactly` other lines are an error.
    fn compare(&mut self, shown: &[String], exactly: bool) -> Result<()> {
        let mut last = String::new();
        let compared = poll::until("it has printed what the document shows", LIMIT, || {
            let printed = self.printed()?;
            last = printed.join("\n");
            let mut lines = printed.iter();
            let all = shown
                .iter()
                .all(|shown| lines.any(|printed| documents::is_as_shown(shown, printed)));
            if all && (!exactly || printed.len() == shown.len()) {
                self.seen += printed.len() - lines.len();
                return Ok(Some(()));
            }
            ensure!(!exactly, "something else was printed");
            Ok(None)
        });
        compared.with_context(|| {
            format!(
                "it prints\n{last}\nand not, as the document has it,\n{}",
                shown.join("\n")
            )
        })
    }

    fn end(self) -> Result<()> {
        for process in self.running {
            self.vm.run(&format!("kill -TERM {process}"))?;
            // Gone, or dead and not yet waited for.
            self.vm.script(&format!(
                "while grep -q '^State:.[^Z]' /proc/{process}/status 2>/dev/null; do sleep 0.1; done"
            ))?;
        }
        Ok(())
    }
}
