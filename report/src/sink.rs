//! The outcome of a report at its sinks: the hypervisor and XenStore.

use xen_pmem_format::units::Bytes;

/// The outcome of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is known there now, and was not before.
    Published,
    /// It was known there already, and nothing was changed.
    Unchanged,
    /// It would be taken: nothing was changed, as was asked for.
    Possible,
    /// The sink is there but has no notion of persistent memory: a normal state, not a failure.
    Unsupported,
}

impl Outcome {
    /// Returns the word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
            Self::Possible => "possible",
            Self::Unsupported => "unsupported",
        }
    }
}

/// What the hypervisor says of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Its structures for the range live in the reserved area.
    Registered {
        /// How much of the reserved area they take.
        used: Bytes,
    },
    /// It has no notion of persistent memory.
    Unsupported,
}

/// A report's arrival at a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its outcome there.
    pub outcome: Outcome,
    /// What the hypervisor says, if the sink is the hypervisor.
    pub verdict: Option<Registration>,
}
