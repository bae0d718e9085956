#![doc = include_str!("../README.md")]
//!
//! # Where things are
//!
//! [`sysfs`] reads attributes. [`namespace`] says what each namespace is and where it lies. Before a driver is bound there is no block
//! device: [`unbound`] foresees what it will be, from an [`info_block`] in the bytes that [`physical_memory`] shows. Before libnvdimm is
//! loaded, [`firmware`] names the ranges of the [`nfit`], and the windows of the [`cedt`]: the addresses that CXL devices may have.
//! [`obstacle`] has the reasons why Xen cannot live in a namespace. [`node`] opens a device's node, and [`bus`] binds drivers.
//!
//! Only [`bus`] changes anything.

#![deny(unsafe_code)]

pub mod bus;
pub mod cedt;
pub mod claim;
pub mod firmware;
pub mod fsdax;
pub mod guest_claim;
pub mod info_block;
pub mod mode;
pub mod namespace;
pub mod nfit;
pub mod node;
pub mod obstacle;
pub mod physical_memory;
pub mod platform;
pub mod sysfs;
pub mod unbound;

pub use namespace::Namespace;
pub use nfit::Nfit;
pub use node::Nodes;
pub use sysfs::SysfsRoot;
/// The on-disk format, whose units and readers this crate uses.
pub use xen_pmem_format as format;
