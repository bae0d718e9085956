//! `cargo xtask bench`: our commands beside those that people use today, as whole commands, in one run; written to
//! `docs/performance.md`.

use crate::command;
use crate::host::{self, Need};
use crate::progress::step;
use crate::tools::{self, Tools};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the others are, and what measuring takes.
const NEEDS: &[Need] = &[
    Need {
        program: "sgdisk",
        package: "gdisk",
    },
    Need {
        program: "sfdisk",
        package: "fdisk",
    },
    Need {
        program: "parted",
        package: "parted",
    },
    Need {
        program: "ndctl",
        package: "ndctl",
    },
    Need {
        program: "blkid",
        package: "util-linux",
    },
    Need {
        program: "strace",
        package: "strace",
    },
    Need {
        program: "/usr/bin/time",
        package: "time",
    },
];

/// The page that the table is put into, between these lines.
const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- written by cargo xtask bench: begin -->";
const END: &str = "<!-- written by cargo xtask bench: end -->";

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each command is run
    #[arg(long, default_value_t = 40)]
    runs: usize,
}

/// A command that is measured, in words; `{image}` stands for a prepared image, `{new}` for one that is not there, `{blank}` for one that is blank.
struct Contender {
    line: &'static str,
    /// Whether it is one of ours.
    ours: bool,
}

const fn ours(line: &'static str) -> Contender {
    Contender { line, ours: true }
}

const fn other(line: &'static str) -> Contender {
    Contender { line, ours: false }
}

/// What is compared: a question, and who answers it.
const CONTESTS: &[(&str, &[Contender])] = &[
    (
        "make the table",
        &[
            ours("xen-pmem-provision init {blank} --quiet"),
            other("sgdisk -o -n 1:0:0 {blank}"),
        ],
    ),
    (
        "look at it",
        &[
            ours("xen-pmem-provision show {image}"),
            ours("xen-pmem-provision verify {image}"),
            other("sgdisk -v {image}"),
            other("sgdisk -p {image}"),
            other("sfdisk -J {image}"),
            other("blkid -p {image}"),
            other("parted -s {image} print"),
            other("ndctl read-infoblock -i {image}"),
        ],
    ),
];

const SIZES: [&str; 4] = ["1G", "100G", "1T", "8T"];

/// Measures, prints the table and writes the page.
///
/// # Errors
///
/// If something cannot be run.
pub(crate) fn run(options: &Options) -> Result<()> {
    host::install(NEEDS)?;
    step("building the tools as static binaries");
    let tools = tools::build()?;
    let folder = workspace::target().join("bench");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut text = format!(
        "{}\n\nMedian of {} runs, one after the other in turn, and half the distance between the quartiles; output to /dev/null.\n",
        machine()?,
        options.runs
    );
    for (what, contenders) in CONTESTS {
        for size in SIZES {
            step(&format!("{what}: {size}"));
            let _ = write!(
                text,
                "\n### To {what}, {size}iB\n\n| command | time | system calls | read | written | peak memory |\n|---|---:|---:|---:|---:|---:|\n"
            );
            for row in contest(contenders, size, &tools, &folder, options.runs)? {
                let _ = writeln!(text, "{row}");
            }
        }
    }
    let mut sizes = String::new();
    for program in tools::PROGRAMS {
        let bytes = fs::metadata(tools.path(program))?.len();
        let _ = writeln!(sizes, "| {program} | {} KiB |", bytes / 1024);
    }
    let _ = write!(text, "\n### Static binaries\n\n| program | size |\n|---|---:|\n{sizes}");
    fs::remove_dir_all(&folder)?;
    println!("{text}");
    let page = workspace::root().join(PAGE);
    let before = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    let (head, rest) = before
        .split_once(BEGIN)
        .context("the page has no place for the table")?;
    let (_, tail) = rest.split_once(END).context("the page has no end of the table")?;
    fs::write(&page, format!("{head}{BEGIN}\n\n{text}\n{END}{tail}"))?;
    Ok(())
}

/// What it was measured on.
fn machine() -> Result<String> {
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split(':').nth(1))
        .map_or("an unknown processor", str::trim);
    let count = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{model}, {count} processors in a virtual machine, Linux {}; images on its disk, in the page cache.",
        kernel.trim()
    ))
}

/// What was measured of one command.
struct Measured {
    times: Vec<Duration>,
    calls: Traced,
    memory: u64,
}

/// What strace says.
#[derive(Default)]
struct Traced {
    calls: u64,
    read: u64,
    written: u64,
}

