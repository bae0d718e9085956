//! What the devices, XenStore and the hypervisor say of each reservation, side by side, and where they disagree.

use crate::hypercall::Registered;
use crate::report::Report;
use crate::sink::Registration;
use crate::xenstore::Published;
use uuid::Uuid;
use xen_pmem_format::units::{Bytes, PhysRange};

/// What XenStore has of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InStore {
    /// Nothing.
    Absent,
    /// Nodes, but no whole report.
    Incomplete,
    /// A whole report.
    Ready,
}

/// What the hypervisor says of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InHypervisor {
    /// It could not be asked.
    Unknown,
    /// It has no pmem support.
    Unsupported,
    /// It does not know it.
    Absent,
    /// Its structures live in the reserved area.
    Registered {
        /// How much of it they take.
        used: Bytes,
    },
}

/// The hypervisor as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// It could not be.
    Unknown,
    /// It has no pmem support.
    Unsupported,
    /// It knows these ranges.
    Knows(Vec<Registered>),
}

/// One reservation, or what seems to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Its UUID, as text: XenStore may have a directory of another name. `None`: only the hypervisor knows of it.
    pub uuid: Option<String>,
    /// The device that it is found on.
    pub device: Option<String>,
    /// The whole range.
    pub range: Option<PhysRange>,
    /// The reserved area.
    pub reserved: Option<PhysRange>,
    /// How many partitions there are.
    pub partitions: Option<usize>,
    /// XenStore's word.
    pub xenstore: InStore,
    /// The hypervisor's word.
    pub hypervisor: InHypervisor,
    /// Where they disagree, and what to do.
    pub disagreements: Vec<String>,
}

impl InStore {
    /// Returns the word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Incomplete => "incomplete",
            Self::Ready => "ready",
        }
    }

    fn of(published: Option<&Published>) -> Self {
        match published {
            None => Self::Absent,
            Some(published) if published.is_ready() => Self::Ready,
            Some(_) => Self::Incomplete,
        }
    }
}

impl InHypervisor {
    /// Returns the word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unsupported => "unsupported",
            Self::Absent => "absent",
            Self::Registered { .. } => "registered",
        }
    }
}

impl Hypervisor {
    /// Returns what it says about exactly this range and reserved area.
    fn of(&self, range: PhysRange, reserved: PhysRange) -> InHypervisor {
        match self {
            Self::Unknown => InHypervisor::Unknown,
            Self::Unsupported => InHypervisor::Unsupported,
            Self::Knows(ranges) => ranges
                .iter()
                .find(|known| known.range == range && known.reserved == reserved)
                .map_or(InHypervisor::Absent, |known| InHypervisor::Registered {
                    used: known.used,
                }),
        }
    }

    /// Returns a range that it knows, other than this one, and that overlaps it.
    fn other(&self, range: PhysRange, reserved: PhysRange) -> Option<&Registered> {
        let Self::Knows(ranges) = self else { return None };
        ranges
            .iter()
            .find(|known| known.range.overlaps(range) && (known.range, known.reserved) != (range, reserved))
    }
}

/// Returns all known reservations: first those of devices, then those that only XenStore has, then those that only the hypervisor has.
pub fn compare(reports: &[Report], published: &[Published], hypervisor: &Hypervisor) -> Vec<Reservation> {
    let mut all: Vec<Reservation> = reports
        .iter()
        .map(|report| of_report(report, published, hypervisor))
        .collect();
    let is_known = |published: &&Published| reports.iter().any(|report| report.uuid().to_string() == published.name);
    all.extend(
        published
            .iter()
            .filter(|it| !is_known(it))
            .map(|it| orphan(it, hypervisor)),
    );
    if let Hypervisor::Knows(ranges) = hypervisor {
        for known in ranges {
            let said = |it: &Reservation| (it.range, it.reserved) == (Some(known.range), Some(known.reserved));
            if !all.iter().any(said) {
                all.push(unclaimed(known));
            }
        }
    }
    all
}

fn of_report(report: &Report, published: &[Published], hypervisor: &Hypervisor) -> Reservation {
    let uuid = report.uuid().to_string();
    let there = published.iter().find(|published| published.name == uuid);
    let (range, reserved) = (report.range(), report.reserved());
    let in_hypervisor = hypervisor.of(range, reserved);
    let mut disagreements = Vec::new();
    match there {
        None => disagreements.push("it is not published in XenStore: run `apply`".to_owned()),
        Some(there) => disagreements.extend(there.difference(report)),
    }
    if let Some(other) = hypervisor.other(range, reserved) {
        disagreements.push(format!(
            "the hypervisor knows {} with {} reserved, until the next boot",
            other.range, other.reserved
        ));
    } else if in_hypervisor == InHypervisor::Absent {
        disagreements.push(
            "the hypervisor does not know it: it has to be reported before nd_pmem binds (`apply --early`); if it was refused, `xl dmesg` has the reason".to_owned(),
        );
    }
    disagreements.extend(there.and_then(|there| contradiction(there, in_hypervisor)));
    Reservation {
        uuid: Some(uuid),
        device: Some(report.device().to_owned()),
        range: Some(range),
        reserved: Some(reserved),
        partitions: Some(report.data().len()),
        xenstore: InStore::of(there),
        hypervisor: in_hypervisor,
        disagreements,
    }
}

