//! How the tool ends that met an error of the libraries, and what to do about it on its command line.

use crate::guest::{dm, partition};
use crate::host::Unfit;
use crate::hypercall::{self, Untaken};
use crate::report::Refusal;
use crate::{turn, xenstore};
use std::borrow::Cow;
use xen_pmem_cli::exit::{ExitStatus, Exits};
use xen_pmem_discover::document::{Mode, State};
use xen_pmem_nvdimm::claim;

impl Exits for Unfit {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Io { .. } | Self::Sysfs(_) => ExitStatus::Failed,
            Self::NotXen(_) | Self::NotDom0 | Self::Pvh => ExitStatus::Unsupported,
        }
    }
}

impl Exits for turn::Error {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Failed
    }
}

impl Exits for xenstore::Error {
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Failed
    }
}

impl Exits for hypercall::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Untaken {
                reason: Untaken::InUse(_),
                ..
            } => ExitStatus::Refused,
            _ => ExitStatus::Failed,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        let Self::Untaken { reason, .. } = self else {
            return None;
        };
        let advice = match reason {
            Untaken::InUse(Mode::Raw) => {
                "; if its driver is bound, report before it binds (`apply --early`), or unmount what is on it and run `apply --rebind`"
            }
            Untaken::InUse(_) => {
                "; if its driver is bound, this boot is too late, as a PV Dom0 cannot unbind fsdax without damage to its kernel: \
                 report before nd_pmem binds (`apply --early` in the initramfs)"
            }
            Untaken::TooSmall { .. } => ": enlarge the reservation (`xen-pmem-provision resize --reserve`)",
            _ => return None,
        };
        Some(advice.into())
    }
}

impl Exits for Refusal {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::NotPrepared {
                state: State::Damaged, ..
            } => ExitStatus::Damaged,
            Self::NotPrepared { .. } => ExitStatus::NothingPrepared,
            _ => ExitStatus::Refused,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::SameUuid { .. } => Some("; give one a new UUID with `xen-pmem-provision init --force`".into()),
            Self::Contradicts { .. } => Some(": withdraw that one first, or report without --from".into()),
            _ => None,
        }
    }
}

impl Exits for partition::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::NotAPartition => ExitStatus::Usage,
            Self::ReadOnly(_) | Self::Use(claim::Error::InUse(_)) => ExitStatus::Refused,
            _ => ExitStatus::Failed,
        }
    }
}

impl Exits for dm::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Claimed | Self::InUse => ExitStatus::Refused,
            Self::NotClaimed => ExitStatus::NothingPrepared,
            _ => ExitStatus::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;
    use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};

    #[test]
    fn advice_makes_one_sentence_with_what_happened() {
        let untaken = |reason| hypercall::Error::Untaken {
            subject: "reservation 1 of /dev/pmem0".to_owned(),
            reason,
        };
        let in_use = "reservation 1 of /dev/pmem0: the hypervisor knows some of these frames as something else, or the reserved area is \
            mapped writable (`xl dmesg` has the reason); if its driver is bound, ";
        let range = PhysRange::new(PhysAddr(0), Bytes(4096)).unwrap();
        let uuid = Uuid::nil();
        let of_report: [(Refusal, String); 2] = [
            (
                Refusal::SameUuid {
                    uuid,
                    other: "/dev/pmem1".to_owned(),
                },
                format!(
                    "/dev/pmem1 has the same reservation UUID {uuid}: a copied disk? Neither is reported; give one a new UUID with \
                    `xen-pmem-provision init --force`"
                ),
            ),
            (
                Refusal::Contradicts {
                    published: "other".to_owned(),
                    range,
                },
                format!(
                    "XenStore has a report of the reservation other on {range}, which this one contradicts, and the device itself was \
                    not looked at: withdraw that one first, or report without --from"
                ),
            ),
        ];
        for (refusal, told) in of_report {
            assert_eq!((refusal.told(), refusal.exit_status()), (told, ExitStatus::Refused));
        }
        let table = [
            (
                Untaken::InUse(Mode::Raw),
                ExitStatus::Refused,
                format!(
                    "{in_use}report before it binds (`apply --early`), or unmount what is on it and run `apply --rebind`"
                ),
            ),
            (
                Untaken::InUse(Mode::Fsdax),
                ExitStatus::Refused,
                format!(
                    "{in_use}this boot is too late, as a PV Dom0 cannot unbind fsdax without damage to its kernel: report before \
                    nd_pmem binds (`apply --early` in the initramfs)"
                ),
            ),
            (
                Untaken::TooSmall {
                    needed: Bytes(8 << 20),
                    reserved: Bytes(6 << 20),
                },
                ExitStatus::Failed,
                "reservation 1 of /dev/pmem0: the hypervisor needs 8 MiB, and 6 MiB are reserved: enlarge the reservation \
                (`xen-pmem-provision resize --reserve`)"
                    .to_owned(),
            ),
        ];
        for (reason, status, told) in table {
            let error = untaken(reason);
            assert_eq!((error.told(), error.exit_status()), (told, status));
        }
    }
}
