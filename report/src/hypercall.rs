//! The hypercall: the sink that is the hypervisor itself.

pub mod abi;
mod hypfs;
mod privcmd;

pub use privcmd::Privcmd;

use crate::report::Report;
use crate::sink::{Error, Outcome, Receipt, Verdict};
use abi::{Operations, Region, Request};
use anyhow::{Context as _, anyhow};
use core::ffi::CStr;
use rustix::io::Errno;
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
/// It is sent an operation only after it has said that it has them: to a hypervisor without the project's patches the numbers of the
/// operations may mean something else.
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
    pub fn open() -> anyhow::Result<Self> {
        Ok(Self::new(Privcmd::open()?))
    }
}

impl<T: Transport> Hypercall<T> {
    /// The hypervisor as `transport` reaches it.
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            operations: None,
        }
    }
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

/// What a report is about, for messages.
fn subject(report: &Report) -> String {
    format!("reservation {} of {}", report.uuid(), report.device())
}

/// What to do about a report that comes when the memory is in use already.
fn too_late(report: &Report) -> &'static str {
    match report.mode() {
        Mode::Raw => {
            "if its driver is bound, report before it binds (`apply --early`), or unmount what is on it and run `apply --rebind`"
        }
        _ => {
            "if its driver is bound, this boot is too late, as a PV Dom0 cannot unbind fsdax without damage to its kernel: report before nd_pmem binds (`apply --early` in the initramfs)"
        }
    }
}

impl<T: Transport> Hypercall<T> {
    /// The operations, if the hypervisor says that it has them.
    fn operations(&mut self) -> anyhow::Result<Option<Operations>> {
        if self.operations.is_none() {
            let node = abi::NODE.to_string_lossy();
            let version = self
                .transport
                .number(abi::NODE)
                .with_context(|| format!("cannot ask the hypervisor for {node}"))?;
            let Some(version) = version else {
                return Ok(None);
            };
            let operations = Operations::of(version).with_context(|| {
                format!(
                    "the hypervisor has version {version} of the pmem operations ({node}), and these tools know version {}: \
                    install tools and hypervisor of the same release",
                    abi::VERSION
                )
            })?;
            self.operations = Some(operations);
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

    /// All ranges that the hypervisor knows, in the order in which they were reported; `None` if it has no pmem support.
    ///
    /// # Errors
    ///
    /// If it does not answer, or with what makes no sense.
    pub fn registered(&mut self) -> anyhow::Result<Option<Vec<Registered>>> {
        let Some(operations) = self.operations()? else {
            return Ok(None);
        };
        let mut all = Vec::new();
        for index in 0.. {
            let mut request = operations.to_get(index);
            match self.transport.platform_op(&mut request) {
                Ok(()) => all.push(
                    Registered::from_answer(request.answer())
                        .with_context(|| format!("the hypervisor's range {index} makes no sense"))?,
                ),
                Err(Errno::NOENT) => break,
                Err(errno) => {
                    return Err(anyhow!("cannot ask the hypervisor for its range {index}: {errno}"));
                }
            }
        }
        Ok(Some(all))
    }

    /// Asks whether the hypervisor would take a report, and how much of the reserved area it would use; changes nothing.
    ///
    /// # Errors
    ///
    /// What keeps it from taking the report.
    pub fn ask(&mut self, report: &Report) -> Result<Receipt, Error> {
        self.send(report, Region::dry_run, Outcome::Possible, Region::frames_needed)
    }

    /// Makes a report known. Doing it twice changes nothing. There is no taking back: Xen's structures live in the reserved area until
    /// the next boot.
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
                verdict: Some(Verdict::Unsupported),
            });
        };
        let mut request = operations.to_add(change(region(report)?));
        let answer = self.when_free(&mut request);
        let registered = |outcome, frames: u64| {
            let used = FrameRange::bytes_of(frames)
                .with_context(|| format!("{}: the hypervisor's answer makes no sense", subject(report)))?;
            Ok(Receipt {
                outcome,
                verdict: Some(Verdict::Registered { used }),
            })
        };
        match answer {
            Ok(()) => registered(success, frames(request.answer())),
            Err(Errno::EXIST) => registered(Outcome::Unchanged, request.answer().frames_used()),
            Err(Errno::BUSY) => Err(Error::InUse(format!(
                "{}: the hypervisor knows some of these frames as something else, or the reserved area is mapped writable (`xl dmesg` has the reason); {}",
                subject(report),
                too_late(report)
            ))),
            Err(errno) => Err(anyhow!("{}: {}", subject(report), refusal(report, &request, errno)).into()),
        }
    }
}

/// A report in frames.
fn region(report: &Report) -> anyhow::Result<Region> {
    let whole = |name, range| {
        FrameRange::of(range)
            .with_context(|| format!("{}: its {name} {range} is not made of whole pages", subject(report)))
    };
    let range = whole("range", report.range())?;
    Ok(Region::new(range, whole("reserved area", report.reserved())?))
}

/// What an errno of the operation means.
fn refusal(report: &Report, request: &Request, errno: Errno) -> String {
    match errno {
        Errno::NOSPC => format!(
            "the hypervisor needs {}, and {} are reserved: enlarge the reservation (`xen-pmem-provision resize --reserve`)",
            FrameRange::bytes_of(request.answer().frames_needed()).unwrap_or(Bytes(u64::MAX)),
            report.reserved().size()
        ),
        Errno::RANGE => {
            "for the hypervisor this is not sound persistent memory of the firmware's NFIT; `xl dmesg` has the reason \
            (NVDIMMs that were plugged in need Xen booted with `pmem=hotplug`)"
                .to_owned()
        }
        Errno::PERM | Errno::ACCESS => {
            "the hypervisor does not allow this domain to report persistent memory".to_owned()
        }
        errno => format!("the hypervisor refused it ({errno}); `xl dmesg` has the reason"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::device;
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

    /// A hypervisor that gives one answer and keeps what it was asked.
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

    /// A hypervisor that works on another report for so many requests.
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
                let told = format!("{:#}", listed.unwrap_err());
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
                (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
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
