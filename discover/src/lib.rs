//! Finds persistent memory prepared for Xen and its physical addresses, from stable user-space interfaces alone: libnvdimm's sysfs
//! and the block devices' bytes.
//!
//! `nvdimm::namespace` (where each device lies) -> [`placement`] (its bytes, judged by `format::inspect`, against where it lies) ->
//! [`document`]. [`scan::scan`] does it all. Nothing here writes.

#![deny(unsafe_code)]

#[cfg(feature = "bpf")]
pub mod bpf;
pub mod cli;
pub mod document;
pub mod monitor;
pub mod placement;
pub mod scan;
