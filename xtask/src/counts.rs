//! `cargo xtask counts`: what the commands cost in numbers that do not depend on the machine's speed: system calls, instructions, the
//! sizes of the static binaries. Compared with those committed.

use crate::command;
use crate::fixtures;
use crate::host::{self, Need};
use crate::progress::step;
use crate::tools::{self, Tools};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What counting takes.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        program: "strace",
        package: "strace",
    },
    Need {
        program: "valgrind",
        package: "valgrind",
    },
];

/// What is committed.
const BASELINE: &str = "xtask/counts.json";

/// Where the super blocks are (docs/format.md).
const SUPER_BLOCKS: [u64; 2] = [524_288, 1_572_864];

/// How far from what is committed is too far, in percent: more is a loss to be judged, less a gain to be committed, or the next loss
/// would hide in it.
const TOLERANCE: u64 = 10;

/// Which of glibc's ways to copy, fill and compare are not to be used: those that not every processor has, and those that are one
/// instruction for the processor and one a byte for valgrind.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";

/// Commands whose costs are counted. Each is run on what is made anew: the images `prepared` of 1 GiB and `huge` of 8 TiB, `searched`,
/// which is prepared and has no super block at the fixed places, `blank`, and a recorded host with eight NVDIMMs.
const COMMANDS: &[&str] = &[
    "xen-pmem-provision init new --size 1G --quiet",
    "xen-pmem-provision init blank --quiet",
    "xen-pmem-provision init new --size 8T --dry-run",
    "xen-pmem-provision show prepared",
    "xen-pmem-provision show huge",
    "xen-pmem-provision verify prepared",
    "xen-pmem-provision verify huge",
    "xen-pmem-provision verify searched",
    "xen-pmem-provision resize --reserve 14M prepared --dry-run",
    "xen-pmem-provision remove prepared --dry-run",
    "xen-pmem-discover scan --image prepared --base 0x100000000 --json",
    "xen-pmem-discover scan --sysfs eight/sys --dev eight/dev --json",
    "xen-pmem-report apply --from scan.json --dry-run",
];

/// Options of `cargo xtask counts`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write what was counted to the file that later runs are compared with
    #[arg(long)]
    update: bool,
}

/// The names of the counters, and the counts.
type Counts = BTreeMap<String, u64>;

/// Counts, and compares with what is committed.
///
/// # Errors
///
/// If something cannot be counted, or is more than a tenth away from what is committed.
pub(crate) fn run(options: &Options) -> Result<()> {
    host::install(NEEDS)?;
    step("building the tools as static binaries");
    let tools = tools::build()?;
    step("counting");
    let counts = count(&tools)?;
    let file = workspace::root().join(BASELINE);
    if options.update {
        fs::write(&file, serde_json::to_string_pretty(&counts)? + "\n")?;
    }
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let baseline: Counts = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
    for (name, count) in &counts {
        let before = baseline.get(name).map_or("none".to_owned(), ToString::to_string);
        println!("{count:>12} (committed {before:>12})  {name}");
    }
    let complaints = complaints(&counts, &baseline);
    if !complaints.is_empty() {
        bail!(
            "{}\nif that is right: `cargo xtask counts --update`, and say why in the commit",
            complaints.join("\n")
        );
    }
    Ok(())
}

/// Returns what is too much or too little, or is compared with nothing.
fn complaints(counts: &Counts, baseline: &Counts) -> Vec<String> {
    let mut complaints: Vec<String> = counts
        .iter()
        .filter_map(|(name, count)| match baseline.get(name) {
            None => Some(format!("{name}: nothing to compare with")),
            Some(before) if count * 100 > before * (100 + TOLERANCE) => {
                Some(format!("{name}: {count}, committed are {before}"))
            }
            Some(before) if count * 100 < before * (100 - TOLERANCE) => {
                Some(format!("{name}: only {count}, committed are {before}: commit the gain"))
            }
            Some(_) => None,
        })
        .collect();
    let gone = baseline.keys().filter(|name| !counts.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name}: not counted any more")));
    complaints
}

