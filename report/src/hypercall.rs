//! The hypercall: the sink that is the hypervisor itself.

pub mod abi;
mod hypfs;
mod privcmd;

pub use privcmd::Privcmd;

use crate::report::Report;
use crate::sink::{Outcome, Receipt, Registration};
use abi::{Operations, Region, Request};
use core::ffi::CStr;
use rustix::io::Errno;
use std::io;
use std::time::Duration;
use xen_pmem_discover::document::Mode;
use xen_pmem_format::units::{Bytes, FrameRange, PhysRange};

/// What carries hypercalls to Xen: `/dev/xen/privcmd` in earnest.
pub trait Transport {
    /// Reads an unsigned integer from Xen's file system. `None` if Xen has no such file system, or no such node in it.
    ///
    /// # Errors
    ///
    /// The errno with which Xen, or the kernel before it, answers; `EPROTO` if the node holds something else.
    fn number(&mut self, path: &CStr) -> Result<Option<u32>, Errno>;

    /// Hands `request` to Xen, which may write its answer into it.
    ///
    /// # Errors
    ///
    /// The errno with which Xen, or the kernel before it, answers.
    fn platform_op(&mut self, request: &mut Request) -> Result<(), Errno>;
}

/// The hypervisor behind a transport.
///
/// It receives an operation only after it has said that it has the operations: to a hypervisor without the project's patches their numbers
/// may mean something else.
pub struct Hypercall<T> {
    transport: T,
    /// What the hypervisor has said.
    operations: Option<Operations>,
}

impl Hypercall<Privcmd> {
    /// Opens the kernel's way to the hypervisor.
    ///
    /// # Errors
    ///
    /// If the devices are not there or may not be used.
    pub fn open() -> Result<Self, Error> {
        Ok(Self::new(Privcmd::open()?))
    }
}

impl<T: Transport> Hypercall<T> {
    /// Returns the hypervisor as `transport` reaches it.
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            operations: None,
        }
    }
}

/// Why the hypervisor was not asked, or did not take a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device of the kernel cannot be opened.
    #[error(
        "cannot open {path}, the way to the hypervisor: is the module xen-privcmd loaded, and are you root?: {error}"
    )]
    Open {
        /// The device.
        path: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
    /// A page of such a device cannot be mapped.
    #[error("cannot map a page of {path}: {error}")]
    Map {
        /// The device.
        path: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
    /// The hypervisor does not say which operations it has.
    #[error("cannot ask the hypervisor for {node}: {0}", node = abi::NODE.to_string_lossy())]
    Version(Errno),
    /// The hypervisor has operations of this version, which this program does not know.
    #[error(
        "the hypervisor has version {0} of the pmem operations ({node}), and these tools know version {known}: \
        install tools and hypervisor of the same release",
        node = abi::NODE.to_string_lossy(),
        known = abi::VERSION
    )]
    OtherVersion(u32),
    /// The hypervisor does not say which operations it has.
    #[error("cannot ask the hypervisor for its range {index}: {errno}")]
    Range {
        /// Which range, counted from 0 in the order of the reports.
        index: u32,
        /// Its answer.
        errno: Errno,
    },
    /// What the hypervisor says of its range with this index makes no sense.
    #[error("the hypervisor's range {0} makes no sense")]
    NoRange(u32),
    /// It did not take a report.
    #[error("{subject}: {reason}")]
    Untaken {
        /// The report's reservation and device.
        subject: String,
        /// Why.
        reason: Untaken,
    },
}

