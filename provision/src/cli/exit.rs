//! How the tool ends that met an error of the library, and what to do about it on its command line.

use crate::plan::Refusal;
use crate::target::Error;
use crate::{fsdax, init, layout, partition, remove, repair, resize, restore};
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

impl Exits for Refusal {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Io(_) => ExitStatus::Failed,
            _ => ExitStatus::Refused,
        }
    }
}

impl Exits for layout::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::TooSmall { .. } => ExitStatus::Refused,
            _ => ExitStatus::Usage,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::ReserveTooSmall { need, .. } => Some(format!(": did you intend --reserve {}M?", need.0 >> 20).into()),
            _ => None,
        }
    }
}

impl Exits for init::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::NotBlank(_) | Self::Prepared(_) => ExitStatus::Refused,
            Self::Layout(error) => error.exit_status(),
            Self::SameDiskGuid(_) | Self::NilUuid => ExitStatus::Usage,
            _ => ExitStatus::Failed,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NotBlank(_) => Some("; if that may be lost, say --force".into()),
            Self::Prepared(_) => Some(": see `show`; if its table and its partitions may be lost, say --force".into()),
            Self::Layout(error) => error.advice(),
            _ => None,
        }
    }
}

impl Exits for remove::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Nothing(_) => ExitStatus::NothingPrepared,
            Self::NoTable(_) => ExitStatus::Damaged,
            Self::Unfit(_) => ExitStatus::Refused,
            Self::Refused(refusal) => refusal.exit_status(),
            Self::Io(_) | Self::Commit(_) => ExitStatus::Failed,
        }
    }
}

impl Exits for repair::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Nothing(_) => ExitStatus::NothingPrepared,
            Self::Hopeless(_) => ExitStatus::Damaged,
            Self::Unfit(_) => ExitStatus::Refused,
            Self::Refused(refusal) => refusal.exit_status(),
            Self::Io(_) | Self::Commit(_) => ExitStatus::Failed,
        }
    }
}

impl Exits for resize::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Nothing(_) => ExitStatus::NothingPrepared,
            Self::NotWhole { .. } => ExitStatus::Damaged,
            Self::TooLarge { .. } | Self::SequenceEnd | Self::Unfit(_) => ExitStatus::Refused,
            Self::TooSmall { .. } | Self::Overflow => ExitStatus::Usage,
            Self::Refused(refusal) => refusal.exit_status(),
            Self::Io(_) | Self::Commit(_) => ExitStatus::Failed,
        }
    }
}

impl Exits for restore::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Size { .. } | Self::Replaces(_) | Self::NoReservation(_) | Self::Unfit(_) => ExitStatus::Refused,
            Self::Refused(refusal) => refusal.exit_status(),
            _ => ExitStatus::Failed,
        }
    }
}

impl Exits for fsdax::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::NotBlank(_) | Self::Unsuitable(_) => ExitStatus::Refused,
            Self::Io { .. } => ExitStatus::Failed,
        }
    }
}
