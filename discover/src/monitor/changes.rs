//! What happened to devices, from what was there and what is there.
//!
//! A device is known by the range of its namespace, which stays, not by the kernel's number.

use crate::document::{Device, SCHEMA, Span};
use serde::Serialize;
use std::collections::BTreeMap;
use xen_pmem_format::units::{Bytes, PhysAddr};

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It is there. What it is follows: `prepared` or `unprepared`.
    Appeared,
    /// It has a reservation that can be reported.
    Prepared,
    /// It has none, or none any more: its state and reason say why.
    Unprepared,
    /// Something else of it is not as before.
    Changed,
    /// It has gone. The event has its last known facts.
    Gone,
}

impl What {
    /// Returns the word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Appeared => "appeared",
            Self::Prepared => "prepared",
            Self::Unprepared => "unprepared",
            Self::Changed => "changed",
            Self::Gone => "gone",
        }
    }

    const fn state_of(device: &Device) -> Self {
        if device.state.is_reportable() {
            Self::Prepared
        } else {
            Self::Unprepared
        }
    }
}

/// Something that happened, as it is printed: one to a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The schema of the scan document that `device` is part of.
    pub schema: u32,
    /// What happened.
    #[serde(rename = "event")]
    pub what: What,
    /// The device, as a scan has it.
    pub device: Device,
}

impl Event {
    fn new(what: What, device: &Device) -> Self {
        Self {
            schema: SCHEMA,
            what,
            device: device.clone(),
        }
    }
}

/// The devices that are known, in the order of their addresses.
#[derive(Clone, Debug, Default)]
pub struct Known {
    devices: BTreeMap<Place, Device>,
}

/// What a device is known by: the base and the size of its namespace.
type Place = Option<(PhysAddr, Bytes)>;

impl Known {
    /// Returns the devices.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// Forgets the device with this node.
    pub fn remove(&mut self, node: &str) -> Option<Event> {
        let place = *self.devices.iter().find(|(_, device)| device.device == node)?.0;
        let gone = self.devices.remove(&place)?;
        Some(Event::new(What::Gone, &gone))
    }

    /// Stores the present devices and returns what happened: first the devices that have gone, then the rest in the order of addresses.
    /// Devices with a node in `unread` could not be read, and count as unchanged.
    pub fn update(&mut self, now: Vec<Device>, unread: &[&str]) -> Vec<Event> {
        let mut now: BTreeMap<Place, Device> = now.into_iter().map(|device| (place(&device), device)).collect();
        let mut events = Vec::new();
        for (place, before) in &self.devices {
            if now.contains_key(place) {
                continue;
            }
            if unread.contains(&before.device.as_str()) {
                now.insert(*place, before.clone());
            } else {
                events.push(Event::new(What::Gone, before));
            }
        }
        for (place, device) in &now {
            let happened = between(self.devices.get(place), device);
            events.extend(happened.into_iter().map(|what| Event::new(what, device)));
        }
        self.devices = now;
        events
    }
}

fn place(device: &Device) -> Place {
    device.namespace.map(|Span(range)| (range.base(), range.size()))
}

/// Returns what happened to a device that is there.
fn between(before: Option<&Device>, now: &Device) -> Vec<What> {
    match before {
        None => vec![What::Appeared, What::state_of(now)],
        Some(before) if before == now => Vec::new(),
        Some(before) if What::state_of(before) == What::state_of(now) => vec![What::Changed],
        Some(_) => vec![What::state_of(now)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Mode, State};
    use uuid::Uuid;
    use xen_pmem_format::units::PhysRange;

    fn device(name: &str, base: u64, state: State) -> Device {
        let span = Span(PhysRange::new(PhysAddr(base), Bytes(1 << 20)).unwrap());
        Device {
            device: name.to_owned(),
            state,
            uuid: state.is_reportable().then(|| Uuid::from_u128(base.into())),
            mode: Mode::Raw,
            region: Some(span),
            namespace: Some(span),
            device_range: Some(span),
            numa_node: None,
            persistence_domain: None,
            health: Vec::new(),
            reserved: None,
            partitions: Vec::new(),
            reason: None,
        }
    }

    fn whats(events: &[Event]) -> Vec<(What, &str)> {
        events
            .iter()
            .map(|event| (event.what, event.device.device.as_str()))
            .collect()
    }

    #[test]
    fn each_transition_has_its_event() {
        use State::{Damaged, Degraded, Prepared, Unprepared};
        let mut known = Known::default();
        for (now, expected) in [
            (Some(Unprepared), &[What::Appeared, What::Unprepared][..]),
            (Some(Unprepared), &[]),
            (Some(Prepared), &[What::Prepared]),
            (Some(Degraded), &[What::Changed]),
            (Some(Damaged), &[What::Unprepared]),
            (Some(Unprepared), &[What::Changed]),
            (None, &[What::Gone]),
            (None, &[]),
            (Some(Prepared), &[What::Appeared, What::Prepared]),
        ] {
            let now: Vec<Device> = now
                .map(|state| device("/dev/pmem0", 1 << 32, state))
                .into_iter()
                .collect();
            let events = known.update(now, &[]);
            let found: Vec<What> = events.iter().map(|event| event.what).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_device_is_known_by_its_addresses() {
        let mut known = Known::default();
        known.update(vec![device("/dev/pmem0", 1 << 32, State::Prepared)], &[]);
        // The kernel has counted otherwise: the device is the same, under another name.
        let events = known.update(
            vec![
                device("/dev/pmem1", 1 << 32, State::Prepared),
                device("/dev/pmem0", 1 << 33, State::Unprepared),
            ],
            &[],
        );
        let expected = [
            (What::Changed, "/dev/pmem1"),
            (What::Appeared, "/dev/pmem0"),
            (What::Unprepared, "/dev/pmem0"),
        ];
        assert_eq!(whats(&events), expected);
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_was() {
        let mut known = Known::default();
        known.update(vec![device("/dev/pmem0", 1 << 32, State::Prepared)], &[]);
        assert_eq!(known.update(Vec::new(), &["/dev/pmem0"]), []);
        assert_eq!(known.devices().count(), 1);
        assert_eq!(whats(&known.update(Vec::new(), &[])), [(What::Gone, "/dev/pmem0")]);
    }

    #[test]
    fn an_event_is_printed_with_the_scans_fields() {
        let mut known = Known::default();
        let events = known.update(vec![device("/dev/pmem0", 1 << 32, State::Unprepared)], &[]);
        let printed = serde_json::to_value(&events[0]).unwrap();
        assert_eq!(printed["event"], "appeared");
        assert_eq!(printed["schema"], 1);
        assert_eq!(printed["device"]["namespace"]["base"], 1u64 << 32);
    }
}