/// Why the hypervisor did not take a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Untaken {
    /// The memory, of a namespace in this mode, is in use.
    #[error(
        "the hypervisor knows some of these frames as something else, or the reserved area is mapped writable (`xl dmesg` has the reason)"
    )]
    InUse(Mode),
    /// Its structures take more than is reserved.
    #[error("the hypervisor needs {needed}, and {reserved} are reserved")]
    TooSmall {
        /// How much they take.
        needed: Bytes,
        /// How much is reserved.
        reserved: Bytes,
    },
    /// The range is not, or not as a whole, sound persistent memory that the firmware describes.
    #[error(
        "for the hypervisor this is not sound persistent memory that the firmware describes; `xl dmesg` has the reason \
        (NVDIMMs that were plugged in need Xen booted with `pmem=hotplug`, CXL memory needs `pmem=cxl`)"
    )]
    NotOfTheFirmware,
    /// This domain may not report.
    #[error("the hypervisor does not allow this domain to report persistent memory")]
    NotAllowed,
    /// Anything else.
    #[error("the hypervisor refused it ({0}); `xl dmesg` has the reason")]
    Other(Errno),
    /// It was not asked: a range is not made of whole frames.
    #[error("its {name} {range} is not made of whole pages")]
    NotWholePages {
        /// What the range is.
        name: &'static str,
        /// The range.
        range: PhysRange,
    },
    /// It has taken the report, and says of it what makes no sense.
    #[error("the hypervisor's answer makes no sense")]
    Answer,
}

/// How often, and how far apart, a hypervisor is asked again that works on another report: 64 GiB take it a few seconds.
const TRIES: u32 = 600;
const PAUSE: Duration = Duration::from_millis(50);

/// A range that the hypervisor knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The whole range.
    pub range: PhysRange,
    /// What of it is the hypervisor's.
    pub reserved: PhysRange,
    /// How much of that is in use.
    pub used: Bytes,
}

/// What the hypervisor is called in documents and messages.
pub const NAME: &str = "hypercall";

impl Registered {
    fn from_answer(region: &Region) -> Option<Self> {
        Some(Self {
            range: region.range()?.addresses()?,
            reserved: region.reserved()?.addresses()?,
            used: FrameRange::bytes_of(region.frames_used())?,
        })
    }
}

/// Returns what a report is about, for messages.
fn subject(report: &Report) -> String {
    format!("reservation {} of {}", report.uuid(), report.device())
}

impl<T: Transport> Hypercall<T> {
    /// Returns the operations, if the hypervisor says that it has them.
    fn operations(&mut self) -> Result<Option<Operations>, Error> {
        if self.operations.is_none() {
            let Some(version) = self.transport.number(abi::NODE).map_err(Error::Version)? else {
                return Ok(None);
            };
            self.operations = Some(Operations::of(version).ok_or(Error::OtherVersion(version))?);
        }
        Ok(self.operations)
    }

    /// Sends a request, again if need be until no other report is being worked on.
    fn when_free(&mut self, request: &mut Request) -> Result<(), Errno> {
        let mut answer = self.transport.platform_op(request);
        for _ in 0..TRIES {
            if answer != Err(Errno::AGAIN) {
                break;
            }
            std::thread::sleep(PAUSE);
            answer = self.transport.platform_op(request);
        }
        answer
    }

    /// Returns all ranges that the hypervisor knows, in the order in which they were reported; `None` if it has no pmem support.
    ///
    /// # Errors
    ///
    /// If it does not answer, or with what makes no sense.
    pub fn registered(&mut self) -> Result<Option<Vec<Registered>>, Error> {
        let Some(operations) = self.operations()? else {
            return Ok(None);
        };
        let mut all = Vec::new();
        for index in 0.. {
            let mut request = operations.to_get(index);
            match self.transport.platform_op(&mut request) {
                Ok(()) => all.push(Registered::from_answer(request.answer()).ok_or(Error::NoRange(index))?),
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(Error::Range { index, errno }),
            }
        }
        Ok(Some(all))
    }

