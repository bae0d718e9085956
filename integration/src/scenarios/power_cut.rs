//! Power cuts at random moments: QEMU is killed while the guest writes its NVDIMM's layout again and again.

use super::Run;
use crate::image::{self, MIB};
use crate::machine::Kind;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// How often the power is cut.
const CUTS: u64 = 20;
/// The longest that the guest writes before that: about as long as a few of its commands take.
const LONGEST: Duration = Duration::from_millis(600);
/// The environment variable that repeats a run's moments.
const SEED: &str = "XEN_PMEM_SEED";

const NVDIMM_SIZE: u64 = 64 * MIB;
/// Bytes that lie in a partition of each of the layouts that the guest makes, and what is in them.
const DATA: (u64, u8) = (40 * MIB, 0xa7);
const DATA_SIZE: usize = 20 << 20;

/// Makes, changes, damages and heals layouts, one after the other from a given one on, until the power fails. Skips what is impossible
/// after the last power cut. The damage is what a tool that does not know super blocks could do to a sound device: if a power cut has left
/// only one copy, the loss of that one cannot be healed.
const CHANGES: [&str; 8] = [
    "xen-pmem-provision init -q --force --reserve 16M --partition rest /dev/pmem0",
    "xen-pmem-provision resize -q --reserve 8M /dev/pmem0",
    "xen-pmem-provision resize -q --reserve 12M /dev/pmem0",
    "xen-pmem-provision verify -q /dev/pmem0 && dd if=/dev/zero of=/dev/pmem0 bs=4096 seek=128 count=1 conv=fsync 2>/dev/null",
    "xen-pmem-provision repair -q /dev/pmem0",
    "xen-pmem-provision init -q --force --reserve 8M --partition 8M --partition rest /dev/pmem0",
    "xen-pmem-provision verify -q /dev/pmem0 && dd if=/dev/zero of=/dev/pmem0 bs=4096 count=2 conv=fsync 2>/dev/null",
    "xen-pmem-provision repair -q /dev/pmem0",
];

pub(super) fn run(run: &Run<'_>) -> Result<()> {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().with_context(|| format!("{SEED} is no number"))?,
        Err(_) => 20_260_101,
    };
    run.step(&format!("{CUTS} power cuts, {SEED}={seed}"));
    let nvdimm = run.folder.join("nvdimm");
    image::blank(&nvdimm, NVDIMM_SIZE)?;
    image::write(&nvdimm, DATA.0, &vec![DATA.1; DATA_SIZE])?;
    let mut random = Random(seed);
    let mut states = [0; 2];
    for cut in 1..=CUTS {
        let mut vm = run.boot_with_pmem(Kind::Bare, &nvdimm)?;
        if cut == 1 {
            // From here on there is a reservation at every moment.
            vm.run("xen-pmem-provision init -q --force /dev/pmem0")?;
        }
        let first = usize::try_from(random.below(u64::try_from(CHANGES.len())?))?;
        let (later, sooner) = CHANGES.split_at(first);
        let changes = [sooner, later].concat().join("\n");
        vm.write("/run/loop", &format!("while true; do\n{changes}\ndone\n"))?;
        vm.spawn(&["/usr/bin/busybox", "sh", "/run/loop"])?;
        let moment = Duration::from_micros(random.below(u64::try_from(LONGEST.as_micros())?));
        run.step(&format!("cut {cut}, {} ms from change {first} on", moment.as_millis()));
        std::thread::sleep(moment);
        vm.cut_power();
        let degraded = usize::from(check(run, &nvdimm)?);
        if let Some(count) = states.get_mut(degraded) {
            *count += 1;
        }
    }
    let [prepared, degraded] = states;
    run.step(&format!(
        "found prepared {prepared} times, to be repaired {degraded} times"
    ));
    Ok(())
}

/// Opens the image on the host: there is a reservation, its user data is untouched, and `repair` heals what is left to heal.
/// Returns whether there was.
fn check(run: &Run<'_>, nvdimm: &Path) -> Result<bool> {
    let shown = provision(run, "show", nvdimm)?;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(
        shown.status.code() == Some(0),
        "after the power cut show says {text}{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    let document: serde_json::Value = serde_json::from_str(&text)?;
    let state = document["state"].as_str().unwrap_or_default().to_owned();
    ensure!(
        state == "prepared" || state == "degraded",
        "after the power cut the state is {text}"
    );
    let data = image::read(nvdimm, DATA.0, DATA_SIZE)?;
    ensure!(
        data == vec![DATA.1; DATA_SIZE],
        "the power cut changed the user's data: {text}"
    );

    let healed = nvdimm.with_extension("healed");
    std::fs::copy(nvdimm, &healed)?;
    for command in ["repair", "verify"] {
        let output = provision(run, command, &healed)?;
        ensure!(
            output.status.success(),
            "{command} after the power cut: {}{}; it was {text}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    std::fs::remove_file(&healed)?;
    Ok(state == "degraded")
}

fn provision(run: &Run<'_>, command: &str, image: &Path) -> Result<Output> {
    let program = &run.manifest.provision;
    let output = Command::new(program).args([command, "--json"]).arg(image).output();
    output.with_context(|| format!("cannot start {}", program.display()))
}

/// A small source of random numbers that a seed repeats (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit.max(1)
    }
}
