//! The size of a device and where it lies in physical address space.

use xen_pmem_format::sizing::Namespace;
use xen_pmem_format::units::{Address as _, Bytes, DeviceOffset, LbaSize, NamespaceOffset, PhysAddr, PhysRange};

/// What a plan must know of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The bytes of the device.
    pub device_size: Bytes,
    /// The bytes of its logical blocks.
    pub lba_size: LbaSize,
    /// Where it lies, if that is known.
    pub placement: Option<Placement>,
}

/// Where a device lies in physical address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The address of its first byte.
    pub device_start: PhysAddr,
    /// The namespace that it lies in.
    pub namespace: PhysRange,
}

impl Geometry {
    /// Returns the namespace that a reservation on this device serves.
    pub fn namespace(&self) -> Namespace {
        match self.placement {
            Some(placement) => Namespace::At(placement.namespace),
            None => Namespace::Unplaced(self.device_size),
        }
    }

    /// Returns where the device starts in its namespace.
    pub fn device_in_namespace(&self) -> NamespaceOffset {
        let start = self
            .placement
            .and_then(|placement| placement.device_start.offset_from(placement.namespace.base()));
        start.map_or(NamespaceOffset(0), NamespaceOffset::after)
    }

    /// Returns the physical address of the device's first byte; where it is unknown, zero, which is as aligned as can be.
    fn start(&self) -> PhysAddr {
        self.placement.map_or(PhysAddr(0), |placement| placement.device_start)
    }

    /// Returns the physical address of an offset, if it is known where the device lies.
    pub fn address(&self, offset: DeviceOffset) -> Option<PhysAddr> {
        self.placement?.device_start.checked_add(offset.distance())
    }

    /// Returns the first offset at or after `offset` whose physical address is a multiple of `unit`.
    pub fn align_up(&self, offset: DeviceOffset, unit: Bytes) -> Option<DeviceOffset> {
        let start = self.start();
        let aligned = start.checked_add(offset.distance())?.align_up(unit)?;
        aligned.offset_from(start).map(DeviceOffset::after)
    }

    /// Returns the last offset at or before `offset` whose physical address is a multiple of `unit`; `None` if that lies before the device.
    pub fn align_down(&self, offset: DeviceOffset, unit: Bytes) -> Option<DeviceOffset> {
        let start = self.start();
        let aligned = start.checked_add(offset.distance())?.align_down(unit);
        aligned.offset_from(start).map(DeviceOffset::after)
    }
}