    /// Returns whether the hypervisor gives guests partitions as memory.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn maps_into_guests(&mut self) -> Result<bool, Error> {
        let (node, value) = abi::GUESTS;
        Ok(self.transport.number(node).map_err(Error::Version)? == Some(value))
    }

    /// Asks whether the hypervisor would take a report, and how much of the reserved area it would use; changes nothing.
    ///
    /// # Errors
    ///
    /// What keeps it from taking the report.
    pub fn ask(&mut self, report: &Report) -> Result<Receipt, Error> {
        self.send(report, Region::dry_run, Outcome::Possible, Region::frames_needed)
    }

    /// Reports a device. A second report of it changes nothing. A report cannot be withdrawn: Xen's structures live in the reserved area
    /// until the next boot.
    ///
    /// # Errors
    ///
    /// What keeps it from taking the report.
    pub fn publish(&mut self, report: &Report) -> Result<Receipt, Error> {
        self.send(report, |region| region, Outcome::Published, Region::frames_used)
    }

    fn send(
        &mut self,
        report: &Report,
        change: fn(Region) -> Region,
        success: Outcome,
        frames: fn(&Region) -> u64,
    ) -> Result<Receipt, Error> {
        let Some(operations) = self.operations()? else {
            return Ok(Receipt {
                outcome: Outcome::Unsupported,
                verdict: Some(Registration::Unsupported),
            });
        };
        let untaken = |reason| Error::Untaken {
            subject: subject(report),
            reason,
        };
        let mut request = operations.to_add(change(region(report).map_err(untaken)?));
        let answer = self.when_free(&mut request);
        let registered = |outcome, frames: u64| {
            let used = FrameRange::bytes_of(frames).ok_or_else(|| untaken(Untaken::Answer))?;
            Ok(Receipt {
                outcome,
                verdict: Some(Registration::Registered { used }),
            })
        };
        match answer {
            Ok(()) => registered(success, frames(request.answer())),
            Err(Errno::EXIST) => registered(Outcome::Unchanged, request.answer().frames_used()),
            Err(errno) => Err(untaken(refusal(report, &request, errno))),
        }
    }
}

/// Returns a report in frames.
fn region(report: &Report) -> Result<Region, Untaken> {
    let whole = |name, range| FrameRange::of(range).ok_or(Untaken::NotWholePages { name, range });
    let range = whole("range", report.range())?;
    Ok(Region::new(range, whole("reserved area", report.reserved())?))
}

