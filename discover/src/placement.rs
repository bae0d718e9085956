//! Where a device's bytes are in physical address space, and whether its reservation may be there.
//!
//! Pure: an [`Inspection`] of the bytes and the ranges that sysfs names go in, the document's [`Device`] comes out.

use crate::document::{Device, Mode, Partition, Span, State};
use xen_pmem_format::inspect::{self, Inspection};
use xen_pmem_format::sizing;
use xen_pmem_format::superblock::SuperBlock;
use xen_pmem_format::units::{Address, Bytes, DeviceRange, PhysAddr, PhysRange, SUPERPAGE};
use xen_pmem_nvdimm::platform::Platform;

/// The known facts about where a block device, or an image, lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its node or path.
    pub device: String,
    /// How libnvdimm presents it.
    pub mode: Mode,
    /// The libnvdimm region.
    pub region: PhysRange,
    /// The namespace, which the reservation serves.
    pub namespace: PhysRange,
    /// The physical address of the device's first byte.
    pub start: PhysAddr,
    /// The bytes that the device should have.
    pub size: Bytes,
    /// The NUMA node.
    pub numa_node: Option<i32>,
    /// What the platform says of the region.
    pub platform: Platform,
}

/// Why a reservation must not be believed, or will not do, where it lies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The bytes read are not those of the device that sysfs describes.
    #[error("the device has {read}, sysfs gives it {described}: it changed, or the node is another device's")]
    SizeDiffers {
        /// What the node has.
        read: Bytes,
        /// What sysfs says.
        described: Bytes,
    },
    /// The device ends beyond 64 bits.
    #[error("the device's {size} from {start} on do not fit in the physical address space")]
    BeyondAddressSpace {
        /// Where it starts.
        start: PhysAddr,
        /// Its size.
        size: Bytes,
    },
    /// The namespace does not lie within the region.
    #[error("the namespace {namespace} does not lie within its region {region}")]
    NamespaceOutside {
        /// The namespace.
        namespace: PhysRange,
        /// The region.
        region: PhysRange,
    },
    /// The device does not lie within the namespace.
    #[error("the device {device} does not lie within its namespace {namespace}")]
    DeviceOutside {
        /// The device.
        device: PhysRange,
        /// The namespace.
        namespace: PhysRange,
    },
    /// Xen maps its structures with superpages.
    #[error(
        "the reserved area at physical address {base} is not aligned to {SUPERPAGE}: the device was prepared for another alignment; \
         prepare it again"
    )]
    ReservedMisaligned {
        /// Where the area is.
        base: PhysAddr,
    },
    /// The entry sizes of the plan give no need.
    #[error("the super block was planned with entry sizes that make no sense")]
    SenselessPlan,
    /// The reservation is too small for the namespace.
    #[error(
        "the reserved area has {reserved}, but the namespace needs {needed} where it is now: resize the reservation"
    )]
    TooSmall {
        /// What there is.
        reserved: Bytes,
        /// What it takes.
        needed: Bytes,
    },
}

impl Flaw {
    /// Returns whether the reservation must not be believed. One that is only too small for the entry sizes that it was planned with may
    /// suffice for the Xen that runs: the hypervisor decides.
    fn is_damage(&self) -> bool {
        !matches!(self, Self::TooSmall { .. })
    }
}

/// Returns the device's part of the document.
pub fn judge(placement: &Placement, inspection: &Inspection) -> Device {
    let device_range = PhysRange::new(placement.start, inspection.device_size);
    let mut device = Device {
        device: placement.device.clone(),
        state: match inspection.state {
            inspect::State::Prepared => State::Prepared,
            inspect::State::Degraded => State::Degraded,
            inspect::State::Damaged => State::Damaged,
            inspect::State::Unprepared => State::Unprepared,
        },
        uuid: None,
        mode: placement.mode,
        region: Some(Span(placement.region)),
        namespace: Some(Span(placement.namespace)),
        device_range: device_range.map(Span),
        numa_node: placement.numa_node,
        persistence_domain: placement.platform.persistence_domain,
        health: placement.platform.health.clone(),
        reserved: None,
        partitions: Vec::new(),
        reason: None,
    };
    let mut reasons: Vec<String> = inspection.findings.iter().map(ToString::to_string).collect();
    let mut flaws = of_device(placement, inspection.device_size, device_range);
    if let (Some(device_range), Some(table)) = (device_range, inspection.table()) {
        device.partitions = table
            .partitions()
            .iter()
            .filter_map(|partition| {
                let range = Span(physical(device_range, partition.range)?);
                Some(Partition {
                    number: partition.number,
                    range,
                })
            })
            .collect();
    }
    if let Some((superblock, _)) = inspection.reservation() {
        device.uuid = Some(superblock.uuid);
        if let Some(reserved) = device_range.and_then(|device_range| physical(device_range, superblock.reserved)) {
            device.reserved = Some(Span(reserved));
            flaws.extend(of_reservation(superblock, reserved, placement.namespace));
        }
        if flaws.iter().any(Flaw::is_damage) {
            device.state = State::Damaged;
        } else if !flaws.is_empty() {
            device.state = State::Degraded;
        }
    }
    reasons.extend(flaws.iter().map(ToString::to_string));
    device.reason = (!reasons.is_empty()).then(|| reasons.join("; "));
    device
}

/// Returns the physical addresses of `range`, part of the device at `device_range`; `None` if it is not part of it.
fn physical(device_range: PhysRange, range: DeviceRange) -> Option<PhysRange> {
    range
        .placed_at(device_range.base())
        .filter(|physical| device_range.contains(*physical))
}

fn of_device(placement: &Placement, size: Bytes, device_range: Option<PhysRange>) -> Vec<Flaw> {
    let Placement { region, namespace, .. } = *placement;
    let mut flaws = Vec::new();
    if size != placement.size {
        flaws.push(Flaw::SizeDiffers {
            read: size,
            described: placement.size,
        });
    }
    if !region.contains(namespace) {
        flaws.push(Flaw::NamespaceOutside { namespace, region });
    }
    match device_range {
        None => flaws.push(Flaw::BeyondAddressSpace {
            start: placement.start,
            size,
        }),
        Some(device) if !namespace.contains(device) => flaws.push(Flaw::DeviceOutside { device, namespace }),
        Some(_) => {}
    }
    flaws
}

fn of_reservation(superblock: &SuperBlock, reserved: PhysRange, namespace: PhysRange) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if !reserved.base().is_aligned(SUPERPAGE) {
        flaws.push(Flaw::ReservedMisaligned { base: reserved.base() });
    }
    match sizing::need(sizing::Namespace::At(namespace), superblock.planned.entries) {
        None => flaws.push(Flaw::SenselessPlan),
        Some(need) if need.total > reserved.size() => flaws.push(Flaw::TooSmall {
            reserved: reserved.size(),
            needed: need.total,
        }),
        Some(_) => {}
    }
    flaws
}
