//! Runs the scenarios: `cargo xtask e2e` makes what they need and starts this.

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use xen_pmem_integration::image::{self, MIB};
use xen_pmem_integration::manifest::Manifest;
use xen_pmem_integration::scenarios::{ALL, Scenario};
use xen_pmem_integration::vm::{Config, Kind, Nvdimm, Vm};

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--shell") {
        return match shell() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    // Listing needs nothing.
    let manifest = if arguments.list { None } else { Some(Manifest::from_environment()) };
    let manifest = match manifest.transpose() {
        Ok(manifest) => manifest.map(Arc::new),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let trials = ALL.iter().map(|scenario| trial(scenario, manifest.clone())).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(scenario: &'static Scenario, manifest: Option<Arc<Manifest>>) -> Trial {
    Trial::test(scenario.name, move || {
        let manifest = manifest.ok_or("no manifest")?;
        run(scenario, &manifest).map_err(|error| Failed::from(format!("{error:?}")))
    })
}

/// Runs a scenario in a folder of its own, which is kept if it fails or is asked for.
fn run(scenario: &Scenario, manifest: &Manifest) -> Result<()> {
    let folder = folder(manifest, scenario.name)?;
    let result = (scenario.run)(manifest, &folder);
    if result.is_ok() && !manifest.keep {
        std::fs::remove_dir_all(&folder)?;
        return Ok(());
    }
    eprintln!("{}: the VM's files and console logs are in {}", scenario.name, folder.display());
    result
}

/// A fresh folder for one run on one suite.
fn folder(manifest: &Manifest, name: &str) -> Result<PathBuf> {
    let folder = manifest.work.join(format!("{}-{name}", manifest.suite));
    remove(&folder)?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A Dom0 with a blank NVDIMM and its console on this terminal.
fn shell() -> Result<()> {
    let manifest = Manifest::from_environment()?;
    let folder = folder(&manifest, "shell")?;
    let nvdimm = folder.join("nvdimm");
    image::blank(&nvdimm, 512 * MIB)?;
    let config = Config { kind: Kind::Xen, nvdimms: vec![Nvdimm::unlabelled(&nvdimm)], shell: true };
    let mut vm = Vm::boot(&manifest, &folder, &config)?;
    vm.start_xenstored(&manifest.xen_version)?;
    vm.load_nvdimm_drivers()?;
    vm.wait()?;
    Ok(())
}