/// Returns where XenStore says something else of the hypervisor than the hypervisor itself.
fn contradiction(there: &Published, hypervisor: InHypervisor) -> Option<String> {
    let agrees = match (there.verdict()?, hypervisor) {
        (_, InHypervisor::Unknown) | (Registration::Unsupported, InHypervisor::Unsupported) => true,
        (Registration::Registered { used }, InHypervisor::Registered { used: says }) => used == says,
        _ => false,
    };
    (!agrees).then(|| "XenStore says something else of the hypervisor than the hypervisor does: run `apply`".to_owned())
}

/// Returns what XenStore has of a reservation that no device has.
fn orphan(published: &Published, hypervisor: &Hypervisor) -> Reservation {
    let (range, reserved) = (published.range(), published.reserved());
    Reservation {
        uuid: Some(published.name.clone()),
        device: None,
        range,
        reserved,
        partitions: None,
        xenstore: InStore::of(Some(published)),
        hypervisor: match range.zip(reserved) {
            Some((range, reserved)) => hypervisor.of(range, reserved),
            None => InHypervisor::Unknown,
        },
        disagreements: vec![match published.name.parse::<Uuid>() {
            Ok(_) => "no prepared device has this reservation: withdraw it".to_owned(),
            Err(_) => "its name is not a UUID: another program wrote it".to_owned(),
        }],
    }
}

/// Returns what only the hypervisor knows.
fn unclaimed(known: &Registered) -> Reservation {
    Reservation {
        uuid: None,
        device: None,
        range: Some(known.range),
        reserved: Some(known.reserved),
        partitions: None,
        xenstore: InStore::Absent,
        hypervisor: InHypervisor::Registered { used: known.used },
        disagreements: vec![
            "only the hypervisor knows it, until the next boot; nobody else may write to its reserved area".to_owned(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{device, span};

    const USED: Bytes = Bytes(6 << 20);

    fn report() -> Report {
        Report::of(&device()).unwrap()
    }

    fn published(verdict: &[(&str, &str)]) -> Published {
        let mut nodes = crate::xenstore::nodes(&report());
        nodes.insert("state".into(), "ready".into());
        nodes.extend(
            verdict
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        Published {
            name: report().uuid().to_string(),
            nodes,
        }
    }

    fn knows(range: PhysRange) -> Hypervisor {
        Hypervisor::Knows(vec![Registered {
            range,
            reserved: report().reserved(),
            used: USED,
        }])
    }

    const REGISTERED: &[(&str, &str)] = &[("hypervisor", "registered"), ("frames-used", "1536")];

    #[test]
    fn agreement_is_silent() {
        for (verdict, hypervisor) in [
            (REGISTERED, knows(report().range())),
            (&[("hypervisor", "unsupported")], Hypervisor::Unsupported),
            (&[], Hypervisor::Unsupported),
            (REGISTERED, Hypervisor::Unknown),
        ] {
            let all = compare(&[report()], &[published(verdict)], &hypervisor);
            assert_eq!(all.len(), 1, "{all:?}");
            assert_eq!(all[0].disagreements, Vec::<String>::new(), "{hypervisor:?}");
        }
        let all = compare(&[report()], &[published(REGISTERED)], &knows(report().range()));
        assert_eq!(all[0].hypervisor, InHypervisor::Registered { used: USED });
        assert_eq!((all[0].xenstore, all[0].partitions), (InStore::Ready, Some(2)));
    }

    #[test]
    fn each_disagreement_is_said() {
        let none = Hypervisor::Knows(Vec::new());
        let shifted = span(report().range().base().0 + (1 << 21), 512 << 20).0;
        for (store, hypervisor, words) in [
            (vec![], Hypervisor::Unsupported, "not published"),
            (vec![published(&[])], none.clone(), "apply --early"),
            (vec![published(REGISTERED)], none, "something else of the hypervisor"),
            (
                vec![published(&[("hypervisor", "unsupported")])],
                knows(report().range()),
                "something else of the hypervisor",
            ),
            (
                vec![published(&[("hypervisor", "registered"), ("frames-used", "1")])],
                knows(report().range()),
                "something else of the hypervisor",
            ),
            (vec![published(&[])], knows(shifted), "until the next boot"),
            (
                vec![published(&[("device", "/dev/pmem9")])],
                Hypervisor::Unknown,
                "another device",
            ),
        ] {
            let all = compare(&[report()], &store, &hypervisor);
            let said = all[0].disagreements.join("; ");
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn what_no_device_has_is_listed() {
        let all = compare(&[], &[published(REGISTERED)], &knows(report().range()));
        assert_eq!(all.len(), 1);
        assert!(all[0].disagreements[0].contains("withdraw"));
        assert_eq!(all[0].hypervisor, InHypervisor::Registered { used: USED });
        let all = compare(&[], &[], &knows(report().range()));
        assert_eq!((all.len(), all[0].uuid.clone()), (1, None));
    }
}
