//! Every cut-off point: whatever part of an operation's writes has reached the medium, the device shows the old state or the new
//! one, whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test states what it expects by panicking, and prints what it has done"
)]

mod operations;
mod recorder;
