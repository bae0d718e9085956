#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! [`Flags`] are the options of every command: it prints through them, and they start the log. A command ends with an [`exit::ExitStatus`]
//! or a [`Failure`].

pub mod clock;
pub mod exit;
mod failure;
mod flags;
mod log;
mod output;
pub mod progress;

pub use failure::{Failure, complain, end, say};
pub use flags::Flags;
pub use log::in_journal;
pub use output::{Printed, has_colours};
