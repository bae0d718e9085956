//! Every cut-off point: with every part of an operation's writes on the medium, the device shows either the old state or the new one,
//! complete.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test states what it expects by panicking, and prints what it has done"
)]

mod operations;
mod recorder;
