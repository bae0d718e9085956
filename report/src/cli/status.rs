//! `status`: what is published, beside what a scan finds.

use super::{SCHEMA, failed, require_dom0, scan_host};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use uuid::Uuid;
use xen_pmem_format::cli::{Failure, Flags};
use xen_pmem_format::exit::ExitStatus;
use xen_pmem_report::report;
use xen_pmem_report::xenstore::{Published, XenStore};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// All reservations that are published or could be.
#[derive(Serialize)]
struct Document {
    schema: u32,
    reservations: Vec<Reservation>,
}

#[derive(Serialize)]
struct Reservation {
    uuid: String,
    /// The device that a scan finds it on.
    device: Option<String>,
    /// Whether XenStore has a whole report.
    xenstore: &'static str,
    /// Where XenStore and the scan disagree.
    disagreement: Option<String>,
}

pub(crate) fn run(_: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    require_dom0()?;
    let published = XenStore::connect()
        .and_then(|store| store.published())
        .map_err(failed)?;
    let (scan, unreadable) = scan_host(&[])?;
    let reports = report::of_all(&scan.devices);
    let mut reservations: BTreeMap<String, Reservation> = BTreeMap::new();
    for report in reports.into_iter().filter_map(|(_, report)| report.ok()) {
        let uuid = report.uuid();
        let there = published.iter().find(|published| published.name == uuid.to_string());
        reservations.insert(
            uuid.to_string(),
            Reservation {
                uuid: uuid.to_string(),
                device: Some(report.device().to_owned()),
                xenstore: word(there),
                disagreement: match there {
                    None => Some("it is not published: run `apply`".to_owned()),
                    Some(there) => there.difference(&report),
                },
            },
        );
    }
    for there in &published {
        reservations.entry(there.name.clone()).or_insert_with(|| Reservation {
            uuid: there.name.clone(),
            device: None,
            xenstore: word(Some(there)),
            disagreement: Some(match there.name.parse::<Uuid>() {
                Ok(_) => "no prepared device has this reservation: withdraw it".to_owned(),
                Err(_) => "its name is no UUID: it is not ours".to_owned(),
            }),
        });
    }
    let document = Document {
        schema: SCHEMA,
        reservations: reservations.into_values().collect(),
    };
    flags.print(&document, || text(&document))?;
    Ok(if unreadable {
        ExitStatus::Failed
    } else if document.reservations.is_empty() {
        ExitStatus::NothingPrepared
    } else {
        ExitStatus::Done
    })
}

fn word(published: Option<&Published>) -> &'static str {
    match published {
        None => "absent",
        Some(published) if published.is_ready() => "ready",
        Some(_) => "incomplete",
    }
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for Reservation {
        uuid,
        device,
        xenstore,
        disagreement,
    } in &document.reservations
    {
        let device = device.as_deref().unwrap_or("no device");
        let _ = writeln!(text, "{uuid}  {device}  XenStore: {xenstore}");
        if let Some(disagreement) = disagreement {
            let _ = writeln!(text, "  {disagreement}");
        }
    }
    if document.reservations.is_empty() {
        text.push_str("nothing is published and nothing is prepared\n");
    }
    text
}
