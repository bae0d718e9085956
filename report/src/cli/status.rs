//! `status`: what the devices, XenStore and the hypervisor say, side by side.

use super::{SCHEMA, When, require_dom0, scan_host};
use crate::hypercall::{Hypercall, Registered};
use crate::report;
use crate::status::{self, Hypervisor, InHypervisor};
use crate::xenstore::{Published, XenStore};
use serde::Serialize;
use std::fmt::Write as _;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_discover::document::{Scan, Span};
use xen_pmem_format::units::Bytes;
use xen_pmem_nvdimm::guest_claim::Claim;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// All reservations that are known to the devices, XenStore or the hypervisor.
#[derive(Serialize)]
struct Document {
    schema: u32,
    reservations: Vec<Reservation>,
}

#[derive(Serialize)]
struct Reservation {
    uuid: Option<String>,
    device: Option<String>,
    range: Option<Span>,
    reserved: Option<Span>,
    /// How much of the reserved area the hypervisor uses.
    used: Option<u64>,
    partitions: Option<usize>,
    xenstore: &'static str,
    hypervisor: &'static str,
    /// The partitions that are held for guests.
    guests: Vec<Guest>,
    disagreement: Option<String>,
}

/// A partition that is held for a guest.
#[derive(Serialize)]
struct Guest {
    partition: u32,
    domain: String,
}

impl From<status::Reservation> for Reservation {
    fn from(it: status::Reservation) -> Self {
        Self {
            uuid: it.uuid,
            device: it.device,
            range: it.range.map(Span),
            reserved: it.reserved.map(Span),
            used: match it.hypervisor {
                InHypervisor::Registered { used } => Some(used.0),
                _ => None,
            },
            partitions: it.partitions,
            xenstore: it.xenstore.as_str(),
            hypervisor: it.hypervisor.as_str(),
            guests: Vec::new(),
            disagreement: (!it.disagreements.is_empty()).then(|| it.disagreements.join("; ")),
        }
    }
}

impl Reservation {
    /// Returns the same, with those of all claims that are on its partitions.
    fn with_guests(mut self, claims: &[Claim]) -> Self {
        let own = claims
            .iter()
            .filter(|claim| self.uuid.as_ref() == Some(&claim.reservation().to_string()));
        self.guests = own
            .map(|claim| Guest {
                partition: claim.partition(),
                domain: claim.domain().to_owned(),
            })
            .collect();
        self
    }
}

pub(crate) fn run(_: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    require_dom0()?;
    let published = XenStore::connect().and_then(|store| store.published())?;
    let (scan, unreadable) = scan_host(&[], When::Late)?;
    let reservations = compared(&scan, &published, &hypervisor()?);
    let claims = Claim::all(&SysfsRoot::default()).map_err(Failure::failed)?;
    let document = Document {
        schema: SCHEMA,
        reservations: reservations
            .into_iter()
            .map(Reservation::from)
            .map(|reservation| reservation.with_guests(&claims))
            .collect(),
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

/// Returns what a scan, XenStore and the hypervisor say, side by side.
pub(crate) fn compared(scan: &Scan, published: &[Published], hypervisor: &Hypervisor) -> Vec<status::Reservation> {
    let reports: Vec<_> = report::of_all(&scan.devices)
        .into_iter()
        .filter_map(|(_, report)| report.ok())
        .collect();
    status::compare(&reports, published, hypervisor)
}

/// Asks the hypervisor. If that is impossible, the document says so and still has the rest.
fn hypervisor() -> Result<Hypervisor, Failure> {
    match Hypercall::open() {
        Ok(mut hypercall) => Ok(hypervisor_of(Some(hypercall.registered()?))),
        Err(error) => {
            tracing::warn!("{error}");
            Ok(Hypervisor::Unknown)
        }
    }
}

/// Returns the hypervisor that gave this answer, if it gave any.
pub(crate) fn hypervisor_of(answer: Option<Option<Vec<Registered>>>) -> Hypervisor {
    match answer {
        None => Hypervisor::Unknown,
        Some(None) => Hypervisor::Unsupported,
        Some(Some(ranges)) => Hypervisor::Knows(ranges),
    }
}

/// Returns a table, and below it what is wrong.
fn text(document: &Document) -> String {
    if document.reservations.is_empty() {
        return "nothing is published and nothing is prepared\n".to_owned();
    }
    let mut rows = vec![
        [
            "DEVICE",
            "RANGE",
            "RESERVED",
            "USED",
            "PARTITIONS",
            "XENSTORE",
            "HYPERVISOR",
            "RESERVATION",
        ]
        .map(str::to_owned),
    ];
    rows.extend(document.reservations.iter().map(row));
    let mut text = aligned(&rows);
    // Writing to a string does not fail.
    for reservation in &document.reservations {
        for Guest { partition, domain } in &reservation.guests {
            let uuid = reservation.uuid.as_deref().unwrap_or_default();
            let _ = writeln!(text, "partition {partition} of {uuid} is held for domain {domain}");
        }
        if let Some(disagreement) = &reservation.disagreement {
            let name = reservation.device.as_ref().or(reservation.uuid.as_ref());
            let name = name.map_or("a range without a device", String::as_str);
            let _ = writeln!(text, "{name}: {disagreement}");
        }
    }
    text
}

fn row(it: &Reservation) -> [String; 8] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let size = |span: Option<Span>| or_dash(span.map(|Span(range): Span| range.size().to_string()));
    let range = |Span(range): Span| format!("{}+{}", range.base(), range.size());
    [
        or_dash(it.device.clone()),
        or_dash(it.range.map(range)),
        size(it.reserved),
        or_dash(it.used.map(|used| Bytes(used).to_string())),
        or_dash(it.partitions.map(|count| count.to_string())),
        it.xenstore.to_owned(),
        it.hypervisor.to_owned(),
        or_dash(it.uuid.clone()),
    ]
}

/// Columns as wide as their widest cell, two spaces apart.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
