//! From the kernel's event to what XenStore says of it.

use super::nanoseconds;
use super::uevents::Uevents;
use super::xenstored::Node;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long everything may take to come to rest before it begins.
const REST: Duration = Duration::from_secs(1);

/// Makes a disk appear by a command, and returns the time between the kernel's broadcast that it was added and XenStore's node having this
/// value.
///
/// This process should be scheduled before any other, so that both moments are seen when they are.
///
/// # Errors
///
/// If the node has the value already, if the command fails, or if the broadcast or the value does not come in time.
pub fn time(disk: &str, node: &str, value: &str, command: &[String]) -> Result<u64> {
    let store = Node::watch(node)?;
    let has_it = || Ok::<_, anyhow::Error>(store.value()?.as_deref() == Some(value));
    ensure!(!has_it()?, "{node} is {value} before anything has happened");
    std::thread::sleep(REST);
    let uevents = Uevents::open()?;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let deadline = Instant::now() + LIMIT;
    let mut begin = None;
    let time = loop {
        let mut fds = [PollFd::new(&uevents, PollFlags::IN), PollFd::new(&store, PollFlags::IN)];
        let left = deadline.saturating_duration_since(Instant::now());
        poll(&mut fds, Some(&Timespec::try_from(left)?))?;
        let now = Instant::now();
        let [told, written] = fds.map(|fd| !fd.revents().is_empty());
        if told && uevents.tell_of(disk)? && begin.is_none() {
            begin = Some(now);
        }
        if written {
            store.event()?;
            if has_it()? {
                let begin = begin.with_context(|| format!("{node} is {value} before {disk} was added"))?;
                break now - begin;
            }
        }
        if now > deadline {
            bail!(
                "{node} is not {value} within {} s; {disk} was{} added",
                LIMIT.as_secs(),
                if begin.is_some() { "" } else { " not" }
            );
        }
    };
    let status = child.wait()?;
    ensure!(status.success(), "{program} ended with {status}");
    nanoseconds(time)
}
