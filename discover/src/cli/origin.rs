//! Where events come from: what `monitor` and the reporter's `watch` let people choose.

use super::failed;
use crate::monitor::Source;
use crate::monitor::netlink::Netlink;
use clap::ValueEnum;
use xen_pmem_cli::Failure;
use xen_pmem_cli::exit::ExitStatus;

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// The kernel's broadcast, which is there on every kernel
    Auto,
    /// The kernel's broadcast of device events
    Netlink,
    /// The kernel's functions that make these events, through eBPF
    Bpf,
}

impl Origin {
    /// Checks that this build can read from there. This comes first: no change to the host can add a missing build feature.
    ///
    /// # Errors
    ///
    /// With the exit code 6 if it has not.
    pub fn check(self) -> Result<(), Failure> {
        match self {
            #[cfg(not(feature = "bpf"))]
            Self::Bpf => bpf().map(drop),
            _ => Ok(()),
        }
    }

    /// Begins to listen. No event from then on is missed.
    ///
    /// # Errors
    ///
    /// With exit code 6 if the source does not exist here, with 1 if the system refuses it.
    pub fn open(self) -> Result<Box<dyn Source>, Failure> {
        match self {
            Self::Auto => {
                // eBPF reports nothing that netlink does not, requires root, and is not always available.
                tracing::info!(
                    "the source is netlink: it reports all that eBPF does, and requires neither root nor BTF"
                );
                netlink()
            }
            Self::Netlink => netlink(),
            Self::Bpf => bpf(),
        }
    }
}

fn netlink() -> Result<Box<dyn Source>, Failure> {
    let netlink =
        Netlink::open().map_err(|error| failed(format!("cannot listen to the kernel's device events: {error}")))?;
    Ok(Box::new(netlink))
}

#[cfg(feature = "bpf")]
fn bpf() -> Result<Box<dyn Source>, Failure> {
    let hints = crate::bpf::hints::Hints::open()
        .map_err(|unavailable| Failure::new(ExitStatus::Unsupported, unavailable.to_string()))?;
    Ok(Box::new(hints))
}

#[cfg(not(feature = "bpf"))]
fn bpf() -> Result<Box<dyn Source>, Failure> {
    Err(Failure::new(ExitStatus::Unsupported, super::NO_BPF))
}
