//! Following devices as they come, change and go.
//!
//! A [`Source`] says when to look; a comparison of the devices with those of the last look ([`changes`]) says what happened. So the events
//! do not depend on the source, and a source may lose something: it says "look" and the next look finds everything.

pub mod changes;
pub mod netlink;
pub mod uevent;
pub mod wait;

use crate::document::Device;
use crate::scan::{self, Failure, Options};
use changes::{Event, Known};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// How soon a device that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a source has noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Something may have changed.
    Look,
    /// The disk of this name has gone, even if one of this name is there again.
    Removed(String),
}

/// Something that notices that devices change.
pub trait Source {
    /// Returns a file descriptor that is readable as soon as there is a hint.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Takes the hints that there are, without waiting. None: nothing that matters here.
    ///
    /// # Errors
    ///
    /// If the source fails. A loss of hints is not an error but a hint.
    fn drain(&mut self) -> io::Result<Vec<Hint>>;
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn fd(&self) -> BorrowedFd<'_> {
        (**self).fd()
    }

    fn drain(&mut self) -> io::Result<Vec<Hint>> {
        (**self).drain()
    }
}

/// Why a monitor cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source has broken.
    #[error("events cannot be received: {0}")]
    Source(io::Error),
    /// Nothing can be listed.
    #[error(transparent)]
    Scan(#[from] scan::Error),
}

/// Follows the devices of a host.
pub struct Monitor<S> {
    options: Options,
    source: S,
    known: Known,
    started: bool,
    /// What could not be read at the last look. It is tried again.
    failures: Vec<Failure>,
}

impl<S: Source> Monitor<S> {
    /// Returns a monitor that has seen nothing yet. The source is open already: what happens from now on is not missed.
    pub fn new(options: Options, source: S) -> Self {
        Self {
            options: Options {
                devices_only: true,
                ..options
            },
            source,
            known: Known::default(),
            started: false,
            failures: Vec::new(),
        }
    }

    /// Returns a file descriptor that is readable as soon as [`look`](Self::look) may have something to report.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.source.fd()
    }

    /// Returns how long to wait at most before looking without being told to.
    pub fn patience(&self) -> Option<Duration> {
        if !self.started {
            Some(Duration::ZERO)
        } else if self.failures.is_empty() {
            None
        } else {
            Some(RETRY)
        }
    }

    /// Returns what has happened since the last look; the first call reports all devices.
    ///
    /// # Errors
    ///
    /// If the source has broken or nothing can be listed.
    pub fn look(&mut self) -> Result<Vec<Event>, Error> {
        let hints = self.source.drain().map_err(Error::Source)?;
        if hints.is_empty() && self.started && self.failures.is_empty() {
            return Ok(Vec::new());
        }
        self.started = true;
        let outcome = scan::scan(&self.options)?;
        let mut events = Vec::new();
        for hint in hints {
            if let Hint::Removed(disk) = hint {
                let node = self.options.nodes.path(&disk);
                events.extend(self.known.remove(&node.display().to_string()));
            }
        }
        let unread: Vec<&str> = outcome.failures.iter().map(|failure| failure.device.as_str()).collect();
        events.extend(self.known.update(outcome.scan.devices, &unread));
        self.failures = outcome.failures;
        Ok(events)
    }

    /// Returns the devices that could not be read at the last look, and why. They count as they were before.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// Returns all devices as they were at the last look.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.known.devices()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use changes::What;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// A source that gives the hints that it was made with.
    struct Told(fs::File, Vec<Vec<Hint>>);

    impl Source for Told {
        fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }

        fn drain(&mut self) -> io::Result<Vec<Hint>> {
            Ok(self.1.pop().unwrap_or_default())
        }
    }

    fn write(directory: &Path, attribute: &str, content: &str) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join(attribute), content).unwrap();
    }

    /// Adds a raw namespace of a mebibyte with an image as its device.
    fn plug(root: &Path, number: u32) {
        let region = root.join(format!("sys/devices/region{number}"));
        let base = format!("{:#x}", (u64::from(number) + 1) << 32);
        let namespace = region.join(format!("namespace{number}.0"));
        for directory in [&region, &namespace] {
            write(directory, "resource", &base);
            write(directory, "size", "1048576");
        }
        let disk = namespace.join(format!("block/pmem{number}"));
        write(&disk, "size", "2048");
        let list = root.join("sys/bus/nd/devices");
        fs::create_dir_all(&list).unwrap();
        symlink(&namespace, list.join(format!("namespace{number}.0"))).unwrap();
        write(&root.join("dev"), &format!("pmem{number}"), &"\0".repeat(1 << 20));
    }

    fn unplug(root: &Path, number: u32) {
        fs::remove_file(root.join(format!("sys/bus/nd/devices/namespace{number}.0"))).unwrap();
    }

    fn told(monitor: &mut Monitor<Told>) -> Vec<(What, String)> {
        let events = monitor.look().unwrap();
        events
            .into_iter()
            .map(|event| {
                let name = event.device.device.rsplit('/').next().unwrap().to_owned();
                (event.what, name)
            })
            .collect()
    }

    #[test]
    fn coldplug_comes_first_and_nothing_is_told_twice() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        plug(root, 0);
        let options = Options {
            sysfs: xen_pmem_nvdimm::sysfs::SysfsRoot::new(root.join("sys")),
            nodes: xen_pmem_nvdimm::node::Nodes::Recorded(root.join("dev")),
            ..Options::default()
        };
        let mut monitor = Monitor::new(options, Told(fs::File::open("/dev/null").unwrap(), Vec::new()));
        assert_eq!(monitor.patience(), Some(Duration::ZERO));
        let pmem0 = |what| (what, "pmem0".to_owned());
        let pmem1 = |what| (what, "pmem1".to_owned());
        assert_eq!(told(&mut monitor), [pmem0(What::Appeared), pmem0(What::Unprepared)]);
        assert_eq!(monitor.patience(), None);
        plug(root, 1);
        assert_eq!(told(&mut monitor), [], "nobody said that anything happened");
        monitor.source.1.push(vec![Hint::Look]);
        assert_eq!(told(&mut monitor), [pmem1(What::Appeared), pmem1(What::Unprepared)]);
        monitor.source.1.push(vec![Hint::Look, Hint::Look]);
        assert_eq!(told(&mut monitor), []);

        // It went and came again before anybody looked.
        monitor
            .source
            .1
            .push(vec![Hint::Removed("pmem0".to_owned()), Hint::Look]);
        let cycle = [pmem0(What::Gone), pmem0(What::Appeared), pmem0(What::Unprepared)];
        assert_eq!(told(&mut monitor), cycle);
        unplug(root, 0);
        monitor.source.1.push(vec![Hint::Removed("pmem0".to_owned())]);
        assert_eq!(told(&mut monitor), [pmem0(What::Gone)]);

        // A node that cannot be read for a moment does not mean that the device has gone.
        let node = root.join("dev/pmem1");
        fs::rename(&node, root.join("dev/away")).unwrap();
        monitor.source.1.push(vec![Hint::Look]);
        assert_eq!(told(&mut monitor), []);
        assert_eq!((monitor.failures().len(), monitor.patience()), (1, Some(RETRY)));
        fs::rename(root.join("dev/away"), &node).unwrap();
        assert_eq!(told(&mut monitor), []);
        assert_eq!((monitor.failures().len(), monitor.patience()), (0, None));
    }
}
