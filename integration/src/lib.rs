//! The end-to-end scenarios: real Xen, a real Dom0 kernel, real libnvdimm, a real xenstored, in QEMU.
//!
//! A scenario boots a machine ([`machine`], [`vm`]), asks the agent in it to run programs ([`protocol`]), and looks at the backing files
//! of its NVDIMMs from outside ([`image`], [`layout`]). A measurement ([`measurements`]) does the same with a clock ([`stopwatch`]).

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "run by developers, on a terminal or in CI"
)]

pub mod copier;
pub mod disk;
pub mod documents;
pub mod frames;
pub mod guest;
pub mod image;
pub mod layout;
pub mod machine;
pub mod manifest;
pub mod measurements;
pub mod panic;
pub mod poll;
pub mod protocol;
pub mod qmp;
pub mod scenarios;
mod snapshot;
pub mod stopwatch;
pub mod vm;
pub mod xenstore;
