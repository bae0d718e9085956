//! The exit codes that all tools of the project share; part of their contract with scripts.

use std::borrow::Cow;
use std::fmt;

/// How a tool ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// Done.
    Done,
    /// Failed: I/O and the like.
    Failed,
    /// The command line was wrong.
    Usage,
    /// Refused, to protect data or because the device is in use.
    Refused,
    /// Nothing prepared was found.
    NothingPrepared,
    /// Damaged: repair is needed.
    Damaged,
    /// Not supported here: not Xen, not Dom0, no such hypercall.
    Unsupported,
}

impl ExitStatus {
    /// Returns the number that the process exits with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NothingPrepared => 4,
            Self::Damaged => 5,
            Self::Unsupported => 6,
        }
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// The exit code that an error or an outcome leads to. The tool that shows it on a command line implements this.
pub trait Exits {
    /// Returns how the tool ends.
    fn exit_status(&self) -> ExitStatus;

    /// Returns what to do about it on the tool's command line, where that is not said already. It begins with the punctuation that joins it
    /// to what happened (`": leave --partition out"`).
    fn advice(&self) -> Option<Cow<'static, str>> {
        None
    }

    /// Returns the message for people: what happened, and what to do.
    fn told(&self) -> String
    where
        Self: fmt::Display,
    {
        match self.advice() {
            Some(advice) => format!("{self}{advice}"),
            None => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitStatus;

    #[test]
    fn codes_are_a_contract_with_scripts() {
        let all = [
            ExitStatus::Done,
            ExitStatus::Failed,
            ExitStatus::Usage,
            ExitStatus::Refused,
            ExitStatus::NothingPrepared,
            ExitStatus::Damaged,
            ExitStatus::Unsupported,
        ];
        assert_eq!(all.map(ExitStatus::code), [0, 1, 2, 3, 4, 5, 6]);
        for status in all {
            let code = std::process::ExitCode::from(status);
            let expected = std::process::ExitCode::from(status.code());
            // An exit code cannot be compared, but shown.
            assert_eq!(format!("{code:?}"), format!("{expected:?}"));
        }
    }
}
