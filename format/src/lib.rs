#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! ```text
//! | whatever the kernel uses | Partition Table | Super Block | Reserved for Xen | /dev/pmem0p1 ... |
//! ```
//!
//! [`inspect`] judges a whole device. [`superblock`] encodes and decodes one copy, [`copies`] compares the two. [`table`] and [`mbr`]
//! read partition tables. [`sizing`] computes how large the reserved area must be. [`units`] has sizes and address spaces as types.

#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod checksum;
pub mod copies;
pub mod sizing;
pub mod superblock;
pub mod units;

#[cfg(feature = "std")]
pub mod inspect;
#[cfg(feature = "std")]
pub mod mbr;
#[cfg(feature = "std")]
pub mod read;
#[cfg(feature = "std")]
pub mod table;

#[cfg(feature = "std")]
pub use inspect::{Inspection, State};
#[cfg(feature = "std")]
pub use read::ReadAt;
pub use superblock::SuperBlock;
/// Names a reservation, a disk or a partition.
pub use uuid::Uuid;
