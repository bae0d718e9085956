//! A command, and what is measured of it.

use super::Images;
use crate::bench::samples::Samples;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A command in words; `{prepared}`, `{blank}` and `{infoblock}` stand for images.
pub(super) struct Contender {
    line: &'static str,
    /// Whether it is one of ours.
    pub(super) ours: bool,
}

pub(super) const fn ours(line: &'static str) -> Contender {
    Contender { line, ours: true }
}

pub(super) const fn other(line: &'static str) -> Contender {
    Contender { line, ours: false }
}

/// What was measured of one.
pub(super) struct Measured {
    pub(super) times: Samples,
    /// The same without the time that it waits for the disk, or sleeps, if that was measured.
    pub(super) at_work: Option<Samples>,
    pub(super) traced: Traced,
    /// Bytes that were resident at most.
    pub(super) memory: u64,
}

/// What strace says.
#[derive(Default)]
pub(super) struct Traced {
    pub(super) calls: u64,
    pub(super) read: u64,
    pub(super) written: u64,
}

/// Measures each on each set of images: its system calls, its memory, and in turn its times, those at work as well if it `waits`.
/// Returns what was measured in the order of the sets, and within each in that of the contenders.
pub(super) fn measure<'a>(
    contenders: &'static [Contender],
    sets: &'a [Images],
    runs: usize,
    waits: bool,
) -> Result<Vec<(&'a Images, &'static Contender, Measured)>> {
    // One after the other, sizes too: what changes on the machine meanwhile changes all of them.
    let pairs: Vec<_> = sets
        .iter()
        .flat_map(|images| contenders.iter().map(move |contender| (images, contender)))
        .collect();
    let mut times = vec![Vec::with_capacity(runs); pairs.len()];
    let mut at_work = times.clone();
    for round in 0..runs {
        for index in order(pairs.len(), round) {
            let (images, contender) = pairs[index];
            times[index].push(contender.time(images)?);
            // Ours do not sleep, and can be measured more often in the same time.
            let runs_at_work = match (waits, contender.ours) {
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => 4,
            };
            for _ in 0..runs_at_work {
                at_work[index].push(contender.time_at_work(images)?);
            }
        }
    }
    pairs
        .into_iter()
        .zip(times.into_iter().zip(at_work))
        .map(|((images, contender), (times, at_work))| {
            let measured = Measured {
                times: Samples::new(times)?,
                at_work: waits.then(|| Samples::new(at_work)).transpose()?,
                traced: contender.trace(images)?,
                memory: contender.peak(images)?,
            };
            Ok((images, contender, measured))
        })
        .collect()
}

/// Returns each of `count` once, in an order that changes from round to round: a program's run affects the caches of the next one.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let coprime =
        |stride: &usize| !(2..=count).any(|divisor| count.is_multiple_of(divisor) && stride.is_multiple_of(divisor));
    let strides: Vec<usize> = (1..=count).filter(coprime).collect();
    let stride = strides.get(round % strides.len().max(1)).copied().unwrap_or(1);
    (0..count).map(move |step| (round + step * stride) % count)
}

impl Contender {
    /// Returns the command for people.
    pub(super) fn shown(&self) -> String {
        ["{prepared}", "{blank}", "{infoblock}"]
            .iter()
            .fold(self.line.to_owned(), |line, image| line.replace(image, "IMAGE"))
    }

    /// Returns the command ready to be run, below another one if need be, on images as it wants them.
    fn prepare(&self, images: &Images, below: Option<Command>) -> Result<Command> {
        if self.line.contains("{blank}") {
            images.blank()?;
        }
        let mut words = self.line.split(' ').map(|word| {
            let image = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
            image.map_or_else(|| word.into(), |name| images.path(name).into_os_string())
        });
        let name = words.next().unwrap_or_default();
        let program = match self.ours {
            true => images.tool(&name.to_string_lossy()).into_os_string(),
            false => name,
        };
        let mut command = match below {
            None => Command::new(program),
            Some(mut below) => {
                below.arg(program);
                below
            }
        };
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(command)
    }

    /// Checks that a contender succeeds: one that fails cannot be compared.
    fn check(&self, status: std::io::Result<std::process::ExitStatus>) -> Result<()> {
        let status = status.with_context(|| format!("cannot start `{}`", self.line))?;
        ensure!(status.success(), "`{}` ended with {status}", self.line);
        Ok(())
    }

    /// Returns how long it takes, in nanoseconds.
    fn time(&self, images: &Images) -> Result<u64> {
        let mut command = self.prepare(images, None)?;
        let begin = Instant::now();
        let status = command.status();
        let time = begin.elapsed();
        self.check(status)?;
        Ok(u64::try_from(time.as_nanos())?)
    }

