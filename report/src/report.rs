//! The reports to Xen, and the checks before one is made.
//!
//! A scan may come from a file, and the super block behind it from anybody: each range is checked again here, against the
//! others of its device and against those of the other reports.

use uuid::Uuid;
use xen_pmem_discover::document::{Device, Mode, Partition, State};
use xen_pmem_format::units::{Address, PhysRange, SUPERPAGE};
use xen_pmem_nvdimm::platform::Platform;

/// The longest name of a device that is published, in bytes: as long as a file's name can be.
pub const MAX_DEVICE: usize = 255;

/// A reservation to be made known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    uuid: Uuid,
    device: String,
    mode: Mode,
    range: PhysRange,
    reserved: PhysRange,
    data: Vec<Partition>,
    numa_node: Option<i32>,
    platform: Platform,
}

/// Why a device is not reported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No reservation can be believed.
    #[error("it is {}{reason}", .state.as_str())]
    NotPrepared {
        /// What it is.
        state: State,
        /// Why, with a leading separator; may be empty.
        reason: String,
    },
    /// The scan does not say something that a report needs.
    #[error("its {0} is not known")]
    Unknown(&'static str),
    /// A range does not lie where it must.
    #[error("its {inner_name} {inner} does not lie within its {outer_name} {outer}")]
    Outside {
        /// What does not lie within.
        inner_name: &'static str,
        /// Its range.
        inner: PhysRange,
        /// What it should lie within.
        outer_name: &'static str,
        /// That one's range.
        outer: PhysRange,
    },
    /// The reserved area is empty or not made of whole superpages.
    #[error("its reserved area {0} is not made of whole, aligned superpages of {SUPERPAGE}")]
    Misaligned(PhysRange),
    /// Two partitions share bytes or a number.
    #[error("its partitions {0} and {1} overlap or are the same")]
    PartitionsOverlap(u32, u32),
    /// The device's name is not one that could be published.
    #[error("its name is longer than {MAX_DEVICE} bytes or has control characters")]
    Name,
    /// A partition lies on the reserved area.
    #[error("its partition {0} overlaps the reserved area")]
    PartitionOnReserved(u32),
    /// Another device has the same reservation UUID.
    #[error("{other} has the same reservation UUID {uuid}: a copied disk? Neither is reported")]
    SameUuid {
        /// The UUID.
        uuid: Uuid,
        /// The other device.
        other: String,
    },
    /// Something else is published of the same reservation or of the same memory, and this device was not looked at to tell which is
    /// right.
    #[error(
        "XenStore has a report of the reservation {published} on {range}, which this one contradicts, and the device itself was not looked at"
    )]
    Contradicts {
        /// The reservation published.
        published: String,
        /// Its range.
        range: PhysRange,
    },
    /// Another device claims some of the same physical addresses.
    #[error("its range overlaps that of {other}: neither is reported")]
    Overlap {
        /// The other device.
        other: String,
    },
}

impl Report {
    /// Returns the report on a device, if nothing about it is in doubt.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that applies.
    pub fn of(device: &Device) -> Result<Self, Refusal> {
        if !device.state.is_reportable() {
            let reason = device
                .reason
                .as_ref()
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            return Err(Refusal::NotPrepared {
                state: device.state,
                reason,
            });
        }
        let uuid = device.uuid.ok_or(Refusal::Unknown("reservation UUID"))?;
        let range = device.namespace.ok_or(Refusal::Unknown("namespace"))?.0;
        let device_range = device.device_range.ok_or(Refusal::Unknown("device range"))?.0;
        let reserved = device.reserved.ok_or(Refusal::Unknown("reserved area"))?.0;
        let within = |inner_name, inner: PhysRange, outer_name, outer: PhysRange| {
            if outer.contains(inner) {
                Ok(())
            } else {
                Err(Refusal::Outside {
                    inner_name,
                    inner,
                    outer_name,
                    outer,
                })
            }
        };
        if let Some(region) = device.region {
            within("namespace", range, "region", region.0)?;
        }
        within("device range", device_range, "namespace", range)?;
        within("reserved area", reserved, "device range", device_range)?;
        if reserved.is_empty() || !reserved.base().is_aligned(SUPERPAGE) || !reserved.size().is_aligned(SUPERPAGE) {
            return Err(Refusal::Misaligned(reserved));
        }
        if device.device.len() > MAX_DEVICE || device.device.chars().any(char::is_control) {
            return Err(Refusal::Name);
        }
        for (index, partition) in device.partitions.iter().enumerate() {
            let mut before = device.partitions.iter().take(index);
            let clash =
                |other: &&Partition| other.number == partition.number || other.range.0.overlaps(partition.range.0);
            if let Some(other) = before.find(clash) {
                return Err(Refusal::PartitionsOverlap(other.number, partition.number));
            }
            within("partition", partition.range.0, "device range", device_range)?;
            if partition.range.0.overlaps(reserved) {
                return Err(Refusal::PartitionOnReserved(partition.number));
            }
        }
        Ok(Self {
            uuid,
            device: device.device.clone(),
            mode: device.mode,
            range,
            reserved,
            data: device.partitions.clone(),
            numa_node: device.numa_node,
            platform: Platform {
                persistence_domain: device.persistence_domain,
                health: device.health.clone(),
            },
        })
    }

