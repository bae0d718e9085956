//! A host that gives its guests persistent memory by hand, and the guests.

use super::super::xen_refuses::pmemctl;
use super::super::{Run, xen_guest};
use crate::frames::FRAME;
use crate::image::{self, MIB};
use crate::layout::Layout;
use crate::machine::{Config, Kind, Nvdimm};
use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The NVDIMM's size.
pub(super) const SIZE: u64 = 256 * MIB;
/// Its partitions, as the provisioner is asked for them.
pub(super) const PARTITIONS: &[&str] = &["64M", "32M"];
/// The address of persistent memory in guests: 1 GiB. `pvh.c` has it, too.
pub(super) const GFN: u64 = 0x4_0000;
/// Where they have nothing.
pub(super) const FREE_GFN: u64 = 0x8_0000;
/// Where they have RAM.
pub(super) const RAM_GFN: u64 = 0x1000;
/// Frames of a large page: 2 MiB.
pub(super) const LARGE: u64 = 512;
/// How long what takes a second may take.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// The commands that a guest knows.
#[derive(Clone, Copy)]
pub(super) enum Order {
    Fill = 1,
    Check = 2,
    Stop = 3,
}

/// Why a guest stops (Xen: `include/public/sched.h`).
pub(super) const POWER_OFF: u32 = 0;
pub(super) const CRASH: u32 = 3;

/// The mailbox's fields, as offsets in its page.
pub(super) const ORDER: u64 = 0;
pub(super) const ARGUMENT: u64 = 4;
pub(super) const REQUEST: u64 = 8;
pub(super) const REPLY: u64 = 12;
pub(super) const RESULT: u64 = 16;
pub(super) const BEAT: u64 = 20;
/// Where the PV guest leaves its mark in the page that it maps, and the mark.
pub(super) const MARK_AT: u64 = 128;
pub(super) const MARK: u32 = 0x6576_6967;
/// What is filled begins behind the mailbox.
pub(super) const DATA: u64 = FRAME;
pub(super) const WORDS: usize = (1 << 20) / 4;

/// A partition: where it is in the device's backing file, and the frames that it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    pub(super) offset: u64,
    pub(super) mfn: u64,
    pub(super) count: u64,
}

/// The states of the data frames, and how guests' physmaps have them, as the debug key tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) idle: u64,
    pub(super) given: u64,
    pub(super) taken_back: u64,
    pub(super) references: u64,
    pub(super) in_m2p: u64,
    pub(super) by_large: u64,
    pub(super) by_small: u64,
    pub(super) write_back: u64,
    pub(super) other: u64,
}

/// A host that gives its guests persistent memory.
pub(super) struct Host<'r, 'm> {
    pub(super) run: &'r Run<'m>,
    pub(super) vm: Vm,
    pub(super) file: PathBuf,
    /// The device's first frame, and the number of its data frames.
    pub(super) base: u64,
    pub(super) data: u64,
    /// The reserved area's first frame, and how many it has.
    pub(super) reserved: (u64, u64),
    pub(super) large: Partition,
    pub(super) small: Partition,
}

impl<'r, 'm> Host<'r, 'm> {
    pub(super) fn boot(run: &'r Run<'m>) -> Result<Self> {
        let file = run.provisioned("nvdimm", SIZE, PARTITIONS)?.file;
        let layout = Layout::read(&file, 0, SIZE)?;
        run.step("boot Xen");
        let mut vm = run.boot_as(Config {
            // Without it Dom0 loses SSE registers as soon as an HVM guest runs, in QEMU's emulation.
            xen: vec!["spec-ctrl=eager-fpu".to_owned()],
            ..Config::new(Kind::Xen, vec![Nvdimm::unlabelled(&file)])
        })?;
        run.step("start xenstored");
        vm.start_xenstored(&run.manifest.xen_version)?;
        xen_guest::start_xenconsoled(run, &mut vm)?;
        vm.load_nvdimm_core()?;
        let base = vm.number("/sys/bus/nd/devices/region0/resource")? / FRAME;
        let [large, small] = layout.partitions.as_slice() else {
            anyhow::bail!("there are {} partitions", layout.partitions.len())
        };
        let partition = |(offset, size): &(u64, u64)| Partition {
            offset: *offset,
            mfn: base + offset / FRAME,
            count: size / FRAME,
        };
        let mut host = Self {
            run,
            vm,
            base,
            data: (SIZE - layout.reserved_size) / FRAME,
            reserved: (base + layout.reserved_base / FRAME, layout.reserved_size / FRAME),
            large: partition(large),
            small: partition(small),
            file,
        };
        host.is_refused_while_others_have_access()?;
        run.step("report the device, and bind its driver");
        host.vm.run("xen-pmem-report apply --early --all")?;
        host.vm.load_nvdimm_drivers()?;
        host.vm.wait_for("/dev/pmem0p2")?;
        Ok(host)
    }

