//! How the tool ends that met an error of the library, and what to do about it on its command line.

use crate::plan::Refusal;
use crate::target::Error;
use crate::{fsdax, init, layout, partition, remove, repair, resize, restore};
use std::borrow::Cow;
use std::fmt;
use xen_pmem_cli::exit::{ExitStatus, Exits};
use xen_pmem_format::superblock::COPY_SIZE;
use xen_pmem_format::units::Bytes;
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
            Self::Open(_) | Self::Claim(_) | Self::Placement(_) | Self::Guests(_) | Self::Io { .. } => {
                ExitStatus::Failed
            }
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

/// Returns the status without the advice, which takes the target: [`Refused`] has both.
fn status_of(refusal: &Refusal) -> ExitStatus {
    match refusal {
        Refusal::Io(_) => ExitStatus::Failed,
        _ => ExitStatus::Refused,
    }
}

/// A refusal, about a target.
#[derive(Debug)]
pub(super) struct Refused<'r> {
    pub(super) refusal: &'r Refusal,
    /// The target, as the command line names it.
    pub(super) target: &'r str,
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(f)
    }
}

impl Exits for Refused<'_> {
    fn exit_status(&self) -> ExitStatus {
        status_of(self.refusal)
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        let target = self.target;
        match self.refusal {
            Refusal::Newer { offset, .. } => {
                let page = u64::try_from(COPY_SIZE).ok().and_then(|size| offset.0.checked_div(size));
                Some(
                    format!(
                        "; use that version; to give up what this copy says, overwrite it: dd if=/dev/zero of={target} bs={COPY_SIZE} seek={} count=1 conv=notrunc",
                        page.unwrap_or_default()
                    )
                    .into(),
                )
            }
            Refusal::Foreign(_) => {
                Some("; if that may be lost, say --force: what is overwritten is saved first".into())
            }
            Refusal::Occupied(_) => Some("; if that may be lost, say --force".into()),
            Refusal::Partition { .. } | Refusal::Table { .. } => Some(
                format!(
                    "; if the primary table is the right one, write it to both places: sfdisk --dump {target} >table && sfdisk --no-reread {target} <table; then try again, or prepare it anew, which gives up all partitions: xen-pmem-provision init --force {target}"
                )
                .into(),
            ),
            Refusal::Outside { .. } | Refusal::Outcome(_) => Some(
                format!(
                    "; save what is there (xen-pmem-provision backup {target} FILE) and prepare it anew, which gives up all partitions: xen-pmem-provision init --force {target}"
                )
                .into(),
            ),
            Refusal::Io(_) => None,
        }
    }
}

fn intended_reserve(need: Bytes) -> Cow<'static, str> {
    format!("; try --reserve {}M", need.0 >> 20).into()
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
            Self::ReserveTooSmall { need, .. } => Some(intended_reserve(*need)),
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
            Self::Refused(refusal) => status_of(refusal),
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
            Self::Refused(refusal) => status_of(refusal),
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
            Self::Refused(refusal) => status_of(refusal),
            Self::Io(_) | Self::Commit(_) => ExitStatus::Failed,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::SequenceEnd => Some("; prepare the device anew, which gives up its partitions (init --force)".into()),
            Self::TooSmall { need, .. } => Some(intended_reserve(*need)),
            _ => None,
        }
    }
}

impl Exits for restore::Error {
    fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Size { .. } | Self::Replaces(_) | Self::NoReservation(_) | Self::Unfit(_) => ExitStatus::Refused,
            Self::Refused(refusal) => status_of(refusal),
            _ => ExitStatus::Failed,
        }
    }

    fn advice(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Replaces(_) => Some("; if that may be lost, say --force".into()),
            Self::NoReservation(_) => Some("; to put its bytes back as they are, say --force".into()),
            _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::Traces;
    use uuid::Uuid;
    use xen_pmem_format::superblock::Which;
    use xen_pmem_format::units::{DeviceOffset, DeviceRange};

    #[test]
    fn a_refusal_tells_what_to_do_about_the_target() {
        let traces = || Traces(Vec::new());
        let range = DeviceRange::clamped(DeviceOffset(0), Bytes(4096));
        let what = || "a step".to_owned();
        let table: [(Refusal, &str); 5] = [
            (
                Refusal::Newer {
                    which: Which::Primary,
                    offset: DeviceOffset(0x10_0000),
                    why: "version 2".to_owned(),
                },
                "this version must not change anything here; use that version; to give up what this copy says, overwrite it: \
                dd if=/dev/zero of=/dev/pmem0 bs=4096 seek=256 count=1 conv=notrunc",
            ),
            (
                Refusal::Foreign(traces()),
                "; if that may be lost, say --force: what is overwritten is saved first",
            ),
            (
                Refusal::Outside { what: what(), range },
                "where neither a partition table nor a super block belongs; save what is there (xen-pmem-provision backup /dev/pmem0 \
                FILE) and prepare it anew, which gives up all partitions: xen-pmem-provision init --force /dev/pmem0",
            ),
            (
                Refusal::Table {
                    what: what(),
                    table: xen_pmem_format::table::Place::Primary,
                    range,
                },
                "; if the primary table is the right one, write it to both places: sfdisk --dump /dev/pmem0 >table && sfdisk \
                --no-reread /dev/pmem0 <table; then try again, or prepare it anew, which gives up all partitions: \
                xen-pmem-provision init --force /dev/pmem0",
            ),
            (
                Refusal::Outcome("it is damaged".to_owned()),
                "the change would have the wrong result: it is damaged; save what is there (xen-pmem-provision backup /dev/pmem0 FILE) and prepare it anew, which \
                gives up all partitions: xen-pmem-provision init --force /dev/pmem0",
            ),
        ];
        for (refusal, end) in table {
            let refused = Refused {
                refusal: &refusal,
                target: "/dev/pmem0",
            };
            assert!(refused.told().ends_with(end), "{}", refused.told());
            assert_eq!(refused.exit_status(), ExitStatus::Refused);
        }
    }

    #[test]
    fn errors_tell_the_flags_that_help() {
        let (asked, need) = (Bytes(2 << 20), Bytes(8 << 20));
        let uuid = Uuid::nil();
        let table: [(String, String); 6] = [
            (
                init::Error::Prepared(uuid).told(),
                format!(
                    "it is prepared already, as reservation {uuid}: see `show`; if its table and its partitions may be lost, say --force"
                ),
            ),
            (
                init::Error::from(layout::Error::ReserveTooSmall {
                    asked,
                    need,
                    namespace: Bytes(1 << 30),
                })
                .told(),
                "2 MiB is too small: Xen needs 8 MiB to manage 1 GiB; try --reserve 8M"
                    .to_owned(),
            ),
            (
                resize::Error::TooSmall { asked, need }.told(),
                "2 MiB is too small: Xen needs 8 MiB here; try --reserve 8M".to_owned(),
            ),
            (
                resize::Error::SequenceEnd.told(),
                format!(
                    "the super block's sequence number is {}, the last that there is: no change can follow it; prepare the device anew, \
                    which gives up its partitions (init --force)",
                    u64::MAX
                ),
            ),
            (
                restore::Error::Replaces("a table".to_owned()).told(),
                "there is a table, which the backup would replace; if that may be lost, say --force".to_owned(),
            ),
            (
                restore::Error::NoReservation("no table".to_owned()).told(),
                "the backup does not contain a whole reservation (no table); to put its bytes back as they are, say --force"
                    .to_owned(),
            ),
        ];
        for (told, expected) in table {
            assert_eq!(told, expected);
        }
    }
}