    /// Returns the reservation's UUID, which identifies it.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Returns the device's node; it may have another name after the next boot.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Returns how libnvdimm presents the namespace.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the whole namespace.
    pub fn range(&self) -> PhysRange {
        self.range
    }

    /// Returns the area reserved for Xen.
    pub fn reserved(&self) -> PhysRange {
        self.reserved
    }

    /// Returns the partitions.
    pub fn data(&self) -> &[Partition] {
        &self.data
    }

    /// Returns the NUMA node.
    pub fn numa_node(&self) -> Option<i32> {
        self.numa_node
    }

    /// Returns what the platform says of the region.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }
}

/// Returns the report on each of `devices`, or why it has none. Two devices that claim overlapping ranges or the same UUID are both
/// refused: nobody can say which one is right.
pub fn of_all(devices: &[Device]) -> Vec<(&Device, Result<Report, Refusal>)> {
    let each: Vec<_> = devices.iter().map(Report::of).collect();
    let sound: Vec<(usize, &Report)> = (0..)
        .zip(&each)
        .filter_map(|(index, report)| Some((index, report.as_ref().ok()?)))
        .collect();
    let refusals: Vec<(usize, Refusal)> = suspects(&sound)
        .into_iter()
        .filter_map(|(index, report)| {
            let mut others = sound.iter().filter(|(other, _)| *other != index);
            Some((index, others.find_map(|(_, other)| conflict(report, other))?))
        })
        .collect();
    let mut reports = each;
    for (index, refusal) in refusals {
        if let Some(report) = reports.get_mut(index) {
            *report = Err(refusal);
        }
    }
    devices.iter().zip(reports).collect()
}

/// Returns the reports that may conflict with another, each with its index: all that do, and some that do not. Only these are compared with
/// each other, so that a thousand devices do not take a million comparisons.
fn suspects<'r>(reports: &[(usize, &'r Report)]) -> Vec<(usize, &'r Report)> {
    let mut sorted = reports.to_vec();
    let mut suspects = Vec::new();
    sorted.sort_by_key(|(_, report)| report.uuid);
    for (one, other) in sorted.iter().zip(sorted.iter().skip(1)) {
        if one.1.uuid == other.1.uuid {
            suspects.extend([*one, *other]);
        }
    }
    sorted.sort_by_key(|(_, report)| report.range.base());
    // The one of those before that reaches farthest: what begins before its end overlaps it.
    let mut farthest: Option<(usize, &Report)> = None;
    for next in sorted {
        if let Some(before) = farthest
            && next.1.range.base() < before.1.range.end()
        {
            suspects.extend([before, next]);
        }
        farthest = farthest
            .filter(|before| before.1.range.end() >= next.1.range.end())
            .or(Some(next));
    }
    suspects
}

/// Refuses a report that was not made by looking at the device, if it contradicts what is published. Takes both as directory names and
/// ranges.
///
/// # Errors
///
/// [`Refusal::Contradicts`] if it does.
pub fn agrees_with(report: &Report, published: impl IntoIterator<Item = (String, PhysRange)>) -> Result<(), Refusal> {
    for (name, range) in published {
        let same = name == report.uuid.to_string();
        let contradicts = if same {
            range != report.range
        } else {
            range.overlaps(report.range)
        };
        if contradicts {
            return Err(Refusal::Contradicts { published: name, range });
        }
    }
    Ok(())
}

