//! The time that goes into what is written.

use std::time::{SystemTime, UNIX_EPOCH};

/// Why the time is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// `SOURCE_DATE_EPOCH` says something else.
    SourceDateEpoch,
    /// The system's clock is not set.
    Before1970,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SourceDateEpoch => "SOURCE_DATE_EPOCH is not a number of seconds",
            Self::Before1970 => "the clock stands before 1970",
        })
    }
}

impl std::error::Error for Error {}

/// Returns the time in seconds since 1970, or the one of `SOURCE_DATE_EPOCH`, for output that can be reproduced
/// (reproducible-builds.org/specs/source-date-epoch).
///
/// # Errors
///
/// If neither makes sense.
pub fn now() -> Result<u64, Error> {
    if let Some(epoch) = std::env::var_os("SOURCE_DATE_EPOCH") {
        let seconds = epoch.to_str().and_then(|text| text.parse().ok());
        return seconds.ok_or(Error::SourceDateEpoch);
    }
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map(|elapsed| elapsed.as_secs()).map_err(|_| Error::Before1970)
}
