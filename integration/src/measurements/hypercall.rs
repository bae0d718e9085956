//! Reports of persistent memory to Xen: how long they take, how long Xen does nothing else meanwhile, and how much of the reserved area it
//! uses.

use super::Bench;
use crate::image::MIB;
use crate::machine::{Config, Kind, Nvdimm};
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// A GiB.
const GIB: u64 = 1024 * MIB;
/// Sizes in GiB and addresses, so far apart that no two share anything.
const RANGES: [(u64, u64); 5] = [(1, 8), (4, 12), (16, 32), (64, 64), (256, 256)];
/// Memory that the machine can have at most, in GiB: the last range ends at 512 GiB.
const MOST: u64 = 640;
/// Bytes of a frame.
const FRAME: u64 = 4096;
/// Bytes of a sector, in which Linux counts.
const SECTOR: u64 = 512;

pub(super) fn run(bench: &Bench<'_>) -> Result<Value> {
    bench.step("prepare");
    let nvdimms = RANGES
        .into_iter()
        .map(|(size, address)| {
            let (nvdimm, _) = bench.prepared(&format!("nvdimm-{size}"), size * GIB, Some(address * GIB))?;
            Ok(nvdimm)
        })
        .collect::<Result<Vec<Nvdimm>>>()?;
    let mut ranges = in_xen(bench, &nvdimms)?;
    let linux = in_linux(bench, nvdimms)?;
    for (range, bytes) in ranges.iter_mut().zip(linux) {
        range["linux"] = bytes.into();
    }
    Ok(ranges.into())
}

/// Reports each range to Xen.
fn in_xen(bench: &Bench<'_>, nvdimms: &[Nvdimm]) -> Result<Vec<Value>> {
    bench.step("boot the patched Xen");
    let mut vm = bench.boot(Config {
        counted: true,
        most_gib: MOST,
        ..Config::new(Kind::Xen, nvdimms.to_vec())
    })?;
    vm.start_xenstored(&bench.manifest.xen_version)?;
    vm.load_nvdimm_core()?;
    let scan = vm.json(0, "xen-pmem-discover scan --early --json")?;
    let devices = scan["devices"].as_array().context("no devices")?;
    let mut ranges = Vec::new();
    for (size, address) in RANGES {
        bench.step(&format!("report {size} GiB"));
        let device = devices
            .iter()
            .find(|device| device["namespace"]["base"] == address * GIB)
            .with_context(|| format!("scan says {scan}"))?;
        let bounds = |part: &str| {
            let number = |name: &str| device[part][name].as_u64();
            let (base, size) = number("base").zip(number("size"))?;
            Some((base, base + size))
        };
        let (range, reserved) = bounds("namespace")
            .zip(bounds("reserved"))
            .with_context(|| format!("scan says {scan}"))?;
        ensure!(range.1 - range.0 == size * GIB, "scan says {scan}");
        let frames = [range.0, range.1, reserved.0, reserved.1].map(|bytes| format!("{:x}", bytes / FRAME));
        let said = vm.run(&format!("pmemctl add {}", frames.join(" ")))?;
        let used = before(&said, " used").with_context(|| format!("pmemctl says {said}"))?;
        let took = before(&said, " us\n").with_context(|| format!("pmemctl says {said}"))?;
        let work = work(&mut vm)?;
        ranges.push(json!({
            "bytes": size * GIB,
            "nanoseconds": took * 1000,
            "slices": work.slices,
            "longest_nanoseconds": work.longest_slice * 1000,
            "steps": work.steps,
            "longest_step_nanoseconds": work.longest_step * 1000,
            "used": used * FRAME,
            "reserved": reserved.1 - reserved.0,
        }));
    }
    vm.power_off()?;
    Ok(ranges)
}

/// What Xen says about the work for the last report. Times are in microseconds.
#[derive(Debug, PartialEq, Eq)]
struct Work {
    steps: u64,
    slices: u64,
    longest_slice: u64,
    longest_step: u64,
}

fn work(vm: &mut Vm) -> Result<Work> {
    let log = vm.run("xl dmesg")?;
    let line = log
        .lines()
        .rfind(|line| line.contains("pmem: ") && line.contains(" slices, longest "))
        .context("Xen's log does not say what the report took")?;
    parse_work(line).with_context(|| format!("Xen says {line}"))
}

fn parse_work(line: &str) -> Option<Work> {
    Some(Work {
        steps: before(line, " steps in")?,
        slices: before(line, " slices,")?,
        longest_slice: before(line, " us, in total")?,
        longest_step: before(line, " us (")?,
    })
}

/// Returns the number before these words.
fn before(text: &str, words: &str) -> Option<u64> {
    let (head, _) = text.split_once(words)?;
    head.rsplit(' ').next()?.parse().ok()
}

/// Returns how much of each range Linux takes for its own structures if they are in the range: the memory shrinks by as much.
fn in_linux(bench: &Bench<'_>, nvdimms: Vec<Nvdimm>) -> Result<Vec<u64>> {
    bench.step("boot Linux");
    let mut vm = bench.boot(Config {
        most_gib: MOST,
        ..Config::new(Kind::Bare, nvdimms)
    })?;
    vm.load_nvdimm_drivers()?;
    let mut taken = Vec::new();
    for (size, address) in RANGES {
        bench.step(&format!("map {size} GiB"));
        let resource = format!("{:#x}", address * GIB);
        let namespace = vm.script(&format!(
            "for namespace in /sys/bus/nd/devices/namespace*; do
                if [ \"$(cat $namespace/resource)\" = {resource} ]; then echo ${{namespace##*/}}; fi
            done"
        ))?;
        let namespace = namespace.trim();
        let said = vm.json(
            0,
            &format!("ndctl create-namespace --force --reconfig={namespace} --mode=fsdax --map=dev"),
        )?;
        let disk = said["blockdev"]
            .as_str()
            .with_context(|| format!("ndctl says {said}"))?;
        let left = vm.number(&format!("/sys/class/block/{disk}/size"))? * SECTOR;
        taken.push((size * GIB).checked_sub(left).context("the device has grown")?);
    }
    vm.power_off()?;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_before_words() {
        let line =
            "(XEN) pmem: 3909 steps in 89 slices, longest 527 us, in total 42000 us; longest step 93 us (search)";
        assert_eq!(
            parse_work(line),
            Some(Work {
                steps: 3909,
                slices: 89,
                longest_slice: 527,
                longest_step: 93,
            })
        );
        assert_eq!(
            parse_work("(XEN) pmem: 3909 steps in 89 slices, longest 527 us, in total 42000 us"),
            None
        );
        let said =
            "add: done; region 0 of 1: [0x1,0x2) reserved [0x1,0x2), 1536 frames needed, 1536 used\ntook 42 us\n";
        assert_eq!(before(said, " used"), Some(1536));
        assert_eq!(before(said, " us\n"), Some(42));
        assert_eq!(before(said, " pages"), None);
    }
}