/// Returns what an errno of the operation means.
fn refusal(report: &Report, request: &Request, errno: Errno) -> Untaken {
    match errno {
        Errno::BUSY => Untaken::InUse(report.mode()),
        Errno::NOSPC => Untaken::TooSmall {
            needed: FrameRange::bytes_of(request.answer().frames_needed()).unwrap_or(Bytes(u64::MAX)),
            reserved: report.reserved().size(),
        },
        Errno::RANGE => Untaken::NotOfTheFirmware,
        Errno::PERM | Errno::ACCESS => Untaken::NotAllowed,
        errno => Untaken::Other(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::device;
    use xen_pmem_cli::exit::Exits as _;
    use xen_pmem_format::units::{Frame, PhysAddr};

    /// What a hypervisor says of its operations.
    type Said = Result<Option<u32>, Errno>;

    const HAS_THEM: Said = Ok(Some(abi::VERSION));

    fn frames(first: u64, end: u64) -> FrameRange {
        FrameRange::new(Frame(first), Frame(end)).unwrap()
    }

    fn operations() -> Operations {
        Operations::of(abi::VERSION).unwrap()
    }

    /// A hypervisor that gives one answer and keeps the requests.
    struct Answer {
        said: Said,
        answer: Result<(), Errno>,
        asked: Vec<Request>,
    }

    impl Answer {
        fn new(answer: Result<(), Errno>) -> Self {
            Self {
                said: HAS_THEM,
                answer,
                asked: Vec::new(),
            }
        }
    }

    impl Transport for &mut Answer {
        fn number(&mut self, path: &CStr) -> Said {
            assert_eq!(path, abi::NODE);
            self.said
        }

        fn platform_op(&mut self, request: &mut Request) -> Result<(), Errno> {
            self.asked.push(*request);
            self.answer
        }
    }

    /// A hypervisor that is busy with another report for a number of requests.
    struct Busy(u32);

    impl Transport for &mut Busy {
        fn number(&mut self, _: &CStr) -> Said {
            HAS_THEM
        }

        fn platform_op(&mut self, _: &mut Request) -> Result<(), Errno> {
            match self.0.checked_sub(1) {
                None => Ok(()),
                Some(left) => {
                    self.0 = left;
                    Err(Errno::AGAIN)
                }
            }
        }
    }

    #[test]
    fn nothing_is_sent_to_a_hypervisor_that_has_not_said_that_it_has_the_operations() {
        let report = Report::of(&device()).unwrap();
        for (said, lacks_them) in [
            (Ok(None), true),
            (Ok(Some(0)), false),
            (Ok(Some(abi::VERSION + 1)), false),
            (Ok(Some(u32::MAX)), false),
            (Err(Errno::PERM), false),
            (Err(Errno::FAULT), false),
        ] {
            let mut hypervisor = Answer {
                said,
                ..Answer::new(Ok(()))
            };
            let mut hypercall = Hypercall::new(&mut hypervisor);
            let listed = hypercall.registered();
            let receipts = [hypercall.ask(&report), hypercall.publish(&report)];
            if lacks_them {
                assert_eq!(listed.unwrap(), None);
                for receipt in receipts {
                    assert_eq!(receipt.unwrap().outcome, Outcome::Unsupported);
                }
            } else {
                let told = listed.unwrap_err().to_string();
                assert!(told.contains("/pmem/abi"), "{told}");
                for receipt in receipts {
                    assert_eq!(receipt.unwrap_err().to_string(), told);
                }
            }
            assert_eq!(hypervisor.asked, [], "{said:?}");
        }
    }

    #[test]
    fn a_busy_hypervisor_is_asked_again() {
        let mut hypervisor = Busy(3);
        let receipt = Hypercall::new(&mut hypervisor).publish(&Report::of(&device()).unwrap());
        assert_eq!(receipt.unwrap().outcome, Outcome::Published);
        assert_eq!(hypervisor.0, 0);
    }

    #[test]
    fn each_errno_has_its_meaning() {
        let report = Report::of(&device()).unwrap();
        for (answer, meaning) in [
            (Ok(()), Ok(Outcome::Published)),
            (Err(Errno::EXIST), Ok(Outcome::Unchanged)),
            (Err(Errno::NOSYS), Err("xl dmesg")),
            (Err(Errno::NOSPC), Err("6 MiB are reserved")),
            (Err(Errno::BUSY), Err("this boot is too late")),
            (Err(Errno::RANGE), Err("pmem=hotplug")),
            (Err(Errno::PERM), Err("does not allow")),
            (Err(Errno::INVAL), Err("xl dmesg")),
        ] {
            let mut hypervisor = Answer::new(answer);
            let result = Hypercall::new(&mut hypervisor).publish(&report);
            match (result, meaning) {
                (Ok(receipt), Ok(expected)) => assert_eq!(receipt.outcome, expected),
                (Err(error), Err(word)) => assert!(error.told().contains(word), "{}", error.told()),
                (result, meaning) => panic!("{answer:?}: {result:?}, not {meaning:?}"),
            }
            let expected = operations().to_add(Region::new(frames(0x10_0000, 0x12_0000), frames(0x10_0400, 0x10_0a00)));
            assert_eq!(
                hypervisor.asked,
                [expected],
                "frames of the namespace and of the reserved area, once"
            );
        }
    }

    /// A hypervisor that knows these ranges.
    struct Knows(Vec<Region>);

    impl Transport for &Knows {
        fn number(&mut self, _: &CStr) -> Said {
            HAS_THEM
        }

        fn platform_op(&mut self, request: &mut Request) -> Result<(), Errno> {
            for (index, region) in (0..).zip(&self.0) {
                if *request == operations().to_get(index) {
                    *request = operations().to_add(*region);
                    return Ok(());
                }
            }
            Err(Errno::NOENT)
        }
    }

    #[test]
    fn the_ranges_that_it_knows_are_listed() {
        let regions = vec![
            Region::new(frames(0x10_0000, 0x12_0000), frames(0x10_0400, 0x10_0a00)),
            Region::new(frames(0x20_0000, 0x22_0000), frames(0x20_0400, 0x20_0a00)),
        ];
        let found = Hypercall::new(&Knows(regions)).registered().unwrap().unwrap();
        let expected: Vec<_> = [4u64 << 30, 8 << 30]
            .into_iter()
            .map(|base| {
                let range = |offset, size| PhysRange::new(PhysAddr(base + offset), Bytes(size)).unwrap();
                Registered {
                    range: range(0, 512 << 20),
                    reserved: range(4 << 20, 6 << 20),
                    used: Bytes(0),
                }
            })
            .collect();
        assert_eq!(found, expected);
        let senseless = Knows(vec![Region::new(frames(u64::MAX, u64::MAX), frames(0, 0))]);
        Hypercall::new(&senseless).registered().unwrap_err();
    }
}
