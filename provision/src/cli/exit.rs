//! How the tool ends that met an error of a target or of a partition, and what to do about it on its command line.

use crate::partition;
use crate::target::Error;
use std::borrow::Cow;
use xen_pmem_cli::exit::{ExitStatus, Exits};
use xen_pmem_nvdimm::claim;

impl Exits for Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Kind(_) | Self::Partition(_) | Self::BaseKnown(_) | Self::BaseTooLarge { .. } => ExitStatus::Usage,
            Self::Claim(claim::Error::InUse(_))
            | Self::Sector
            | Self::Obstacle(_)
            | Self::LbaSize(_)
            | Self::Exists
            | Self::Dangling(_) => ExitStatus::Refused,
            Self::Open(_) | Self::Claim(_) | Self::Placement(_) | Self::Io { .. } => ExitStatus::Failed,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::BaseKnown(_) => Some(": --base is for images".into()),
            Self::Exists => Some(": --size makes a new image; leave it out to prepare this one".into()),
            _ => None,
        }
    }
}

impl Exits for partition::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Target(error) => error.exit_status(),
            Self::NumberMissing | Self::OtherNumber(_) | Self::Absent(_) => ExitStatus::Usage,
            Self::NotPrepared { .. } => ExitStatus::NothingPrepared,
            Self::Moved(_) => ExitStatus::Refused,
            Self::Overflow | Self::Sysfs(_) => ExitStatus::Failed,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Target(error) => error.advice(),
            Self::NumberMissing => Some(": say which one it is, with --partition NUMBER".into()),
            Self::OtherNumber(_) => Some(": leave --partition out".into()),
            _ => None,
        }
    }
}
