//! The on-disk format of xen-pmem: the super block, the rule for its two copies, and the arithmetic of the area reserved
//! for Xen.
//!
//! ```text
//! | whatever the kernel uses | Partition Table | Super Block | Reserved for Xen | /dev/pmem0p1 ... |
//! ```
//!
//! `docs/format.md` is the specification. Everything read from a device is untrusted: each field is checked, with checked
//! arithmetic, before it is used. With `default-features = false` the crate is `no_std` and holds what any boot loader or
//! kernel needs to read a super block; the feature `std` adds the partition table and the inspection of
//! whole devices.
//!
//! Nothing here opens a file.

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
