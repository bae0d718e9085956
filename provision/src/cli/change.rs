//! What all commands that change a target have in common: the check, the dry run, saving what is lost, the writes, reading back.

use super::watched::Watched;
use super::{backup, failure, inspect, refused, unusable};
use crate::document::Document;
use crate::picture;
use crate::plan::{Before, Checked, Plan};
use crate::signatures::Traces;
use crate::step::Step;
use crate::target::{Access, Target};
use serde::Serialize;
use std::fs::File;
use std::path::Path;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::inspect::Inspection;
use xen_pmem_format::mbr::BlockZero;

/// A write as a document has it.
#[derive(Serialize)]
pub(crate) struct Write {
    offset: u64,
    size: usize,
    what: String,
}

/// Returns the writes among the steps.
pub(crate) fn writes(steps: &[Step]) -> Vec<Write> {
    steps
        .iter()
        .filter_map(|step| match step {
            Step::Write { offset, bytes, what } => Some(Write {
                offset: offset.0,
                size: bytes.len(),
                what: what.clone(),
            }),
            Step::Flush => None,
        })
        .collect()
}

/// The document of a dry run: what is there, and the writes that would change it.
#[derive(Serialize)]
struct DryRun {
    #[serde(flatten)]
    document: Document,
    writes: Vec<Write>,
}

/// A change of an open target.
pub(crate) struct Change<'c> {
    pub(crate) path: &'c Path,
    pub(crate) target: Target,
    pub(crate) inspection: Inspection,
    pub(crate) dry_run: bool,
    pub(crate) force: bool,
    pub(crate) flags: Flags,
}

impl<'c> Change<'c> {
    /// Opens a target to be changed, and looks at it.
    pub(crate) fn open(path: &'c Path, dry_run: bool, force: bool, flags: Flags) -> Result<Self, Failure> {
        let target = Target::open(path, Access::to_change(dry_run)).map_err(|error| unusable(path, &error))?;
        let inspection = inspect(&target).map_err(|error| unusable(path, &error))?;
        Ok(Self {
            path,
            target,
            inspection,
            dry_run,
            force,
            flags,
        })
    }

    /// Returns what `plan` makes of the target as it is.
    pub(crate) fn plan<'s, P>(&'s self, plan: impl FnOnce(&Before<'_, Watched<'s, File>>) -> P) -> Result<P, Failure> {
        planned(self.path, &self.target, &self.inspection, self.force, plan)
    }

    /// Returns the document on a target. For an image, offsets stand for addresses.
    fn document(&self, name: &str, inspection: &Inspection) -> Result<Document, Failure> {
        let geometry = self.target.geometry(inspection.lba_size, None);
        let geometry = geometry.map_err(|error| unusable(self.path, &error))?;
        Ok(Document::of(name, inspection, &geometry, &[]))
    }

    /// Checks a plan, then carries it out or prints it.
    pub(crate) fn carry_out(mut self, plan: &Plan, done: &str) -> Result<ExitStatus, Failure> {
        let (path, name) = (self.path, self.path.display().to_string());
        let checked = self.plan(|before| plan.check(before))?;
        let checked = checked.map_err(|refusal| refused(path, &refusal))?;
        if self.dry_run {
            let document = DryRun {
                document: self.document(&name, &self.inspection)?,
                writes: writes(checked.steps()),
            };
            let text = || match checked.steps() {
                [] => format!("{name}: nothing would be written\n"),
                steps => format!("{name}: would be written:\n{}", picture::of_steps(steps)),
            };
            self.flags.print(&document, text)?;
            return Ok(ExitStatus::Done);
        }
        let lost = checked.given_up();
        let after = write(path, &mut self.target, &checked, lost, self.force, self.flags)?;
        let document = self.document(&name, &after)?;
        let hybrid = if has_hybrid_mbr(&after) && !checked.steps().is_empty() {
            "; the hybrid MBR stays as it is"
        } else {
            ""
        };
        self.flags.print(&document, || format!("{name}: {done}{hybrid}\n"))?;
        Ok(ExitStatus::Done)
    }
}

/// Returns whether the MBR has records of other partitions beside the protective one.
fn has_hybrid_mbr(inspection: &Inspection) -> bool {
    matches!(&inspection.block_0, Ok(BlockZero::Protective { others }) if !others.is_empty())
}

/// What a target is read for to make and check a plan, to people.
pub(crate) const READING: &str = "looking for data";

/// Returns what `plan` makes of a target as it is; people see it if that takes long.
pub(crate) fn planned<'t, P>(
    path: &Path,
    target: &'t Target,
    inspection: &Inspection,
    force: bool,
    plan: impl FnOnce(&Before<'_, Watched<'t, File>>) -> P,
) -> Result<P, Failure> {
    Ok(plan(&Before {
        device: &Watched::new(target.file(), READING),
        own_lba_size: target.own_lba_size().map_err(|error| unusable(path, &error))?,
        inspection,
        force,
    }))
}

/// Carries out a checked plan, and reads back the result. With `force`, which gives up `lost`, it first saves the bytes to be overwritten.
pub(crate) fn write(
    path: &Path,
    target: &mut Target,
    checked: &Checked,
    lost: &Traces,
    force: bool,
    flags: Flags,
) -> Result<Inspection, Failure> {
    for trace in &lost.0 {
        tracing::info!("{}: giving up {trace}", path.display());
    }
    if force {
        backup::save_overwritten(path, target, checked.steps(), lost, flags)?;
    }
    checked
        .apply(target.file())
        .map_err(|error| failure(path, ExitStatus::Failed, error))?;
    let after = inspect(target).map_err(|error| unusable(path, &error))?;
    if let Some(reason) = checked.promise().broken(target.file(), &after) {
        let what = format!("what was written does not read back: {reason}");
        return Err(failure(path, ExitStatus::Failed, what));
    }
    if !checked.steps().is_empty() {
        target.reread_partitions().map_err(|error| unusable(path, &error))?;
    }
    Ok(after)
}
