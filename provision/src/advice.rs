//! What to do about a device, found by planning it: what is advised would be done.
//!
//! Each command that may help is planned and checked, as it would be when it is run. Only what would be carried out is advised, in the
//! order of how little it gives up.

use crate::geometry::Geometry;
use crate::init::{self, Request};
use crate::layout::{PartitionRequest, Reserve};
use crate::plan::{self, Before, Plan, Refusal};
use crate::{remove, repair};
use uuid::Uuid;
use xen_pmem_format::copies::Reading;
use xen_pmem_format::inspect::{CopyReport, Finding, Inspection, State};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::sizing::EntrySizes;
use xen_pmem_format::superblock::UnixTime;

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// `repair`.
    Repair,
    /// `sgdisk`, which moves the primary table's entries back, and then `repair`.
    MoveEntries,
    /// `restore`, if there is a backup.
    Restore,
    /// `remove`.
    Remove,
    /// `init`.
    Init,
}

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What may be done.
    pub help: Help,
    /// Whether it takes `--force`.
    pub force: bool,
}

impl Advice {
    /// Returns its purpose, and what it costs.
    pub fn purpose(&self) -> &'static str {
        match (self.help, self.force) {
            (Help::Repair, false) | (Help::MoveEntries, _) => "to heal it",
            (Help::Repair, true) => "to heal it, giving up what else is there",
            (Help::Restore, false) => "to heal it with a backup of this device",
            (Help::Restore, true) => "to heal it with a backup of this device, giving up what else is there",
            (Help::Remove, false) => "to give the reservation up and keep the partitions",
            (Help::Remove, true) => "to give the reservation up and keep the partitions, giving up what else is there",
            (Help::Init, false) => "to prepare it",
            (Help::Init, true) => "to prepare it anew, giving up what is there",
        }
    }

    /// Returns the command line for `target`.
    pub fn command(&self, target: &str) -> String {
        let (name, file) = match self.help {
            Help::MoveEntries => {
                return format!("sgdisk --move-main-table=2 {target} && xen-pmem-provision repair {target}");
            }
            Help::Repair => ("repair", ""),
            Help::Restore => ("restore", " FILE"),
            Help::Remove => ("remove", ""),
            Help::Init => ("init", ""),
        };
        let force = if self.force { " --force" } else { "" };
        format!("xen-pmem-provision {name}{force} {target}{file}")
    }
}

/// Why no command helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A newer version of this program has been here.
    #[error(transparent)]
    Newer(Refusal),
    /// Nothing can be done, not even preparing the device anew: for this no plan can be made.
    #[error(transparent)]
    Init(#[from] init::Error),
    /// Nothing can be done, not even preparing the device anew: that plan is not carried out.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Returns what may be done about a device that is not as it should be; nothing about one that is.
///
/// # Errors
///
/// Why no command helps.
pub fn of<D: ReadAt + ?Sized>(before: &Before<'_, D>, geometry: &Geometry) -> Result<Vec<Advice>, Error> {
    let inspection = before.inspection;
    if inspection.state == State::Prepared {
        return Ok(Vec::new());
    }
    plan::refuse_newer(inspection).map_err(Error::Newer)?;
    let mut advice = Vec::new();
    let mut offer = |help, possible: &dyn Fn(bool) -> bool| {
        let force = [false, true].into_iter().find(|force| possible(*force));
        advice.extend(force.map(|force| Advice { help, force }));
    };
    let before = |force| Before {
        device: before.device,
        own_lba_size: before.own_lba_size,
        inspection,
        force,
    };
    let goes = |plan: Option<Plan>, force: bool| plan.is_some_and(|plan| plan.check(&before(force)).is_ok());
    let finds = |kind: fn(&Finding) -> bool| inspection.findings.iter().any(kind);
    if inspection.state != State::Unprepared {
        offer(Help::Repair, &|force| goes(repair::plan(&before(force)).ok(), force));
    }
    if finds(|finding| matches!(finding, Finding::EntriesMoved { .. })) {
        offer(Help::MoveEntries, &|_| true);
    }
    if inspection.state != State::Degraded {
        if may_be_restored(inspection) {
            offer(Help::Restore, &|force| {
                let lost = || {
                    finds(|finding| matches!(finding, Finding::Claimed(_) | Finding::HybridMbr { .. }))
                        || !inspection.copies.iter().any(tells_the_area)
                        || plan::refuse_foreign(&before(false)).is_err()
                };
                force || !lost()
            });
        }
        offer(Help::Remove, &|force| goes(remove::plan(&before(force)).ok(), force));
        offer(Help::Init, &|force| prepares(&before(force), geometry).is_ok());
    }
    if advice.is_empty() {
        prepares(&before(true), geometry)?;
    }
    Ok(advice)
}

/// Checks whether `init` would prepare the device.
fn prepares<D: ReadAt + ?Sized>(before: &Before<'_, D>, geometry: &Geometry) -> Result<(), Error> {
    init::plan(before, geometry, &any_request())?.plan.check(before)?;
    Ok(())
}

/// Returns whether a readable copy says where Xen's area is. Without one, the bytes may belong to anybody.
fn tells_the_area(copy: &CopyReport) -> bool {
    match copy.reading {
        Reading::Valid(_) | Reading::Ambiguous(_) | Reading::Foreign(_) => true,
        Reading::Corrupt(_) | Reading::Missing | Reading::IoError => false,
    }
}

/// Returns whether a backup of this device from before the damage would fit: no super block on it names another device size.
fn may_be_restored(inspection: &Inspection) -> bool {
    let fits = |copy: &CopyReport| match copy.reading {
        Reading::Valid(superblock) | Reading::Ambiguous(superblock) | Reading::Foreign(superblock) => {
            superblock.device_size == inspection.device_size
        }
        Reading::Corrupt(_) | Reading::Missing | Reading::IoError => true,
    };
    inspection.state == State::Damaged && inspection.copies.iter().all(fits)
}

/// Returns the default request of `init` with fixed GUIDs, which differ from those of every existing table.
fn any_request() -> Request {
    Request {
        reserve: Reserve::Auto,
        entries: EntrySizes::XEN_X86_64,
        partitions: vec![PartitionRequest::default().with_guid(Uuid::from_u128(3))],
        uuid: Uuid::from_u128(1),
        disk_guid: Uuid::from_u128(2),
        now: UnixTime(0),
    }
}
