//! How the tools end that met an error of a scan, or its outcome.

use crate::document::State;
use crate::scan::{Error, Outcome};
use std::borrow::Cow;
use xen_pmem_cli::exit::{ExitStatus, Exits};
use xen_pmem_nvdimm::node;

impl Exits for Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::NoSysfs(_) | Self::Base { .. } | Self::NotAnImage => ExitStatus::Usage,
            Self::Node(node::Error::Partition { .. } | node::Error::NotPersistentMemory | node::Error::NotADevice) => {
                ExitStatus::Usage
            }
            Self::Node(_) | Self::Sysfs(_) | Self::Io(_) | Self::Memory { .. } | Self::Firmware(_) => {
                ExitStatus::Failed
            }
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Base { .. } => Some(": give another --base".into()),
            Self::NotAnImage => Some(": give a device's node without --image".into()),
            Self::Node(node::Error::NotADevice) => Some(": for an image give --image FILE --base ADDRESS".into()),
            _ => None,
        }
    }
}

/// Of a tool that was asked for this scan: what failed comes first, then damage, then whether anything is prepared.
impl Exits for Outcome {
    fn exit_status(&self) -> ExitStatus {
        let any = |is: fn(State) -> bool| self.scan.devices.iter().any(|device| is(device.state));
        if let Some(failure) = self.failures.first() {
            failure.error.exit_status()
        } else if any(|state| state == State::Damaged) {
            ExitStatus::Damaged
        } else if any(State::is_reportable) {
            ExitStatus::Done
        } else {
            ExitStatus::NothingPrepared
        }
    }
}