    /// Shows that a report is refused while another domain has access to the reserved area, which it could map unseen by Xen.
    fn is_refused_while_others_have_access(&mut self) -> Result<()> {
        self.run
            .step("a report is refused while another domain has access to the reserved area");
        let (reserved, count) = self.reserved;
        let ranges = [self.base, self.base + SIZE / FRAME, reserved, reserved + count];
        let other = self.create("other")?;
        self.done(&format!("permit {other} {:x} 1", reserved + count - 1))?;
        let said = pmemctl(&mut self.vm, 1, "add", ranges)?;
        let log = self.vm.run("xl dmesg")?;
        ensure!(
            said.contains("busy") && log.contains("another domain has access to the reserved area"),
            "pmemctl says {said}, the log {log}"
        );
        self.destroy("other")
    }

    /// Creates a PVH guest, paused, and returns its number.
    pub(super) fn create(&mut self, name: &str) -> Result<u64> {
        self.create_as(name, "pvh", "")
    }

    /// Creates a PV guest that is going to map a grant.
    pub(super) fn create_pv(&mut self, name: &str, granting: u64, reference: u64) -> Result<u64> {
        self.create_as(name, "pv", &format!("extra = '{granting} {reference}'"))
    }

    pub(super) fn create_as(&mut self, name: &str, kind: &str, more: &str) -> Result<u64> {
        let config = format!(
            "name = '{name}'\ntype = '{kind}'\nmemory = 32\nvcpus = 1\nkernel = '/tools/pmemguest-{kind}'\n\
            on_poweroff = 'preserve'\non_crash = 'preserve'\non_reboot = 'preserve'\n{more}\n"
        );
        self.vm.write(&format!("/tmp/{name}.cfg"), &config)?;
        self.vm.run(&format!("xl create -p /tmp/{name}.cfg"))?;
        Ok(self.vm.run(&format!("xl domid {name}"))?.trim().parse()?)
    }

    /// Destroys a guest, and waits until it is gone.
    pub(super) fn destroy(&mut self, name: &str) -> Result<()> {
        self.vm.run(&format!("xl destroy {name}"))?;
        let vm = &mut self.vm;
        poll::until("the guest is gone", LIMIT, || {
            let list = vm.run("xl list")?;
            let states = list.lines().filter_map(|line| line.split_whitespace().nth_back(1));
            Ok((!states.skip(1).any(|state| state.ends_with('d'))).then_some(()))
        })
    }

    /// Waits until a guest is in a state: a letter of `xl list`.
    pub(super) fn wait_for(&mut self, name: &str, state: char) -> Result<()> {
        let vm = &mut self.vm;
        poll::until("the guest has stopped", LIMIT, || {
            let list = vm.run(&format!("xl list {name}"))?;
            let states = list.lines().nth(1).and_then(|line| line.split_whitespace().nth(4));
            Ok(states.with_context(|| list.clone())?.contains(state).then_some(()))
        })
    }

    /// Makes Xen do what must succeed. Returns what the program says.
    pub(super) fn done(&mut self, command: &str) -> Result<String> {
        self.vm.run(&format!("pmemguest {command}"))
    }

    /// Asks Xen for what it must refuse with this answer and, in the log, this reason.
    pub(super) fn refused(&mut self, command: &str, answer: &str, reason: Option<&str>) -> Result<()> {
        self.vm.run("xl dmesg -c")?;
        let output = self.vm.run_for(1, &format!("pmemguest {command}"))?;
        ensure!(output.stdout.contains(answer), "{command}: {}", output.stdout);
        let Some(reason) = reason else { return Ok(()) };
        let log = self.vm.run("xl dmesg")?;
        let line = log.lines().find(|line| line.contains("refused to"));
        ensure!(
            line.is_some_and(|line| line.contains(reason)),
            "{command}: the log says {log}"
        );
        Ok(())
    }

    /// Starts a program of Dom0's that maps a grant, and returns its number.
    pub(super) fn hold(&mut self, domain: u64, reference: u64) -> Result<u32> {
        let file = "/tmp/hold";
        self.vm.script(&format!("rm -f {file}"))?;
        let command = format!("exec pmemguest hold {domain} {reference:x} > {file}");
        let process = self.vm.spawn(&["sh", "-c", &command])?;
        let vm = &mut self.vm;
        let said = poll::until("the grant is mapped", LIMIT, || {
            let output = vm.exec(&["cat", file], "")?;
            Ok((!output.stdout.is_empty()).then_some(output.stdout))
        })?;
        ensure!(said.trim() == "done", "hold: {said}");
        Ok(process)
    }

