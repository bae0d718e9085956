//! What all commands that change a prepared target have in common: the dry run, the writes, reading back.

use super::{failure, unusable};
use crate::document::Document;
use crate::picture;
use crate::step::{self, Step};
use crate::target::{Access, Target};
use serde::Serialize;
use std::path::Path;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::inspect::Inspection;

/// A write as a document has it.
#[derive(Serialize)]
pub(crate) struct Write {
    offset: u64,
    size: usize,
    what: String,
}

/// The writes among the steps.
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
    pub(crate) dry_run: bool,
    pub(crate) flags: Flags,
}

impl<'c> Change<'c> {
    /// Opens a target to be changed, and looks at it.
    pub(crate) fn open(path: &'c Path, dry_run: bool, flags: Flags) -> Result<(Self, Inspection), Failure> {
        let access = if dry_run { Access::Read } else { Access::Write };
        let target = Target::open(path, access).map_err(|error| unusable(path, &error))?;
        let inspection = target.inspect().map_err(|error| unusable(path, &error))?;
        Ok((
            Self {
                path,
                target,
                dry_run,
                flags,
            },
            inspection,
        ))
    }

    /// Does the steps, or says what they are. `confirmed` looks at the result.
    pub(crate) fn carry_out(
        mut self,
        before: &Inspection,
        steps: &[Step],
        confirmed: impl FnOnce(&Inspection) -> bool,
        done: &str,
    ) -> Result<ExitStatus, Failure> {
        let (path, name) = (self.path, self.path.display().to_string());
        if self.dry_run {
            let document = DryRun {
                document: Document::of(&name, before),
                writes: writes(steps),
            };
            let text = || match steps {
                [] => format!("{name}: nothing would be written\n"),
                steps => format!("{name}: would be written:\n{}", picture::of_steps(steps)),
            };
            self.flags.print(&document, text)?;
            return Ok(ExitStatus::Done);
        }
        step::apply(self.target.file(), steps).map_err(|error| failure(path, ExitStatus::Failed, error))?;
        let after = self.target.inspect().map_err(|error| unusable(path, &error))?;
        if !confirmed(&after) {
            let what = format!(
                "what was written does not read back: it is {} ({})",
                after.state.as_str(),
                after.reasons()
            );
            return Err(failure(path, ExitStatus::Failed, what));
        }
        if !steps.is_empty() {
            self.target
                .reread_partitions()
                .map_err(|error| unusable(path, &error))?;
        }
        self.flags
            .print(&Document::of(&name, &after), || format!("{name}: {done}\n"))?;
        Ok(ExitStatus::Done)
    }
}
