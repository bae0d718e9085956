//! Every command on arbitrary devices: if it does not refuse, it keeps its promise, and it writes only its own bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test states what it expects by panicking"
)]

mod arbitrary;
mod disk;
mod kept;
mod refused;
