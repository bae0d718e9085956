//! Finds persistent memory prepared for Xen and its physical addresses, from stable user-space interfaces alone: libnvdimm's sysfs
//! and the block devices' bytes.
//!
//! `sysfs` -> [`namespace`] (where each device lies) -> [`placement`] (its bytes, judged by `format::inspect`, against where it lies)
//! -> [`document`]. [`scan::scan`] does it all. Nothing here writes.

#![forbid(unsafe_code)]

pub mod document;
pub mod info_block;
pub mod namespace;
pub mod nfit;
pub mod node;
pub mod placement;
pub mod scan;
pub mod sysfs;