    /// Returns its run time without the time that it waits. Only the system calls that wait are traced, and slowed down by that.
    fn time_at_work(&self, images: &Images) -> Result<u64> {
        let log = images.path("strace.log");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "--seccomp-bpf", "-e", "signal=none"]).args([
            "--absolute-timestamps=format:unix,precision:ns",
            "--syscall-times=ns",
            &format!("--trace=execve,exit_group,{}", WAITS.join(",")),
            "-o",
        ]);
        strace.arg(&log);
        self.check(self.prepare(images, Some(strace))?.status())?;
        let text = fs::read_to_string(&log)?;
        at_work(&text).with_context(|| format!("strace says {text}"))
    }

    fn trace(&self, images: &Images) -> Result<Traced> {
        let log = images.path("strace.log");
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-e", "signal=none", "-s", "0", "-o"])
            .arg(&log);
        self.check(self.prepare(images, Some(strace))?.status())?;
        Ok(traced(&fs::read_to_string(&log)?))
    }

    /// Returns the bytes that were resident at most.
    fn peak(&self, images: &Images) -> Result<u64> {
        let log = images.path("time.log");
        let mut time = Command::new("/usr/bin/time");
        time.args(["--quiet", "--format", "%M", "--output"]).arg(&log);
        self.check(self.prepare(images, Some(time))?.status())?;
        let text = fs::read_to_string(&log)?;
        let kibibytes: u64 = text.trim().parse().with_context(|| format!("time says {text:?}"))?;
        Ok(kibibytes * 1024)
    }
}

/// System calls that wait for a disk, or for time to pass.
const WAITS: [&str; 7] = [
    "sync",
    "syncfs",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "nanosleep",
    "clock_nanosleep",
];

/// Returns the nanoseconds from the program's start to its end less those of the calls that wait.
fn at_work(log: &str) -> Option<u64> {
    let (mut begin, mut end, mut waited) = (None, None, 0);
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let at = nanoseconds(words.nth(1)?)?;
        let (call, _) = words.next()?.split_once('(')?;
        match call {
            "execve" => begin = Some(at),
            "exit_group" => end = Some(at),
            _ => waited += nanoseconds(line.rsplit_once('<')?.1.strip_suffix('>')?)?,
        }
    }
    end?.checked_sub(begin?)?.checked_sub(waited)
}

/// Seconds with nine digits after the point.
fn nanoseconds(text: &str) -> Option<u64> {
    let (seconds, rest) = text.split_once('.').filter(|(_, rest)| rest.len() == 9)?;
    seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(rest.parse().ok()?)
}

/// Counts system calls, and the bytes that they read and write, except for messages to people.
fn traced(log: &str) -> Traced {
    let mut traced = Traced::default();
    for line in log.lines() {
        traced.calls += 1;
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        let result = line
            .rsplit(" = ")
            .next()
            .and_then(|result| result.split_whitespace().next());
        // What failed has moved nothing.
        let bytes = result.and_then(|result| result.parse::<u64>().ok()).unwrap_or(0);
        let is = |names: [&str; 4]| names.iter().any(|name| call.starts_with(name));
        if is(["read(", "pread64(", "readv(", "preadv("]) {
            traced.read += bytes;
        } else if is(["write(", "pwrite64(", "writev(", "pwritev("]) && !is_output(call) {
            traced.written += bytes;
        }
    }
    traced
}

/// Returns whether a call's descriptor is that of the standard output or error.
fn is_output(call: &str) -> bool {
    ["(1,", "(2,"].iter().any(|descriptor| call.contains(descriptor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_summed_up() {
        let log = "12 execve(\"/x\", [\"x\"], 0x7f /* 3 vars */) = 0\n12 pread64(3, \"\"..., 512, 512) = 512\n\
            12 read(3, 0x7f, 10) = -1 EIO (Input/output error)\n12 write(1, \"\"..., 16) = 16\n12 pwrite64(3, \"\"..., 32, 0) = 32\n";
        let traced = traced(log);
        assert_eq!((traced.calls, traced.read, traced.written), (5, 512, 32));
    }

    #[test]
    fn each_is_run_once_a_round_and_follows_many() {
        for count in [1, 2, 7, 8, 32] {
            let mut pairs = std::collections::BTreeSet::new();
            for round in 0..40 {
                let order: Vec<usize> = order(count, round).collect();
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..count).collect::<Vec<_>>());
                pairs.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
            }
            assert!(pairs.len() >= count * (count - 1) / 2, "{count}: {pairs:?}");
        }
    }

    #[test]
    fn waiting_is_no_work() {
        let log = "7 1700000000.000000100 execve(\"/x\", [\"x\"], 0x7f /* 3 vars */) = 0 <0.000000050>\n\
            7 1700000000.500000000 fsync(3) = 0 <0.100000000>\n\
            7 1700000000.900000000 clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=1, tv_nsec=0}, 0x7f) = 0 <1.000000000>\n\
            7 1700000002.000000100 exit_group(0) = ?\n";
        assert_eq!(at_work(log), Some(900_000_000));
        assert_eq!(
            at_work("7 1700000000.000000100 execve(\"/x\") = 0 <0.000000050>\n"),
            None
        );
    }
}
