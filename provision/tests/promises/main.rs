//! Every command on arbitrary devices: what it does not refuse keeps its promise, and nobody else's bytes are written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test states what it expects by panicking"
)]

mod arbitrary;
mod disk;
mod kept;
mod refused;
