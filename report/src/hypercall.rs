//! The hypercall: the sink that is the hypervisor itself.

pub mod abi;
mod privcmd;

pub use privcmd::Privcmd;

use crate::report::Report;
use crate::sink::{Outcome, Sink};
use abi::{Add, Request};
use anyhow::{Context as _, bail};
use rustix::io::Errno;
use std::time::Duration;
use uuid::Uuid;
use xen_pmem_format::units::{Bytes, PAGE, PhysRange};

/// What carries a platform operation to Xen: `/dev/xen/privcmd` in earnest.
pub trait Transport {
    /// Hands `request` to Xen, which may write its answer into it.
    ///
    /// # Errors
    ///
    /// The errno with which Xen, or the kernel before it, answers.
    fn platform_op(&mut self, request: &mut Request) -> Result<(), Errno>;
}

/// The hypervisor behind a transport.
pub struct Hypercall<T> {
    transport: T,
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
        Self { transport }
    }
}

/// How often, and how far apart, a hypervisor is asked again that works on another report: 64 GiB take it a few seconds.
const TRIES: u32 = 600;
const PAUSE: Duration = Duration::from_millis(50);

/// The frames of a range: first and one past the last. `None` if it is not made of whole frames.
fn frames(range: PhysRange) -> Option<(u64, u64)> {
    let frame = |bytes: u64| {
        Bytes(bytes)
            .is_aligned(PAGE)
            .then(|| bytes.checked_div(PAGE.0))
            .flatten()
    };
    frame(range.base().0).zip(frame(range.end().0))
}

impl<T: Transport> Hypercall<T> {
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
}

impl<T: Transport> Sink for Hypercall<T> {
    fn name(&self) -> &'static str {
        "hypercall"
    }

    fn publish(&mut self, report: &Report) -> anyhow::Result<Outcome> {
        let what = || format!("reservation {} of {}", report.uuid(), report.device());
        let range = frames(report.range())
            .with_context(|| format!("{}: its range {} is not made of whole pages", what(), report.range()))?;
        let reserved = frames(report.reserved()).with_context(|| {
            format!(
                "{}: its reserved area {} is not made of whole pages",
                what(),
                report.reserved()
            )
        })?;
        let mut request = Request::add(Add::new(range, reserved));
        match self.when_free(&mut request) {
            Ok(()) => Ok(Outcome::Published),
            Err(Errno::EXIST) => Ok(Outcome::Unchanged),
            // What a hypervisor without the operation answers.
            Err(Errno::NOSYS) => Ok(Outcome::Unsupported),
            Err(Errno::NOSPC) => {
                let need = Bytes(request.answer().frames_needed().saturating_mul(PAGE.0));
                bail!(
                    "{}: the hypervisor needs {need}, and {} are reserved: enlarge the reservation",
                    what(),
                    report.reserved().size()
                )
            }
            Err(Errno::BUSY) => bail!(
                "{}: the hypervisor knows some of these frames as something else, or the reserved area is mapped writable; `xl dmesg` has the reason",
                what()
            ),
            Err(Errno::OPNOTSUPP) => {
                bail!(
                    "{}: the hypervisor speaks another version of this hypercall than {}",
                    what(),
                    abi::VERSION
                )
            }
            Err(Errno::PERM | Errno::ACCESS) => {
                bail!(
                    "{}: the hypervisor does not allow this domain to report persistent memory",
                    what()
                )
            }
            Err(errno) => bail!(
                "{}: the hypervisor refused it ({errno}); `xl dmesg` has the reason",
                what()
            ),
        }
    }

    /// There is no taking back: Xen's structures live in the reserved area until the next boot.
    fn withdraw(&mut self, _: Uuid) -> anyhow::Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::device;

    /// A hypervisor that gives one answer and keeps what it was asked.
    struct Answer(Result<(), Errno>, Vec<Request>);

    impl Transport for &mut Answer {
        fn platform_op(&mut self, request: &mut Request) -> Result<(), Errno> {
            self.1.push(*request);
            self.0
        }
    }

    /// A hypervisor that works on another report for so many requests.
    struct Busy(u32);

    impl Transport for &mut Busy {
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
    fn a_busy_hypervisor_is_asked_again() {
        let mut hypervisor = Busy(3);
        let outcome = Hypercall::new(&mut hypervisor).publish(&Report::of(&device()).unwrap());
        assert_eq!(outcome.unwrap(), Outcome::Published);
        assert_eq!(hypervisor.0, 0);
    }

    #[test]
    fn each_errno_has_its_meaning() {
        let report = Report::of(&device()).unwrap();
        for (answer, meaning) in [
            (Ok(()), Ok(Outcome::Published)),
            (Err(Errno::EXIST), Ok(Outcome::Unchanged)),
            (Err(Errno::NOSYS), Ok(Outcome::Unsupported)),
            (Err(Errno::NOSPC), Err("6 MiB are reserved")),
            (Err(Errno::BUSY), Err("as something else")),
            (Err(Errno::OPNOTSUPP), Err("another version")),
            (Err(Errno::PERM), Err("does not allow")),
            (Err(Errno::INVAL), Err("xl dmesg")),
        ] {
            let mut hypervisor = Answer(answer, Vec::new());
            let result = Hypercall::new(&mut hypervisor).publish(&report);
            match (result, meaning) {
                (Ok(outcome), Ok(expected)) => assert_eq!(outcome, expected),
                (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
                (result, meaning) => panic!("{answer:?}: {result:?}, not {meaning:?}"),
            }
            let expected = Request::add(Add::new((0x10_0000, 0x12_0000), (0x10_0400, 0x10_0a00)));
            assert_eq!(
                hypervisor.1,
                [expected],
                "frames of the namespace and of the reserved area, once"
            );
        }
    }
}