fn contest(contenders: &[Contender], size: &str, tools: &Tools, folder: &Path, runs: usize) -> Result<Vec<String>> {
    let prepared = folder.join("prepared");
    remove(&prepared)?;
    let mut init = Command::new(tools.path("xen-pmem-provision"));
    command::run(init.arg("init").arg(&prepared).args(["--size", size, "--quiet"]))?;
    let mut all: Vec<Measured> = Vec::new();
    for contender in contenders {
        all.push(Measured {
            times: Vec::new(),
            calls: trace(contender, size, tools, folder)?,
            memory: peak(contender, size, tools, folder)?,
        });
    }
    for _ in 0..runs {
        for (contender, measured) in contenders.iter().zip(&mut all) {
            let mut command = prepare(contender, size, tools, folder, None)?;
            let begin = Instant::now();
            let _status = command.status()?;
            measured.times.push(begin.elapsed());
        }
    }
    Ok(contenders
        .iter()
        .zip(all)
        .map(|(contender, measured)| row(contender, measured))
        .collect())
}

fn row(contender: &Contender, mut measured: Measured) -> String {
    measured.times.sort();
    let at = |part: usize| {
        let index = measured.times.len() * part / 4;
        measured.times.get(index).map_or(0.0, Duration::as_secs_f64) * 1000.0
    };
    let line = contender.line.replace("{image}", "IMAGE").replace("{blank}", "IMAGE");
    let line = if contender.ours { format!("**{line}**") } else { line };
    format!(
        "| {line} | {:.2} ± {:.2} ms | {} | {} | {} | {} KiB |",
        at(2),
        (at(3) - at(1)) / 2.0,
        measured.calls.calls,
        kib(measured.calls.read),
        kib(measured.calls.written),
        measured.memory
    )
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// A command ready to be run, below another one if need be, on images as it wants them.
fn prepare(contender: &Contender, size: &str, tools: &Tools, folder: &Path, below: Option<Command>) -> Result<Command> {
    let blank = folder.join("blank");
    if contender.line.contains("{blank}") {
        remove(&blank)?;
        let bytes: u64 = match size.split_at(size.len() - 1) {
            (number, "G") => number.parse::<u64>()? << 30,
            (number, "T") => number.parse::<u64>()? << 40,
            _ => bail!("{size} is no size"),
        };
        fs::File::create(&blank)?.set_len(bytes)?;
    }
    let mut words = contender.line.split(' ').map(|word| match word {
        "{image}" => folder.join("prepared").into_os_string(),
        "{blank}" => blank.clone().into_os_string(),
        word => word.into(),
    });
    let program = words.next().unwrap_or_default();
    let program: PathBuf = if contender.ours {
        tools.path(&program.to_string_lossy())
    } else {
        PathBuf::from(program)
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

fn trace(contender: &Contender, size: &str, tools: &Tools, folder: &Path) -> Result<Traced> {
    let log = folder.join("strace.log");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", "signal=none", "-s", "0", "-o"])
        .arg(&log);
    prepare(contender, size, tools, folder, Some(strace))?.status()?;
    Ok(traced(&fs::read_to_string(&log)?))
}

/// System calls, and the bytes that those which read and write say that they have.
fn traced(log: &str) -> Traced {
    let mut traced = Traced::default();
    for line in log.lines() {
        traced.calls += 1;
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        let result = line
            .rsplit(" = ")
            .next()
            .and_then(|result| result.split_whitespace().next());
        let bytes = result.and_then(|result| result.parse::<u64>().ok()).unwrap_or(0);
        if ["read(", "pread64(", "readv(", "preadv("]
            .iter()
            .any(|name| call.starts_with(name))
        {
            traced.read += bytes;
        } else if ["write(", "pwrite64(", "writev(", "pwritev("]
            .iter()
            .any(|name| call.starts_with(name))
        {
            traced.written += bytes;
        }
    }
    traced
}

/// The most memory that was resident, in KiB.
fn peak(contender: &Contender, size: &str, tools: &Tools, folder: &Path) -> Result<u64> {
    let log = folder.join("time.log");
    let mut time = Command::new("/usr/bin/time");
    time.args(["--quiet", "--format", "%M", "--output"]).arg(&log);
    prepare(contender, size, tools, folder, Some(time))?.status()?;
    let text = fs::read_to_string(&log)?;
    let last = text.lines().last().context("time says nothing")?;
    last.trim().parse().with_context(|| format!("time says {last:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_summed_up() {
        let log = "12 execve(\"/x\", [\"x\"], 0x7f /* 3 vars */) = 0\n12 pread64(3, \"\"..., 512, 512) = 512\n\
            12 read(3, 0x7f, 10) = -1 EIO (Input/output error)\n12 write(1, \"\"..., 16) = 16\n";
        let traced = traced(log);
        assert_eq!((traced.calls, traced.read, traced.written), (4, 512, 16));
    }
}
