#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! A scan's device becomes a [`report::Report`] only if nothing about it is in doubt; a report goes to the hypervisor ([`hypercall`]) and to [`xenstore`]. Only
//! this crate talks to Xen.

pub mod cli;
pub mod doctor;
pub mod guest;
pub mod host;
pub mod hypercall;
pub mod report;
pub mod sink;
pub mod status;
pub mod turn;
pub mod xenstore;
