#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! Plan first, then check, then apply: [`init::plan`], [`remove::plan`], [`resize::plan`], [`repair::plan`] and [`restore::plan`] are pure
//! functions from what a device is ([`geometry`], an inspection) and what is asked for to a [`plan::Plan`]: steps and a promise. Only
//! a plan that was checked against the device can be carried out. Nothing here knows Xen.

#![forbid(unsafe_code)]

pub mod advice;
pub mod all_copies;
pub mod backup;
pub mod clearing;
pub mod cli;
pub mod commit;
pub mod device;
pub mod document;
pub mod entries;
pub mod fsdax;
pub mod geometry;
pub mod gpt;
pub mod init;
pub mod layout;
pub mod note;
pub mod overlay;
pub mod partition;
pub mod picture;
pub mod placement;
pub mod places;
pub mod plan;
pub mod promise;
pub mod remove;
pub mod repair;
pub mod resize;
pub mod restore;
pub mod signatures;
pub mod step;
pub mod target;
pub mod wipe;

/// The on-disk format, whose units and readers this crate uses.
pub use xen_pmem_format as format;
/// Where devices come from, and where they lie.
pub use xen_pmem_nvdimm as nvdimm;
