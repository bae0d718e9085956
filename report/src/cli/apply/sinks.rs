//! The sinks that were asked for, told one after the other: XenStore has what the hypervisor has not refused.

use crate::hypercall::{self, Hypercall, Privcmd, Untaken};
use crate::report::{self, Refusal, Report};
use crate::sink::{Outcome, Receipt, Registration};
use crate::xenstore::{self, XenStore};
use clap::ValueEnum;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use xen_pmem_cli::Failure;
use xen_pmem_cli::exit::{ExitStatus, Exits};
use xen_pmem_cli::progress::Waiting;
use xen_pmem_format::units::Bytes;
use xen_pmem_nvdimm::bus::{self, NdBus};

/// Where to report to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// XenStore only
    Xenstore,
    /// The hypervisor only
    Hypercall,
    /// The hypervisor, then XenStore
    All,
}

/// What one sink made of a report.
#[derive(Serialize)]
pub(crate) struct Sunk {
    sink: &'static str,
    outcome: &'static str,
    /// How many bytes of the reserved area the hypervisor uses, or would use.
    used: Option<u64>,
    message: Option<String>,
}

impl fmt::Display for Sunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sink, self.outcome)?;
        match (&self.message, self.used) {
            (Some(message), _) => write!(f, ": {message}"),
            (None, Some(used)) if self.outcome == Outcome::Possible.as_str() => {
                write!(f, ": it would use {} of the reserved area", Bytes(used))
            }
            (None, Some(used)) => write!(f, ": it uses {} of the reserved area", Bytes(used)),
            (None, None) => Ok(()),
        }
    }
}

/// The outcome of a report at all sinks.
pub(crate) struct Told {
    pub(crate) sunk: Vec<Sunk>,
    pub(crate) status: ExitStatus,
    /// What the hypervisor said, if it was asked and answered.
    pub(crate) verdict: Option<Registration>,
}

/// The sinks, open.
pub(crate) struct Sinks {
    hypercall: Option<Hypercall<Privcmd>>,
    xenstore: Option<XenStore<xenstore_rs::unix::XsUnix>>,
}

impl Sinks {
    /// Returns no sinks.
    pub(crate) fn none() -> Self {
        Self {
            hypercall: None,
            xenstore: None,
        }
    }

    /// Opens those chosen; for a dry run only the hypervisor can be asked.
    pub(crate) fn open(choice: Choice, dry_run: bool) -> Result<Self, Failure> {
        Ok(Self {
            hypercall: match choice {
                Choice::Xenstore => None,
                Choice::Hypercall | Choice::All => Some(Hypercall::open()?),
            },
            xenstore: match choice {
                Choice::Hypercall => None,
                _ if dry_run => None,
                Choice::Xenstore | Choice::All => Some(XenStore::connect()?),
            },
        })
    }

    /// Returns whether a report on a device that was not looked at goes with what is published.
    pub(crate) fn ensure_agreement(&self, report: &Report) -> Result<Result<(), Refusal>, Failure> {
        let Some(store) = &self.xenstore else {
            return Ok(Ok(()));
        };
        let published = store.published()?;
        let ranges = published
            .into_iter()
            .filter_map(|published| published.range().map(|range| (published.name, range)));
        Ok(report::agrees_with(report, ranges))
    }

    /// Asks the hypervisor whether it would accept a report.
    pub(crate) fn ask(&mut self, report: &Report) -> (Vec<Sunk>, ExitStatus) {
        match &mut self.hypercall {
            None => (Vec::new(), ExitStatus::Done),
            Some(hypercall) => {
                let (sunk, status) = sunk(hypercall::NAME, hypercall.ask(report));
                let status = match status {
                    // XenStore would have it.
                    ExitStatus::Unsupported => ExitStatus::Done,
                    status => status,
                };
                (vec![sunk], status)
            }
        }
    }

    /// Publishes in XenStore again what the sinks have received before.
    pub(crate) fn publish_again(
        &mut self,
        report: &Report,
        verdict: Option<Registration>,
    ) -> Result<Outcome, xenstore::Error> {
        match &mut self.xenstore {
            None => Ok(Outcome::Unchanged),
            Some(store) => store.publish(report, verdict).map(|receipt| receipt.outcome),
        }
    }

