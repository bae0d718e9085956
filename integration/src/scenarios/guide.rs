//! The operator's guide, command by command, on an installed system.

use super::{NVDIMM_SIZE, Run, installed};
use crate::documents::{self, Place};
use crate::image;
use crate::machine::{Initramfs, Kind};
use crate::vm::Vm;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;

/// Where commands are run.
const FOLDER: &str = "/root";

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimm = run.folder.join("nvdimm");
    image::blank(&nvdimm, NVDIMM_SIZE)?;
    let mut machine: Option<(Kind, Vm)> = None;
    let mut commands = 0;
    for block in documents::blocks(&documents::read(documents::GUIDE)?.text) {
        let kind = match block.place() {
            Some(Place::Linux) => Kind::Bare,
            Some(Place::Dom0) => Kind::Xen,
            _ => bail!(
                "the guide has a block {:?}: it must say where it is run, on an installed system",
                block.info
            ),
        };
        let mut vm = match machine.take() {
            Some((before, vm)) if before == kind => vm,
            other => {
                if let Some((_, vm)) = other {
                    run.power_off(vm)?;
                }
                boot(run, kind, &nvdimm)?
            }
        };
        for command in block.commands() {
            run.step(&command.line);
            vm.script(&format!("cd {FOLDER}\n{}", command.line))?;
            commands += 1;
        }
        machine = Some((kind, vm));
    }
    ensure!(commands > 15, "the guide has {commands} commands only");
    let (_, vm) = machine.context("the guide has no commands")?;
    run.power_off(vm)
}

fn boot(run: &Run<'_>, kind: Kind, nvdimm: &Path) -> Result<Vm> {
    let mut vm = installed::boot(run, kind, Initramfs::InitramfsTools, nvdimm, &[])?;
    installed::up(run, &mut vm)?;
    vm.wait_for("/dev/pmem0")?;
    Ok(vm)
}
