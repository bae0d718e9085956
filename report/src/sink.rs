//! Where reports go.

use crate::report::Report;
use uuid::Uuid;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is known there now, and was not before.
    Published,
    /// It was known there already, and nothing was changed.
    Unchanged,
    /// The sink is there but has no notion of persistent memory: a normal state, not a failure.
    Unsupported,
}

impl Outcome {
    /// The word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
            Self::Unsupported => "unsupported",
        }
    }
}

/// A place that reports are published in.
pub trait Sink {
    /// The sink's name in documents and messages.
    fn name(&self) -> &'static str;

    /// Makes a report known. Doing it twice changes nothing.
    ///
    /// # Errors
    ///
    /// What the sink says, with what it was about.
    fn publish(&mut self, report: &Report) -> anyhow::Result<Outcome>;

    /// Takes back what was made known of a reservation. `Ok(false)` if nothing was, or if the sink cannot take anything back.
    ///
    /// # Errors
    ///
    /// What the sink says, with what it was about.
    fn withdraw(&mut self, uuid: Uuid) -> anyhow::Result<bool>;
}