    /// Withdraws what is published of reservations that are not among these. Returns their names.
    pub(crate) fn withdraw_others(&mut self, reports: &[&Report]) -> Result<Vec<String>, xenstore::Error> {
        let mut withdrawn = Vec::new();
        let Some(store) = &mut self.xenstore else {
            return Ok(withdrawn);
        };
        for published in store.published()? {
            let wanted = reports.iter().any(|report| report.uuid().to_string() == published.name);
            // A name that is not a UUID belongs to somebody else.
            if !wanted && published.name.parse::<uuid::Uuid>().is_ok() && store.remove(&published.name)? {
                withdrawn.push(published.name);
            }
        }
        Ok(withdrawn)
    }

    /// Tells the sinks; one that fails ends it. With a bus, a raw device's driver is taken from it if the hypervisor finds the memory in
    /// use.
    pub(crate) fn publish(&mut self, report: &Report, rebind: Option<&NdBus>) -> Told {
        let mut all = Vec::new();
        let mut verdict = None;
        let mut overall = ExitStatus::Done;
        if let Some(hypercall) = &mut self.hypercall {
            // A second for each 64 GiB or so.
            let _waiting = Waiting::new(format!("reporting {} to the hypervisor", report.device()));
            let result = match (hypercall.publish(report), rebind) {
                (
                    Err(hypercall::Error::Untaken {
                        reason: Untaken::InUse(_),
                        ..
                    }),
                    Some(bus),
                ) => publish_unbound(hypercall, report, bus),
                (result, _) => result.map_err(NotPublished::from),
            };
            verdict = result.as_ref().ok().and_then(|receipt| receipt.verdict);
            let (one, status) = sunk(hypercall::NAME, result);
            journal(report, &one, status);
            all.push(one);
            overall = status;
        }
        let go_on = matches!(overall, ExitStatus::Done | ExitStatus::Unsupported);
        if let Some(store) = self.xenstore.as_mut().filter(|_| go_on) {
            let (one, status) = sunk(xenstore::NAME, store.publish(report, verdict));
            journal(report, &one, status);
            all.push(one);
            overall = status;
        }
        Told {
            sunk: all,
            status: overall,
            verdict,
        }
    }
}

/// Why the hypervisor was not told.
#[derive(Debug, thiserror::Error)]
enum NotPublished {
    /// It did not take the report.
    #[error(transparent)]
    Hypercall(#[from] hypercall::Error),
    /// The device keeps its driver.
    #[error(transparent)]
    Bound(bus::Error),
}

impl Exits for NotPublished {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Hypercall(error) => error.exit_status(),
            Self::Bound(_) => ExitStatus::Refused,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Hypercall(error) => error.advice(),
            Self::Bound(bus::Error::NotRaw { .. }) => {
                Some(". Report it early (`apply --early` in the initramfs)".into())
            }
            Self::Bound(_) => None,
        }
    }
}

/// Reports to the hypervisor while the device has no driver. Asks it first: a report that it would refuse is not worth the interruption.
fn publish_unbound(hypercall: &mut Hypercall<Privcmd>, report: &Report, bus: &NdBus) -> Result<Receipt, NotPublished> {
    hypercall.ask(report)?;
    let published = bus.without_driver(Path::new(report.device()), || hypercall.publish(report));
    Ok(published.map_err(NotPublished::Bound)??)
}

/// Logs the outcome of a report to the journal; on a terminal the normal output says so.
fn journal(report: &Report, sunk: &Sunk, status: ExitStatus) {
    let (device, reservation) = (report.device(), report.uuid().to_string());
    let Sunk {
        sink, outcome, used, ..
    } = *sunk;
    if matches!(status, ExitStatus::Done | ExitStatus::Unsupported) {
        tracing::info!(device, reservation, sink, outcome, used, "{device}: {sunk}");
    } else if xen_pmem_cli::in_journal() {
        tracing::error!(device, reservation, sink, outcome, "{device}: {sunk}");
    }
}

fn sunk<E: Exits + fmt::Display>(sink: &'static str, result: Result<Receipt, E>) -> (Sunk, ExitStatus) {
    let failed = |message: String| Sunk {
        sink,
        outcome: "failed",
        used: None,
        message: Some(message),
    };
    match result {
        Ok(Receipt { outcome, verdict }) => {
            let used = match verdict {
                Some(Registration::Registered { used }) => Some(used.0),
                Some(Registration::Unsupported) | None => None,
            };
            let (message, status) = match outcome {
                Outcome::Unsupported => (
                    Some("hypervisor has no pmem support".to_owned()),
                    ExitStatus::Unsupported,
                ),
                _ => (None, ExitStatus::Done),
            };
            let sunk = Sunk {
                sink,
                outcome: outcome.as_str(),
                used,
                message,
            };
            (sunk, status)
        }
        Err(error) => (failed(error.told()), error.exit_status()),
    }
}
