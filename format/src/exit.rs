//! The exit codes that all tools of the project share; part of their contract with scripts.

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
    /// The number that the process exits with.
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

#[cfg(feature = "std")]
impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
