//! Finds persistent memory prepared for Xen and its physical addresses, from stable user-space interfaces alone: libnvdimm's sysfs
//! and the block devices' bytes.
//!
//! `sysfs` -> [`namespace`] (where each device lies) -> [`placement`] (its bytes, judged by `format::inspect`, against where it lies)
//! -> [`document`]. [`scan::scan`] does it all. Nothing here writes.
//!
//! Before a driver is bound there is no block device: then [`unbound`] foresees what it will be, from the bytes that [`physical_memory`]
//! shows, and [`firmware`] names the ranges if not even libnvdimm is there.

#![deny(unsafe_code)]

#[cfg(feature = "bpf")]
pub mod bpf;
pub mod cli;
pub mod document;
pub mod firmware;
pub mod info_block;
pub mod monitor;
pub mod namespace;
pub mod nfit;
pub mod node;
pub mod physical_memory;
pub mod placement;
pub mod scan;
pub mod sysfs;
pub mod unbound;
