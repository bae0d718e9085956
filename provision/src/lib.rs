//! Prepares persistent memory for Xen, with no Xen running: a partition table, a super block, a reserved area.
//!
//! Plan first, then apply: [`init::plan`], [`remove::plan`], [`resize::plan`], [`repair::plan`] and [`restore::plan`] are pure functions from what a device is ([`geometry`], an
//! inspection) and what is asked for to a list of [`step::Step`]s; nothing is written before the whole plan is valid. Nothing
//! here knows Xen.

#![forbid(unsafe_code)]

pub mod backup;
pub mod cli;
pub mod commit;
pub mod device;
pub mod document;
pub mod geometry;
pub mod gpt;
pub mod init;
pub mod layout;
pub mod picture;
pub mod placement;
pub mod progress;
pub mod remove;
pub mod repair;
pub mod resize;
pub mod restore;
pub mod signatures;
pub mod step;
pub mod target;
