//! A hypervisor that has the operations advertises them; the tools do not send them to one that does not. Dom0's kernel proves it: it
//! records every hypercall of a program.
//!
//! This scenario is what `cargo xtask xen --each` runs after each patch of the series. It therefore takes the patched hypervisor with
//! and without the operations, and wants one of two things: no operation at all, or all of them with all of their protection.

use super::{NVDIMM_SIZE, Run};
use crate::frames::FRAME;
use crate::machine::Kind;
use crate::manifest::Hypervisor;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};

/// Hypercall numbers (`xen/include/public/xen.h`).
const PLATFORM_OP: u64 = 7;
const HYPFS_OP: u64 = 42;
/// The numbers of the operations, as in `docs/hypercall.md`.
const ADD: u64 = 67;
const GET: u64 = 68;
/// The version of them that this scenario knows.
const ABI: &str = "1";

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let prepared = run.prepared_nvdimm("nvdimm", NVDIMM_SIZE)?;
    let mut vm = run.boot(Kind::Xen, &[&prepared.file])?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    vm.load_nvdimm_core()?;

    run.step("what the hypervisor advertises");
    let advertised = vm.run("pmemctl abi")?;
    let has_them = advertised.trim() == ABI;
    ensure!(
        has_them || advertised.contains("No such file"),
        "it advertises {advertised}"
    );
    ensure!(
        run.hypervisor != Hypervisor::Stock || !has_them,
        "the stock hypervisor advertises {advertised}"
    );

    run.step("a hypervisor without the operations refuses their numbers, one with them refuses nonsense");
    // Sent to the stock hypervisor too: this version of it has not given the numbers away.
    let answers = vm.run("pmemctl blind")?;
    let expected = match has_them {
        true => "add: Invalid argument\nget: No such file or directory\n",
        false => "add: Function not implemented\nget: Function not implemented\n",
    };
    ensure!(answers == expected, "it answers {answers}");

    run.step("the tools ask first, and then send operations or none");
    record_hypercalls(&mut vm)?;
    vm.run("xen-pmem-report apply --early --all --dry-run")?;
    // The hypervisor is the only sink: the exit code says whether it knows the operation.
    vm.run_for(if has_them { 0 } else { 6 }, "xen-pmem-report apply --early --all")?;
    vm.load_nvdimm_drivers()?;
    vm.wait_for("/dev/pmem0p1")?;
    vm.run("xen-pmem-report apply --all")?;
    let status = vm.json(0, "xen-pmem-report status --json")?;
    let state = if has_them { "registered" } else { "unsupported" };
    ensure!(status["reservations"][0]["hypervisor"] == state, "status says {status}");
    vm.exec(&["xen-pmem-report", "doctor"], "")?;
    let made = hypercalls(&mut vm)?;
    ensure!(
        made.iter().any(|call| call.number == HYPFS_OP),
        "no tool has asked what the hypervisor has: {made:?}"
    );
    if has_them {
        ensure_asked_first(&made)?;
        operations(run, &mut vm, &prepared.layout)?;
    } else {
        ensure!(
            made.iter().all(|call| call.number == HYPFS_OP),
            "the hypervisor was sent something that it has not said that it has: {made:?}"
        );
    }
    run.power_off(vm)
}

/// Shows that the operations do their work and are protected.
fn operations(run: &Run<'_>, vm: &mut Vm, layout: &crate::layout::Layout) -> Result<()> {
    run.step("a report that is repeated changes nothing, and another one is refused");
    let base = vm.number("/sys/bus/nd/devices/region0/resource")? / FRAME;
    let end = base + NVDIMM_SIZE / FRAME;
    let reserved = base + layout.reserved_base / FRAME;
    let reserved_end = reserved + layout.reserved_size / FRAME;
    let ranges = |end: u64| format!("{base:x} {end:x} {reserved:x} {reserved_end:x}");
    let again = vm.run_for(1, &format!("pmemctl add {}", ranges(end)))?;
    ensure!(again.stdout.contains("File exists"), "{again:?}");
    let other = vm.run_for(1, &format!("pmemctl add {}", ranges(end - 512)))?;
    ensure!(other.stdout.contains("busy"), "{other:?}");
    let list = vm.run("pmemctl list")?;
    ensure!(list.lines().count() == 1, "pmemctl says {list}");

    run.step("what is written to the reserved area is discarded");
    let block = layout.reserved_base / FRAME;
    vm.script(&format!(
        "dd if=/dev/pmem0 of=/tmp/before bs={FRAME} skip={block} count=1 iflag=direct 2> /dev/null
        dd if=/dev/zero of=/dev/pmem0 bs={FRAME} seek={block} count=1 oflag=direct 2> /dev/null
        dd if=/dev/pmem0 of=/tmp/after bs={FRAME} skip={block} count=1 iflag=direct 2> /dev/null
        cmp /tmp/before /tmp/after"
    ))?;
    Ok(())
}

/// A hypercall that a program has made.
#[derive(Clone, Copy, Debug)]
struct Hypercall {
    number: u64,
    /// The first word at its first argument: of a platform operation, its number.
    command: Option<u64>,
}

/// Makes the kernel record the hypercalls of the reporter.
fn record_hypercalls(vm: &mut Vm) -> Result<()> {
    // `privcmd_ioctl(file, command, argument)` of the module xen_privcmd; the argument is `struct privcmd_hypercall`, in the program's
    // memory (Linux `drivers/xen/privcmd.c`, `Documentation/trace/kprobetrace.rst`).
    vm.script(
        "mkdir -p /sys/kernel/tracing
        mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
        cd /sys/kernel/tracing
        echo 'p:hypercall xen_privcmd:privcmd_ioctl number=+u0(%dx):u64 command=+u0(+u8(%dx)):u32' > kprobe_events
        echo 1 > events/kprobes/hypercall/enable
        echo > trace",
    )?;
    Ok(())
}

/// Returns what the kernel has recorded of the reporter, in order.
fn hypercalls(vm: &mut Vm) -> Result<Vec<Hypercall>> {
    let trace = vm.run("cat /sys/kernel/tracing/trace")?;
    trace
        .lines()
        .filter(|line| line.trim_start().starts_with("xen-pmem-report"))
        .map(|line| {
            let value = |name: &str| {
                let found = line.split_whitespace().find_map(|word| word.strip_prefix(name))?;
                found.parse().ok()
            };
            Ok(Hypercall {
                number: value("number=").with_context(|| format!("the kernel has recorded {line}"))?,
                command: value("command="),
            })
        })
        .collect()
}

/// Checks that operations were sent, and none before its program has asked for them.
fn ensure_asked_first(made: &[Hypercall]) -> Result<()> {
    for operation in [ADD, GET] {
        ensure!(
            made.iter()
                .any(|call| call.number == PLATFORM_OP && call.command == Some(operation)),
            "operation {operation} was not sent: {made:?}"
        );
    }
    ensure!(
        made.iter()
            .all(|call| call.number == HYPFS_OP || matches!(call.command, Some(ADD | GET))),
        "something else was sent: {made:?}"
    );
    ensure!(
        made.first().is_some_and(|call| call.number == HYPFS_OP),
        "an operation was sent before the tools have asked: {made:?}"
    );
    Ok(())
}
