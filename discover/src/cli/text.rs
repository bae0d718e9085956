//! The scan for people.

use crate::document::{Device, Mode, Span};
use crate::scan::Outcome;

/// Returns a paragraph for each device.
pub(crate) fn of(outcome: &Outcome) -> String {
    if outcome.scan.devices.is_empty() && outcome.failures.is_empty() {
        return "no persistent memory found\n".into();
    }
    let paragraphs: Vec<String> = outcome.scan.devices.iter().map(device).collect();
    paragraphs.join("\n")
}

fn device(device: &Device) -> String {
    let mode = match device.mode {
        Mode::Raw => "raw",
        Mode::Fsdax => "fsdax",
        Mode::Devdax => "devdax",
        Mode::Sector => "sector",
        Mode::Image => "image",
    };
    let mut text = format!("{}: {}, {mode}", device.device, device.state.as_str());
    if let Some(node) = device.numa_node {
        text += &format!(", NUMA node {node}");
    }
    if let Some(domain) = device.persistence_domain {
        text += &format!(", persistence domain {}", domain.as_str());
    }
    for health in &device.health {
        text += &format!(", {}", health.as_str());
    }
    text.push('\n');
    if let Some(uuid) = device.uuid {
        text += &line("reservation", &uuid.to_string());
    }
    for (name, span) in [
        ("region", device.region),
        ("namespace", device.namespace),
        ("device", device.device_range),
        ("reserved", device.reserved),
    ] {
        if let Some(Span(range)) = span {
            text += &line(name, &range.to_string());
        }
    }
    for partition in &device.partitions {
        text += &line(
            &format!("partition {}", partition.number),
            &partition.range.0.to_string(),
        );
    }
    if let Some(reason) = &device.reason {
        text += &line("reason", reason);
    }
    text
}

fn line(name: &str, value: &str) -> String {
    format!("  {name:<13} {value}\n")
}
