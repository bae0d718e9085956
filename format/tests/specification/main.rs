//! The specification in `docs/` against this crate: test vectors, the C header, and a second reader written in C from the
//! specification alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test states what it expects by panicking, and prints what it has done"
)]

mod c_reader;
mod device;
mod devices;
mod mutations;
mod vectors;

use std::path::PathBuf;

/// Returns the folder of the specification.
fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs")
}