fn count(tools: &Tools) -> Result<Counts> {
    let mut counts = Counts::new();
    for program in tools::PROGRAMS {
        counts.insert(format!("bytes of {program}"), fs::metadata(tools.path(program))?.len());
    }
    for line in COMMANDS {
        let calls = within(tools, |folder| system_calls(tools, line, folder)).with_context(|| format!("`{line}`"))?;
        counts.insert(format!("system calls of {line}"), calls);
        let instructions =
            within(tools, |folder| instructions(tools, line, folder)).with_context(|| format!("`{line}`"))?;
        counts.insert(format!("instructions of {line}"), instructions);
    }
    Ok(counts)
}

/// Does something in a folder made anew with all that commands are run on.
fn within<T>(tools: &Tools, then: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let folder = workspace::target().join("counts");
    workspace::discard(&folder)?;
    fs::create_dir_all(&folder)?;
    // What is random, or the time, takes more or fewer instructions.
    let uuids = [
        "--uuid",
        "00112233-4455-4677-8899-aabbccddeeff",
        "--disk-guid",
        "11112233-4455-4677-8899-aabbccddeeff",
    ];
    for (image, size) in [("prepared", "1G"), ("huge", "8T"), ("searched", "1G")] {
        let mut init = Command::new(tools.path("xen-pmem-provision"));
        init.current_dir(&folder)
            .args(["init", image, "--size", size, "--quiet"])
            .args(uuids);
        command::run(&mut init)?;
    }
    let searched = File::options().write(true).open(folder.join("searched"))?;
    for offset in SUPER_BLOCKS {
        searched.write_all_at(&[0; 4096], offset)?;
    }
    File::create(folder.join("blank"))?.set_len(1 << 30)?;
    fixtures::unpack("eight-xen", &folder.join("eight"))?;
    let mut scan = Command::new(tools.path("xen-pmem-discover"));
    scan.current_dir(&folder)
        .args(["scan", "--image", "prepared", "--base", "0x100000000", "--json"]);
    fs::write(folder.join("scan.json"), command::output(&mut scan)?)?;
    let result = then(&folder)?;
    fs::remove_dir_all(&folder)?;
    Ok(result)
}

/// Runs a command line below another program that counts, in an environment that is always the same.
fn below(mut counter: Command, tools: &Tools, line: &str, folder: &Path) -> Result<()> {
    let mut words = line.split(' ');
    let program = tools.path(words.next().unwrap_or_default());
    let status = counter
        .arg(program)
        .args(words)
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("GLIBC_TUNABLES", TUNABLES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("starting the counter")?;
    // Of the images of a recorded host none is prepared, nor is what has lost its super blocks: that is an answer, too.
    match status.code() {
        Some(0 | 4 | 5) => Ok(()),
        _ => bail!("ended with {status}"),
    }
}

fn system_calls(tools: &Tools, line: &str, folder: &Path) -> Result<u64> {
    let log = folder.join("strace.log");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(&log);
    below(strace, tools, line, folder)?;
    Ok(u64::try_from(fs::read_to_string(log)?.lines().count())?)
}

fn instructions(tools: &Tools, line: &str, folder: &Path) -> Result<u64> {
    let log = folder.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--quiet",
        &format!("--callgrind-out-file={}", log.display()),
    ]);
    below(valgrind, tools, line, folder)?;
    let text = fs::read_to_string(&log)?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    let total = total.context("callgrind gives no total")?;
    Ok(total.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_or_less_is_tolerated() {
        let counts = |pairs: &[(&str, u64)]| -> Counts {
            pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let baseline = counts(&[("a", 100), ("b", 100), ("c", 100)]);
        assert!(complaints(&counts(&[("a", 110), ("b", 90), ("c", 100)]), &baseline).is_empty());
        let found = complaints(&counts(&[("a", 111), ("b", 89), ("d", 1)]), &baseline);
        assert_eq!(
            found,
            [
                "a: 111, committed are 100",
                "b: only 89, committed are 100: commit the gain",
                "d: nothing to compare with",
                "c: not counted any more"
            ]
        );
    }
}