fn conflict(report: &Report, other: &Report) -> Option<Refusal> {
    let name = other.device.clone();
    if report.uuid == other.uuid {
        Some(Refusal::SameUuid {
            uuid: report.uuid,
            other: name,
        })
    } else if report.range.overlaps(other.range) {
        Some(Refusal::Overlap { other: name })
    } else {
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use xen_pmem_discover::document::Span;
    use xen_pmem_format::units::{Bytes, PhysAddr};

    const MIB: u64 = 1 << 20;
    const BASE: u64 = 4 << 30;

    pub(crate) fn span(base: u64, size: u64) -> Span {
        Span(PhysRange::new(PhysAddr(base), Bytes(size)).unwrap())
    }

    pub(crate) fn device() -> Device {
        Device {
            device: "/dev/pmem0".to_owned(),
            state: State::Prepared,
            uuid: Some(Uuid::from_u128(0x1111)),
            mode: Mode::Fsdax,
            region: Some(span(BASE, 512 * MIB)),
            namespace: Some(span(BASE, 512 * MIB)),
            device_range: Some(span(BASE + 2 * MIB, 510 * MIB)),
            numa_node: Some(0),
            persistence_domain: None,
            health: Vec::new(),
            reserved: Some(span(BASE + 4 * MIB, 6 * MIB)),
            partitions: vec![
                Partition {
                    number: 1,
                    range: span(BASE + 10 * MIB, 100 * MIB),
                },
                Partition {
                    number: 3,
                    range: span(BASE + 110 * MIB, 4096),
                },
            ],
            reason: None,
        }
    }

    #[test]
    fn a_prepared_device_is_reported_as_it_is() {
        let report = Report::of(&device()).unwrap();
        assert_eq!(report.range(), span(BASE, 512 * MIB).0);
        assert_eq!(report.reserved(), span(BASE + 4 * MIB, 6 * MIB).0);
        assert_eq!(report.data(), device().partitions);
    }

    #[test]
    fn what_is_in_doubt_is_refused() {
        type Doubt = (fn(&mut Device), &'static str);
        let doubts: &[Doubt] = &[
            (|d| d.state = State::Damaged, "it is damaged"),
            (|d| d.state = State::Unprepared, "it is unprepared"),
            (|d| d.state = State::Unsupported, "it is unsupported"),
            (|d| d.uuid = None, "UUID is not known"),
            (|d| d.namespace = None, "namespace is not known"),
            (|d| d.device_range = None, "device range is not known"),
            (|d| d.reserved = None, "reserved area is not known"),
            (
                |d| d.region = Some(span(BASE, 256 * MIB)),
                "does not lie within its region",
            ),
            (|d| d.namespace = Some(span(BASE, 256 * MIB)), "device range"),
            (
                |d| d.reserved = Some(span(BASE, 6 * MIB)),
                "does not lie within its device range",
            ),
            (
                |d| d.reserved = Some(span(BASE + 510 * MIB, 6 * MIB)),
                "does not lie within its device range",
            ),
            (|d| d.reserved = Some(span(BASE + 4 * MIB, 0)), "superpages"),
            (|d| d.reserved = Some(span(BASE + 4 * MIB, MIB)), "superpages"),
            (|d| d.reserved = Some(span(BASE + 3 * MIB, 2 * MIB)), "superpages"),
            (
                |d| d.reserved = Some(span(BASE + 4 * MIB, 8 * MIB)),
                "partition 1 overlaps",
            ),
            (|d| d.partitions[1].range = span(BASE + 511 * MIB, 2 * MIB), "partition"),
            (
                |d| d.partitions[1].number = 1,
                "partitions 1 and 1 overlap or are the same",
            ),
            (
                |d| d.partitions[1].range = d.partitions[0].range,
                "partitions 1 and 3 overlap",
            ),
            (|d| d.device = "x".repeat(256), "its name is longer"),
            (|d| d.device = "/dev/pmem0\n".to_owned(), "control characters"),
        ];
        for (doubt, word) in doubts {
            let mut device = device();
            doubt(&mut device);
            let said = Report::of(&device).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn a_copied_disk_is_refused_together_with_its_original() {
        let copy = Device {
            device: "/dev/pmem1".to_owned(),
            region: None,
            namespace: Some(span(2 * BASE, 512 * MIB)),
            device_range: Some(span(2 * BASE, 512 * MIB)),
            reserved: Some(span(2 * BASE + 4 * MIB, 6 * MIB)),
            partitions: Vec::new(),
            ..device()
        };
        let third = Device {
            uuid: Some(Uuid::from_u128(7)),
            ..copy.clone()
        };
        let devices = [device(), copy];
        for (_, report) in of_all(&devices) {
            assert!(matches!(report, Err(Refusal::SameUuid { .. })), "{report:?}");
        }
        assert!(of_all(&[device(), third]).iter().all(|(_, report)| report.is_ok()));
    }

    #[test]
    fn overlapping_ranges_are_both_refused() {
        let other = Device {
            device: "/dev/pmem1".to_owned(),
            uuid: Some(Uuid::from_u128(2)),
            ..device()
        };
        for (_, report) in of_all(&[device(), other]) {
            assert!(matches!(report, Err(Refusal::Overlap { .. })), "{report:?}");
        }
    }

    #[test]
    fn a_document_does_not_contradict_what_is_published() {
        let report = Report::of(&device()).unwrap();
        let mine = report.uuid().to_string();
        let other = Uuid::from_u128(2).to_string();
        let (here, elsewhere) = (span(BASE, 512 * MIB).0, span(2 * BASE, 512 * MIB).0);
        for (name, range, agrees) in [
            (&mine, here, true),
            (&mine, elsewhere, false),
            (&other, elsewhere, true),
            (&other, here, false),
            (&other, span(BASE + 511 * MIB, 2 * MIB).0, false),
        ] {
            let result = agrees_with(&report, [(name.clone(), range)]);
            assert_eq!(result.is_ok(), agrees, "{name} {range}");
        }
    }

    proptest! {
        #[test]
        fn each_conflict_of_two_devices_is_found(devices in proptest::collection::vec((0..24u128, 0..200u64, 1..20u64), 0..9)) {
            let devices: Vec<Device> = (0..)
                .zip(devices)
                .map(|(number, (uuid, base, size))| {
                    let range = span(BASE + base * 2 * MIB, size * 2 * MIB);
                    Device {
                        device: format!("/dev/pmem{number}"),
                        uuid: Some(Uuid::from_u128(uuid + 1)),
                        region: None,
                        namespace: Some(range),
                        device_range: Some(range),
                        reserved: Some(span(range.0.base().0, 2 * MIB)),
                        partitions: Vec::new(),
                        ..device()
                    }
                })
                .collect();
            let alone: Vec<Report> = devices.iter().map(|device| Report::of(device).unwrap()).collect();
            for (found, report) in of_all(&devices).iter().zip(&alone) {
                let first = alone.iter().filter(|other| *other != report).find_map(|other| conflict(report, other));
                prop_assert_eq!(found.1.as_ref().err(), first.as_ref());
            }
        }

        #[test]
        fn a_report_never_lets_its_ranges_mix(
            ranges in proptest::collection::vec((0..64u64, 0..64u64), 4..8),
        ) {
            let spans: Vec<Span> = ranges.iter().map(|(base, size)| span(base * MIB, size * MIB)).collect();
            let device = Device {
                region: Some(spans[0]),
                namespace: Some(spans[1]),
                device_range: Some(spans[2]),
                reserved: Some(spans[3]),
                partitions: (1..).zip(&spans[4..]).map(|(number, range)| Partition { number, range: *range }).collect(),
                ..device()
            };
            if let Ok(report) = Report::of(&device) {
                prop_assert!(report.range().contains(report.reserved()));
                prop_assert!(report.reserved().size().0 >= 2 * MIB);
                for partition in report.data() {
                    prop_assert!(!partition.range.0.overlaps(report.reserved()));
                    prop_assert!(report.range().contains(partition.range.0));
                }
            }
        }
    }
}
