//! Why Xen must not keep its structures in a namespace, independent of its content.

use crate::info_block;

/// Why a namespace cannot hold a reservation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// Its region is memory that forgets (libnvdimm's device type `nd_volatile`).
    #[error("its region is volatile memory, which loses its content at power-off: it is not persistent memory")]
    Volatile,
    /// Its region is read-only for Linux (the region's attribute `read_only`).
    #[error(
        "its region is read-only, and Xen would write there all the same: its NVDIMMs are not armed, or somebody set the region's \
         attribute `read_only` (`ndctl list -DRH` shows the NVDIMMs; write 0 to the attribute to allow it)"
    )]
    ReadOnly,
    /// Firmware says that the NVDIMMs cannot save what is written from now on.
    #[error("the firmware says that its NVDIMMs are not armed: what is written there is lost at power-off")]
    NotArmed,
    /// Firmware says that an NVDIMM does not answer at the range's addresses.
    #[error("the firmware says that its NVDIMMs could not be mapped: there is no memory at some of its addresses")]
    NotMapped,
    /// Firmware does not say that the range may be mapped write-back, as Xen maps its structures.
    #[error("the firmware does not allow its addresses to be mapped write-back, as Xen maps its structures")]
    NotWriteBack,
    /// Blocks move.
    #[error("sector mode (BTT) moves blocks about, so they have no fixed physical address: use fsdax or raw mode")]
    Sector,
    /// There is no block device.
    #[error("devdax mode has no block device that could be partitioned: use fsdax or raw mode")]
    Devdax,
    /// Linux's own structures lie on the device, which takes a driver that a PV Dom0 cannot have.
    #[error(
        "no driver is bound to it, so there is no block device (a Xen PV Dom0 cannot use a memory map that lies on the device: create \
         the namespace with `--map=mem`)"
    )]
    MapOnDevice,
    /// No driver is bound to it.
    #[error("no driver is bound to it, so there is no block device (`ndctl enable-namespace` binds one)")]
    NoDriver,
    /// Its info block is not one that could be believed.
    #[error(transparent)]
    InfoBlock(#[from] info_block::NotFsdax),
    /// Its info block describes a device that does not fit in it.
    #[error("its info block does not fit in it")]
    Outside,
}