    /// Returns what the debug key prints about the data.
    pub(super) fn data(&mut self) -> Result<Data> {
        self.vm.run("xl dmesg -c")?;
        self.vm.run("xl debug-keys y")?;
        let log = self.vm.run("xl dmesg")?;
        let numbers = |marker: &str| -> Result<Vec<u64>> {
            let line = log.lines().find_map(|line| line.split_once(marker));
            let (_, line) = line.with_context(|| format!("Xen says {log}"))?;
            let words = line.split(|character: char| !character.is_ascii_digit());
            Ok(words.filter_map(|word| word.parse().ok()).collect())
        };
        let (states, pages) = (numbers(": frames ")?, numbers(": guests' frames ")?);
        // The M2P has a digit in its name.
        let ([idle, given, taken_back, references, in_m2p, ..], [by_large, by_small, write_back, other]) =
            (states.as_slice(), pages.as_slice())
        else {
            anyhow::bail!("Xen says {log}")
        };
        Ok(Data {
            idle: *idle,
            given: *given,
            taken_back: *taken_back,
            references: *references,
            in_m2p: *in_m2p,
            by_large: *by_large,
            by_small: *by_small,
            write_back: *write_back,
            other: *other,
        })
    }

    /// Waits until the data is as `wanted`.
    pub(super) fn until(&mut self, what: &str, wanted: impl Fn(&Data) -> bool) -> Result<()> {
        let mut last = Data::default();
        poll::until(what, LIMIT, || {
            last = self.data()?;
            Ok(wanted(&last).then_some(()))
        })
        .with_context(|| format!("{last:?}"))
    }

    pub(super) fn idle(&self) -> Data {
        Data {
            idle: self.data,
            ..Data::default()
        }
    }

    pub(super) fn ensure_idle(&mut self) -> Result<()> {
        let (data, idle) = (self.data()?, self.idle());
        ensure!(data == idle, "{data:?}, not {idle:?}");
        Ok(())
    }

    /// Waits until all frames are idle, and the heap is as before: a domain's last memory is freed behind its end.
    pub(super) fn ensure_back(&mut self, heap: Option<u64>) -> Result<()> {
        let idle = self.idle();
        self.until("all frames are back", |data| *data == idle)?;
        let Some(heap) = heap else { return Ok(()) };
        let mut now = 0;
        poll::until("Xen's heap is as before", LIMIT, || {
            now = self.heap()?;
            Ok((now == heap).then_some(()))
        })
        .with_context(|| format!("{now} KiB are free, not {heap}"))
    }

    /// Returns the KiB that are free in Xen's heap for domains.
    pub(super) fn heap(&mut self) -> Result<u64> {
        self.vm.run("xl dmesg -c")?;
        self.vm.run("xl debug-keys m")?;
        let log = self.vm.run("xl dmesg")?;
        let line = log.lines().find_map(|line| line.split_once("Dom heap: "));
        let (_, line) = line.with_context(|| format!("Xen says {log}"))?;
        let number = line.split("kB").next().unwrap_or_default();
        Ok(number.trim().parse()?)
    }

    /// Gives an order to the guest that has a partition, waits until it is carried out, and returns its result.
    pub(super) fn order(&self, partition: Partition, order: Order, argument: u32) -> Result<u32> {
        let at = |field: u64| partition.offset + field;
        let request = word(&self.file, at(REPLY))?.wrapping_add(1);
        for (field, value) in [(ORDER, order as u32), (ARGUMENT, argument), (REQUEST, request)] {
            image::write(&self.file, at(field), &value.to_le_bytes())?;
        }
        poll::until("the guest has done what it was told", LIMIT, || {
            Ok((word(&self.file, at(REPLY))? == request).then_some(()))
        })?;
        word(&self.file, at(RESULT))
    }

    pub(super) fn beat(&self, partition: Partition) -> Result<u32> {
        word(&self.file, partition.offset + BEAT)
    }

    pub(super) fn ensure_runs(&self, partition: Partition) -> Result<()> {
        let beat = self.beat(partition)?;
        poll::until("the guest runs", LIMIT, || {
            Ok((self.beat(partition)? != beat).then_some(()))
        })
    }

    /// Checks that the device's backing file has what a guest was told to fill its partition with.
    pub(super) fn ensure_filled(&self, partition: Partition, seed: u32) -> Result<()> {
        let there = image::read(&self.file, partition.offset + DATA, WORDS * 4)?;
        ensure!(there == pattern(seed), "{partition:x?}: the host sees something else");
        Ok(())
    }
}

/// Returns what guests fill their memory with.
pub(super) fn pattern(seed: u32) -> Vec<u8> {
    let next = |word: &u32| Some(word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(seed), next)
        .skip(1)
        .take(WORDS)
        .flat_map(u32::to_le_bytes)
        .collect()
}

pub(super) fn word(file: &Path, offset: u64) -> Result<u32> {
    let bytes = image::read(file, offset, 4)?;
    Ok(u32::from_le_bytes(bytes.as_slice().try_into()?))
}
