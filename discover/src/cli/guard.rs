//! `guard`: watches what is reserved for Xen.

use clap::Args;
use std::path::PathBuf;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  ended by SIGTERM or SIGINT, or by its reader
  1  something failed: there is no such device, and the like
  2  the command line is wrong
  6  no eBPF here: this build, this kernel or this user has none";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Devices by node or name [default: all that are prepared, whenever they appear]
    #[arg(value_name = "DEVICE")]
    devices: Vec<PathBuf>,
    /// Send SIGKILL to whoever submits a write to a reserved area
    #[arg(long)]
    kill: bool,
}

#[cfg(not(feature = "bpf"))]
pub(crate) fn run(_: &Arguments, _: Flags) -> Result<ExitStatus, Failure> {
    Err(Failure::new(ExitStatus::Unsupported, super::NO_BPF))
}

#[cfg(feature = "bpf")]
pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    watching::run(arguments, flags)
}

#[cfg(feature = "bpf")]
mod line;

#[cfg(feature = "bpf")]
mod watching {
    use super::Arguments;
    use super::line::{Event, Line};
    use crate::bpf::offences::{DiskNumber, Offences};
    use crate::cli::failed;
    use crate::cli::origin::Origin;
    use crate::document::Device;
    use crate::monitor::Monitor;
    use crate::monitor::wait::Stop;
    use crate::scan::{self, Options};
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;
    use std::time::Duration;
    use xen_pmem_cli::exit::{ExitStatus, Exits as _};
    use xen_pmem_cli::{Failure, Flags, Printed};
    use xen_pmem_format::units::DeviceRange;

    /// The interval at which offences without an event are counted.
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
        refuse_unknown(&arguments.devices)?;
        let stop = Stop::catch().map_err(|error| failed(format!("signals cannot be caught: {error}")))?;
        let mut offences = Offences::open(arguments.kill)
            .map_err(|unavailable| Failure::new(ExitStatus::Unsupported, unavailable.to_string()))?;
        let mut monitor = Monitor::new(
            Options {
                devices: arguments.devices.clone(),
                ..Options::default()
            },
            Origin::Netlink.open()?,
        );
        let mut guard = Guard::default();
        loop {
            let events = monitor.look().map_err(|error| failed(error.to_string()))?;
            if !events.is_empty() {
                guard.settle(&mut offences)?;
                guard.follow(monitor.devices(), &mut offences)?;
            }
            guard.settle(&mut offences)?;
            if guard.print(flags)? == Printed::NobodyReads {
                return Ok(ExitStatus::Done);
            }
            let patience = monitor.patience().map_or(INTERVAL, |sooner| sooner.min(INTERVAL));
            let stopped = stop
                .or_readable(&[monitor.fd(), offences.fd()], Some(patience))
                .map_err(|error| failed(format!("cannot wait for events: {error}")))?;
            if stopped {
                guard.settle(&mut offences)?;
                guard.total();
                guard.print(flags)?;
                return Ok(ExitStatus::Done);
            }
        }
    }

    /// Refuses a name that no device has: the program would wait for it in silence.
    fn refuse_unknown(devices: &[PathBuf]) -> Result<(), Failure> {
        if devices.is_empty() {
            return Ok(());
        }
        let options = Options {
            devices: devices.to_vec(),
            ..Options::default()
        };
        let outcome = scan::scan(&options).map_err(|error| Failure::new(error.exit_status(), error.to_string()))?;
        match outcome.failures.first() {
            Some(failure) => Err(Failure::new(
                failure.error.exit_status(),
                format!("{}: {}", failure.device, failure.error),
            )),
            None => Ok(()),
        }
    }

    /// A disk that is watched, and what was reported about it.
    #[derive(Default)]
    struct Guard {
        disks: BTreeMap<DiskNumber, Watched>,
        lines: Vec<Line>,
    }

    struct Watched {
        device: String,
        area: DeviceRange,
        /// The number of offences that were reported.
        told: u64,
    }

    impl Guard {
        /// Watches the reserved areas of exactly these devices.
        fn follow<'d>(
            &mut self,
            devices: impl Iterator<Item = &'d Device>,
            offences: &mut Offences,
        ) -> Result<(), Failure> {
            let mut disks = BTreeMap::new();
            for device in devices {
                if let Some((number, area)) = area(device) {
                    let before = self.disks.remove(&number).filter(|before| before.area == area);
                    if before.is_none() {
                        self.lines.push(Line::new(&device.device, Event::Watching(area)));
                    }
                    let told = before.map_or(0, |before| before.told);
                    disks.insert(
                        number,
                        Watched {
                            device: device.device.clone(),
                            area,
                            told,
                        },
                    );
                }
            }
            // What is left is not watched any more.
            self.total();
            self.disks = disks;
            let areas = self.disks.iter().map(|(number, disk)| (*number, disk.area)).collect();
            offences
                .watch(areas)
                .map_err(|error| failed(format!("the kernel does not take the areas to watch: {error}")))
        }

        /// Reports the offences: one by one, then the number of those that were only counted.
        fn settle(&mut self, offences: &mut Offences) -> Result<(), Failure> {
            let unheard = |error| failed(format!("offences cannot be received: {error}"));
            for offence in offences.drain().map_err(unheard)? {
                let Some(disk) = self.disks.get_mut(&offence.disk) else {
                    continue;
                };
                let count = offence.offences.saturating_sub(disk.told);
                disk.told = disk.told.max(offence.offences);
                self.lines
                    .push(Line::new(&disk.device, Event::Offence { offence, count }));
            }
            for (number, count) in offences.counts().map_err(unheard)? {
                let Some(disk) = self.disks.get_mut(&number) else {
                    continue;
                };
                if count > disk.told {
                    let more = count.saturating_sub(disk.told);
                    self.lines.push(Line::new(&disk.device, Event::More(more)));
                    disk.told = count;
                }
            }
            Ok(())
        }

        /// Says how many offences there were on each disk.
        fn total(&mut self) {
            for disk in self.disks.values() {
                self.lines.push(Line::new(&disk.device, Event::Total(disk.told)));
            }
        }

        fn print(&mut self, flags: Flags) -> Result<Printed, Failure> {
            for line in self.lines.drain(..) {
                if flags.print_line(&line, || line.text())? == Printed::NobodyReads {
                    return Ok(Printed::NobodyReads);
                }
            }
            Ok(Printed::Written)
        }
    }

    /// Returns the disk's number and its reserved area, from the start of the disk; `None` if it has no reserved area.
    fn area(device: &Device) -> Option<(DiskNumber, DeviceRange)> {
        if !device.state.is_reportable() {
            return None;
        }
        let (reserved, disk) = (device.reserved?.0, device.device_range?.0);
        let area: DeviceRange = reserved.seen_from(disk.base())?;
        let number = std::fs::metadata(&device.device).ok()?.rdev();
        let number = DiskNumber::new(rustix::fs::major(number), rustix::fs::minor(number))?;
        Some((number, area))
    }
}
