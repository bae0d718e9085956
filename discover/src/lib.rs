#![doc = include_str!("../README.md")]
//!
//! # Where things are
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

/// The on-disk format, whose units this crate uses.
pub use xen_pmem_format as format;
/// Where devices come from, and where they lie.
pub use xen_pmem_nvdimm as nvdimm;
