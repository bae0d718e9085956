//! Others at the same device at the same time: a second provisioner, a lock, readers of the partition table, its removal.

use super::Run;
use crate::machine::Kind;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let nvdimm = run.blank_nvdimm()?;
    let mut vm = run.boot_with_pmem(Kind::Bare, &nvdimm)?;

    run.step("two provisioners at once: one prepares, the other is refused");
    for _ in 0..5 {
        let codes = vm.script(
            "xen-pmem-provision init -q /dev/pmem0 2>/run/one & one=$!\n\
             xen-pmem-provision init -q /dev/pmem0 2>/run/other & other=$!\n\
             wait $one && a=0 || a=$?\n\
             wait $other && b=0 || b=$?\n\
             echo $a $b",
        )?;
        let mut codes: Vec<&str> = codes.split_whitespace().collect();
        codes.sort_unstable();
        ensure!(codes == ["0", "3"], "they ended with {codes:?}");
        vm.run("xen-pmem-provision verify /dev/pmem0")?;
        vm.run("xen-pmem-provision remove -q /dev/pmem0")?;
        vm.script("dd if=/dev/zero of=/dev/pmem0 bs=1M count=2 conv=fsync; dd if=/dev/zero of=/dev/pmem0 bs=1M seek=511 count=1 conv=fsync")?;
    }

    run.step("a lock that another program holds");
    vm.run("xen-pmem-provision init -q /dev/pmem0")?;
    vm.script(
        "flock /dev/pmem0 sleep 60 >/dev/null 2>&1 & echo $! > /run/holder
        while flock --nonblock /dev/pmem0 true; do :; done",
    )?;
    let refused = vm.run_for(3, "xen-pmem-provision remove /dev/pmem0")?;
    ensure!(refused.stderr.contains("locked"), "the refusal says {}", refused.stderr);
    vm.run("xen-pmem-provision verify -q /dev/pmem0")?;
    vm.script("kill $(cat /run/holder); pid=$(pidof sleep) && kill $pid; true")?;

    run.step("a partition that is open");
    vm.script("exec 9</dev/pmem0p1; sleep 60 >/dev/null 2>&1 & echo $! > /run/holder")?;
    vm.run("xen-pmem-provision verify -q /dev/pmem0")?;
    vm.script("kill $(cat /run/holder)")?;

    run.step("others read the partition table all the time");
    vm.script(
        "while true; do blockdev --rereadpt /dev/pmem0; done >/dev/null 2>&1 & echo $! > /run/reader\n\
         while true; do partprobe /dev/pmem0; done >/dev/null 2>&1 & echo $! > /run/prober",
    )?;
    for _ in 0..8 {
        init_until_free(&mut vm)?;
        vm.run("xen-pmem-provision verify /dev/pmem0")?;
    }
    vm.script(
        "kill $(cat /run/reader) $(cat /run/prober); while pidof partprobe blockdev; do sleep 0.1; done >/dev/null",
    )?;

    run.step("the device disappears");
    vm.script(
        "(while true; do xen-pmem-provision init -q --force /dev/pmem0 2>/run/gone || { echo $? > /run/code; break; }; done) >/dev/null 2>&1 & sleep 0.3",
    )?;
    // ndctl refuses while it is in use; hardware does not ask.
    vm.script("echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind")?;
    vm.wait_for("/run/code")?;
    let said = vm.run("cat /run/gone")?;
    let code = vm.attribute("/run/code")?;
    ensure!(
        code == "1" || code == "3",
        "with the device gone, init ended with exit code {code}: {said}"
    );
    let last = said.lines().last().context("with the device gone, init said nothing")?;
    ensure!(last.contains("/dev/pmem0: "), "with the device gone, init said {said}");
    vm.script("echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/bind")?;
    vm.wait_for("/dev/pmem0")?;
    let state = vm.json(0, "xen-pmem-provision show --json /dev/pmem0")?;
    ensure!(
        state["state"] == "prepared" || state["state"] == "degraded",
        "it came back {state}"
    );
    vm.run("xen-pmem-provision repair /dev/pmem0")?;
    vm.run("xen-pmem-provision verify /dev/pmem0")?;
    run.leave(vm)
}

/// Prepares the device anew. While others hold one of its partitions that is refused, and worth another try.
fn init_until_free(vm: &mut Vm) -> Result<()> {
    for _ in 0..20 {
        let output = vm.exec(&["xen-pmem-provision", "init", "-q", "--force", "/dev/pmem0"], "")?;
        match output.code {
            Some(0) => return Ok(()),
            Some(3) => ensure!(output.stderr.contains("in use"), "refused with {}", output.stderr),
            code => anyhow::bail!("init ended with {code:?}: {}", output.stderr),
        }
    }
    anyhow::bail!("init was refused twenty times in a row")
}
