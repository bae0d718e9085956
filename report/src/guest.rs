//! Partitions for guests on a Xen that does not know persistent memory: mapped by `iomem=`, described by ACPI tables in front of the
//! guest's initramfs, and claimed in Dom0 so that nobody else uses them.

pub mod dm;
pub mod domains;
pub mod partition;
pub mod placement;
pub mod tables;
pub mod write_protection;
