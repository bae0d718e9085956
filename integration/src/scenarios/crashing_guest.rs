//! The other scenarios can be believed only if a guest that is lost is noticed.

use super::Run;
use crate::machine::{Config, Kind};
use crate::vm::{Error, Vm};
use anyhow::{Result, bail, ensure};
use std::time::{Duration, Instant};

/// Far below what a step may take, far above what a crash takes.
const AT_ONCE: Duration = Duration::from_secs(60);

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    run.step("a guest without a first process does not come up");
    let config = Config {
        linux: vec!["rdinit=/nothing".to_owned()],
        ..Config::new(Kind::Bare, Vec::new())
    };
    match Vm::boot(run.manifest, run.folder, &config) {
        Err(Error::NotUp { reason, .. }) => ensure!(reason.contains("Kernel panic"), "the reason is {reason}"),
        Err(other) => bail!("not called a guest that did not come up: {other}"),
        Ok(_) => bail!("it came up"),
    }

    // Under Xen: the kernel's panic is a crash of Dom0.
    let mut vm = run.boot(Kind::Xen, &[])?;
    run.step("Dom0 crashes");
    let start = Instant::now();
    match vm.exec(&["sh", "-c", "echo c > /proc/sysrq-trigger"], "") {
        Err(Error::Crashed { tail, .. }) => {
            ensure!(
                tail.contains("sysrq"),
                "the end of the console does not show the crash:\n{tail}"
            );
        }
        other => bail!("not called a crash: {other:?}"),
    }
    ensure!(
        start.elapsed() < AT_ONCE,
        "noticed only after {} s",
        start.elapsed().as_secs()
    );
    Ok(())
}
