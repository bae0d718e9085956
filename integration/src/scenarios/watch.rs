//! `watch` on a host without udev: reports appear and go with their devices, also when `watch` or xenstored starts again.

use super::{NVDIMM_SIZE, Run};
use crate::machine::{Config, Kind, Nvdimm};
use crate::poll;
use crate::vm::Vm;
use crate::xenstore;
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// How long a report may take: a xenstored that was started anew is noticed within five seconds.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let first = run.prepared_nvdimm("first", NVDIMM_SIZE)?;
    let second = run.prepared_nvdimm("second", NVDIMM_SIZE)?;
    let [one, two] = [&first, &second].map(|prepared| prepared.layout.uuid.as_str());

    run.step("boot Xen");
    let mut vm = run.boot_as(Config::new(Kind::Xen, vec![Nvdimm::unlabelled(&first.file)]))?;
    vm.start_xenstored(&run.manifest.xen_version)?;
    let watch = start(&mut vm, 1)?;
    run.step("a device that appears is reported");
    vm.load_nvdimm_drivers()?;
    published(&mut vm, &[one])?;
    run.step("so is one that is plugged in");
    vm.plug(2, &Nvdimm::unlabelled(&second.file))?;
    published(&mut vm, &[one, two])?;
    run.step("one that goes is withdrawn, and reported again when it comes back");
    vm.run("ndctl disable-namespace namespace1.0")?;
    published(&mut vm, &[one])?;
    vm.run("ndctl enable-namespace namespace1.0")?;
    published(&mut vm, &[one, two])?;

    run.step("nothing changes when it is killed and started anew");
    vm.run(&format!("kill -KILL {watch}"))?;
    let silence = xenstore::Watch::start(&mut vm)?;
    let watch = start(&mut vm, 2)?;
    vm.wait_for("/run/watch-2.events")?;
    settle(&mut vm, 2, 2)?;
    silence.ensure_silent(&mut vm)?;
    published(&mut vm, &[one, two])?;

    run.step("what went while it was away is withdrawn at its start");
    vm.run(&format!("kill -KILL {watch}"))?;
    vm.run("ndctl disable-namespace namespace1.0")?;
    let watch = start(&mut vm, 3)?;
    published(&mut vm, &[one])?;
    vm.run("ndctl enable-namespace namespace1.0")?;
    published(&mut vm, &[one, two])?;

    run.step("a copied disk: neither is reported, and the one that is left is");
    let copy = run.folder.join("copy");
    std::fs::copy(&first.file, &copy)?;
    vm.plug(3, &Nvdimm::unlabelled(&copy))?;
    published(&mut vm, &[two])?;
    // Told by name, it is the same.
    vm.run_for(3, "xen-pmem-report apply /dev/pmem0")?;
    vm.run("ndctl disable-namespace namespace2.0")?;
    published(&mut vm, &[one, two])?;

    run.step("xenstored is started anew");
    let xenstored = vm.attribute("/run/xenstored/pid")?;
    vm.run(&format!("kill -KILL {xenstored}"))?;
    vm.script("rm -f /run/xenstored/socket /run/xenstored/pid")?;
    vm.start_xenstored_again(&run.manifest.xen_version)?;
    published(&mut vm, &[one, two])?;

    run.step("SIGTERM ends it, and leaves what is published");
    vm.run(&format!("kill -TERM {watch}"))?;
    vm.wait_for("/run/watch-3.exit")?;
    ensure!(vm.attribute("/run/watch-3.exit")? == "0", "it ended with a failure");
    published(&mut vm, &[one, two])?;
    run.leave(vm)
}

/// Starts `watch` for the `number`th time, and returns its process.
fn start(vm: &mut Vm, number: u32) -> Result<String> {
    let script = format!(
        "xen-pmem-report watch --json > /run/watch-{number}.events 2> /run/watch-{number}.err &
        echo $! > /run/watch-{number}.pid; wait $!; echo $? > /run/watch-{number}.exit"
    );
    vm.spawn(&["sh", "-c", &script])?;
    vm.wait_for(&format!("/run/watch-{number}.pid"))?;
    vm.attribute(&format!("/run/watch-{number}.pid"))
}

/// Waits until run `number` has made this number of reports.
fn settle(vm: &mut Vm, number: u32, reports: usize) -> Result<()> {
    let mut events = String::new();
    poll::until(&format!("{reports} reports"), LIMIT, || {
        events = vm.run(&format!("cat /run/watch-{number}.events"))?;
        Ok((events.lines().count() >= reports).then_some(()))
    })
    .with_context(|| format!("it has reported {events}"))
}

/// Waits until exactly these reservations are published.
fn published(vm: &mut Vm, uuids: &[&str]) -> Result<()> {
    let mut expected: Vec<String> = uuids
        .iter()
        .map(|uuid| format!("{}/{uuid}/state", xenstore::ROOT))
        .collect();
    expected.sort();
    let mut last = String::new();
    let settled = poll::until("XenStore has what is expected", LIMIT, || {
        let nodes = xenstore::nodes(vm)?;
        let found: Vec<&str> = nodes
            .iter()
            .filter(|(path, value)| path.ends_with("/state") && value == "ready")
            .map(|(path, _)| path.as_str())
            .collect();
        let directories = nodes.iter().filter(|(path, _)| path.matches('/').count() == 3).count();
        last = format!("{nodes:?}");
        Ok((found == expected && directories == expected.len()).then_some(()))
    });
    if let Err(error) = settled {
        let log = vm.script("cat /run/watch-*.err")?;
        return Err(error.context(format!("XenStore has {last}, not {expected:?}; {log}")));
    }
    Ok(())
}
