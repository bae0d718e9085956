//! All valid copies of a super block, those away from their fixed places too: once the ones there are gone, a reader finds them.

use crate::places::{self, Part};
use crate::plan::{Refusal, refuse_unknown_features};
use xen_pmem_format::inspect::{Found, copies_in_gap};
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::table::Table;
use xen_pmem_format::units::DeviceRange;

/// Finds them all.
///
/// # Errors
///
/// If one of them must not be changed by this version of the program.
pub fn find<D: ReadAt + ?Sized>(device: &D, table: &Table) -> Result<Vec<Found>, Refusal> {
    let all = copies_in_gap(device, table);
    for found in &all {
        refuse_unknown_features(found.which, found.offset, &found.superblock)?;
    }
    Ok(all)
}

/// Returns their places, which may be written to.
pub fn places(found: &[Found]) -> Vec<(Part, DeviceRange)> {
    found
        .iter()
        .map(|found| (Part::Copy, places::page(found.offset)))
        .collect()
}
