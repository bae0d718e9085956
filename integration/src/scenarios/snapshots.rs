//! The other scenarios prove something only if machines from one snapshot are independent machines, with the tools under test.

use super::Run;
use crate::machine::Kind;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, SystemTime};

/// How far the clocks of host and guest may be apart.
const APART: Duration = Duration::from_secs(30);

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let mut machines = [run.boot(Kind::Xen, &[])?, run.boot(Kind::Xen, &[])?];
    run.step("each has random numbers of its own");
    let [one, other] = &mut machines;
    let [first, second] = [random(one)?, random(other)?];
    ensure!(first != second, "both made {first}");
    own(run, one)?;
    own(run, other)?;
    run.step("what one writes the other does not see");
    one.write("/run/mark", "mark")?;
    ensure!(
        other.exec(&["test", "-e", "/run/mark"], "")?.code == Some(1),
        "both see one file"
    );
    for vm in machines {
        run.leave(vm)?;
    }
    Ok(())
}

fn random(vm: &mut Vm) -> Result<String> {
    vm.attribute("/proc/sys/kernel/random/uuid")
}

/// Shows that a machine has the right time, and the host's programs.
fn own(run: &Run<'_>, vm: &mut Vm) -> Result<()> {
    run.step("each has the time");
    let time = Duration::from_secs(vm.run("date +%s")?.trim().parse()?);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    ensure!(now.abs_diff(time) < APART, "its clock says {time:?}, it is {now:?}");
    run.step("each has the tools as they are now");
    let sum = vm.run("sha256sum /tools/xen-pmem-provision")?;
    let output = std::process::Command::new("sha256sum")
        .arg(&run.manifest.provision)
        .output()
        .context("starting sha256sum on the host")?;
    let expected = String::from_utf8(output.stdout)?;
    let of = |text: &str| text.split_whitespace().next().map(str::to_owned);
    ensure!(
        of(&sum).is_some() && of(&sum) == of(&expected),
        "it has {sum}, not {expected}"
    );
    Ok(())
}
