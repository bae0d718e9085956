//! What the guard prints: one line for each thing that happens.

use crate::bpf::offences::Offence;
use serde::{Serialize, Serializer};
use xen_pmem_format::units::DeviceRange;

const SCHEMA: u32 = 1;

/// Something that happens to a device.
pub(super) struct Line {
    /// The device.
    pub(super) device: String,
    /// What it is.
    pub(super) event: Event,
}

/// What happens.
pub(super) enum Event {
    /// The area is watched from now on.
    Watching(DeviceRange),
    /// Somebody wrote.
    Offence {
        /// Who, where and what.
        offence: Offence,
        /// The number of writes since the line before, this one included.
        count: u64,
    },
    /// More writes than were reported one by one.
    More(u64),
    /// All writes, at the end.
    Total(u64),
}

impl Line {
    pub(super) fn new(device: &str, event: Event) -> Self {
        Self {
            device: device.to_owned(),
            event,
        }
    }

    /// Returns the line for people.
    pub(super) fn text(&self) -> String {
        let device = &self.device;
        match &self.event {
            Event::Watching(area) => format!("{device}: watching {} from offset {:#x} on", area.size(), area.base().0),
            Event::More(count) => format!("{device}: {count} more writes to the reserved area"),
            Event::Total(count) => format!("{device}: {count} writes to the reserved area in all"),
            Event::Offence { offence, count } => format!(
                "{device}: {} of {} at offset {:#x} reaches the reserved area: process {} ({}){}; {count} since the line before",
                offence.operation.as_str(),
                offence.length,
                offence.offset.0,
                offence.process,
                offence.command,
                if offence.killed { ", killed" } else { "" }
            ),
        }
    }
}

/// The document of a line. What does not apply is null.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    event: &'static str,
    device: &'a str,
    count: u64,
    process: Option<u32>,
    command: Option<&'a str>,
    operation: Option<&'static str>,
    offset: Option<u64>,
    length: Option<u64>,
    killed: Option<bool>,
}

impl<'a> From<&'a Line> for Document<'a> {
    fn from(line: &'a Line) -> Self {
        let plain = |event, count| Self {
            schema: SCHEMA,
            event,
            device: &line.device,
            count,
            process: None,
            command: None,
            operation: None,
            offset: None,
            length: None,
            killed: None,
        };
        match &line.event {
            Event::More(count) => plain("more", *count),
            Event::Total(count) => plain("total", *count),
            Event::Watching(area) => Self {
                offset: Some(area.base().0),
                length: Some(area.size().0),
                ..plain("watching", 0)
            },
            Event::Offence { offence, count } => Self {
                process: Some(offence.process),
                command: Some(&offence.command),
                operation: Some(offence.operation.as_str()),
                offset: Some(offence.offset.0),
                length: Some(offence.length.0),
                killed: Some(offence.killed),
                ..plain("offence", *count)
            },
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Document::from(self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::offences::{DiskNumber, Operation};
    use serde_json::json;
    use xen_pmem_format::units::{Bytes, DeviceOffset};

    #[test]
    fn each_event_has_the_members_of_the_schema() {
        let area = DeviceRange::new(DeviceOffset(0x20_0000), Bytes(6 << 20)).unwrap();
        let offence = Offence {
            disk: DiskNumber::new(259, 0).unwrap(),
            process: 812,
            command: "dd".to_owned(),
            operation: Operation::Write,
            offset: DeviceOffset(0x20_3000),
            length: Bytes(4096),
            offences: 3,
            killed: true,
        };
        let none = json!(null);
        for (event, name, count, process, offset, text) in [
            (
                Event::Watching(area),
                "watching",
                0,
                none.clone(),
                json!(0x20_0000),
                "/dev/pmem0: watching 6 MiB from offset 0x200000 on",
            ),
            (
                Event::Offence { offence, count: 2 },
                "offence",
                2,
                json!(812),
                json!(0x20_3000),
                "/dev/pmem0: write of 4 KiB at offset 0x203000 reaches the reserved area: process 812 (dd), killed; 2 since the line before",
            ),
            (
                Event::More(5),
                "more",
                5,
                none.clone(),
                none.clone(),
                "/dev/pmem0: 5 more writes to the reserved area",
            ),
            (
                Event::Total(8),
                "total",
                8,
                none.clone(),
                none.clone(),
                "/dev/pmem0: 8 writes to the reserved area in all",
            ),
        ] {
            let line = Line::new("/dev/pmem0", event);
            assert_eq!(line.text(), text);
            let document = serde_json::to_value(&line).unwrap();
            let members: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(members.len(), 10, "{members:?}");
            assert_eq!(
                [&document["schema"], &document["event"], &document["count"]],
                [&json!(1), &json!(name), &json!(count)]
            );
            assert_eq!((&document["process"], &document["offset"]), (&process, &offset));
            assert_eq!(document["killed"].is_null(), name != "offence");
        }
    }
}
