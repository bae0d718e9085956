//! Runs the scenarios: `cargo xtask e2e` makes what they need and starts this.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "run by developers, on a terminal or in CI"
)]

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use xen_pmem_integration::image::{self, MIB};
use xen_pmem_integration::machine::{Config, Iommu, Kind, Nvdimm};
use xen_pmem_integration::manifest::{Hypervisor, Manifest};
use xen_pmem_integration::scenarios::{Need, Run, Variant, variants};
use xen_pmem_integration::vm::{self, Vm};

/// Runs the end-to-end scenarios. `cargo xtask e2e` makes what they need and starts this.
#[derive(Parser)]
struct Cli {
    /// List the scenarios and end
    #[arg(long)]
    list: bool,
    /// Say what the scenarios need, a word each (hypervisors, and `system`), and end
    #[arg(long)]
    needs: bool,
    /// Leave out what needs CXL memory
    #[arg(long)]
    no_cxl: bool,
    /// Leave out what needs a hypervisor other than the stock one
    #[arg(long)]
    stock_only: bool,
    /// Give a shell in a Dom0 with a blank NVDIMM, or with this image as its NVDIMM
    #[arg(long, value_name = "IMAGE", num_args = 0..=1, require_equals = true)]
    shell: Option<Option<PathBuf>>,
    /// Boot each VM, snapshots or not
    #[arg(long)]
    boot: bool,
    /// Give machines with Xen this IOMMU
    #[arg(long, value_parser = iommu)]
    iommu: Option<Iommu>,
    /// How many scenarios run at once
    #[arg(long, value_name = "N")]
    test_threads: Option<usize>,
    /// Run these only
    scenarios: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(unknown) = cli
        .scenarios
        .iter()
        .find(|name| !variants().any(|variant| variant.is_called(name)))
    {
        let names: Vec<String> = variants().map(|variant| variant.name()).collect();
        eprintln!("there is no scenario {unknown}; there are: {}", names.join(", "));
        return ExitCode::from(2);
    }
    let mut wanted: Vec<Variant> = variants()
        .filter(|variant| cli.scenarios.is_empty() || cli.scenarios.iter().any(|name| variant.is_called(name)))
        .filter(|variant| !cli.no_cxl || !variant.scenario.needs.contains(&Need::Cxl))
        .filter(|variant| !cli.stock_only || variant.hypervisor == Hypervisor::Stock)
        .collect();
    if cli.list {
        for variant in wanted {
            println!("{:<28}{}", variant.name(), variant.scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    if cli.needs {
        for hypervisor in Hypervisor::ALL {
            if wanted.iter().any(|variant| variant.hypervisor == hypervisor) {
                println!("{}", hypervisor.as_str());
            }
        }
        for need in Need::ALL {
            if wanted.iter().any(|variant| variant.scenario.needs.contains(&need)) {
                println!("{}", need.as_str());
            }
        }
        return ExitCode::SUCCESS;
    }
    let manifest = match Manifest::from_environment() {
        Ok(manifest) => Arc::new(Manifest {
            snapshots: manifest.snapshots.filter(|_| !cli.boot),
            ..manifest
        }),
        Err(error) => return failed(&error),
    };
    if let Some(image) = &cli.shell {
        return shell(&manifest, image.as_deref()).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS);
    }
    // The longest first, so that no long one runs alone at the end.
    wanted.sort_by_key(|variant| !variant.scenario.needs.contains(&Need::System));
    let times = Arc::new(Mutex::new(BTreeMap::new()));
    let start_by = match start_by() {
        Ok(time) => time,
        Err(error) => return failed(&error),
    };
    let trials = wanted
        .into_iter()
        .map(|variant| {
            let times = Arc::clone(&times);
            trial(variant, Arc::clone(&manifest), cli.iommu, times, start_by)
        })
        .collect();
    let arguments = Arguments {
        test_threads: cli.test_threads,
        ..Arguments::default()
    };
    let begin = Instant::now();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Some scenarios, a failure, or other machines do not measure all of them.
    if cli.scenarios.is_empty()
        && cli.iommu.is_none()
        && !conclusion.has_failed()
        && conclusion.num_ignored == 0
        && let Err(error) = record(&manifest, &cli, begin.elapsed(), &times)
    {
        return failed(&error);
    }
    conclusion.exit_code()
}

/// The environment variable with the time after which no scenario is started, in seconds since 1970. Scenarios that it leaves out
/// are shown as ignored and do not fail the run.
const START_BY: &str = "XEN_PMEM_START_BY";

fn start_by() -> Result<Option<SystemTime>> {
    let Some(text) = std::env::var_os(START_BY) else {
        return Ok(None);
    };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let seconds = seconds.with_context(|| format!("{START_BY} is not a number of seconds: {}", text.display()))?;
    Ok(SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
}

/// Writes how long each scenario took, in seconds, for `cargo xtask bench`: of all, or of all on the stock hypervisor.
fn record(manifest: &Manifest, cli: &Cli, total: Duration, times: &Mutex<Times>) -> Result<()> {
    let which = if cli.stock_only { "stock" } else { "all" };
    let path = manifest.work.join(format!("{}-{which}.times.json", manifest.suite));
    let times = times.lock().map_err(|_| anyhow!("a scenario has panicked"))?;
    let document = json!({ "threads": cli.test_threads, "seconds": total.as_secs_f64(), "scenarios": *times });
    std::fs::write(&path, document.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// Returns the IOMMU of this name.
fn iommu(name: &str) -> Result<Iommu, String> {
    let found = Iommu::ALL.into_iter().find(|iommu| iommu.as_str() == name);
    found.ok_or_else(|| format!("there are: {}", Iommu::ALL.map(Iommu::as_str).join(", ")))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::FAILURE
}

/// Names of scenarios, and how many seconds each took.
type Times = BTreeMap<String, f64>;

fn trial(
    variant: Variant,
    manifest: Arc<Manifest>,
    iommu: Option<Iommu>,
    times: Arc<Mutex<Times>>,
    start_by: Option<SystemTime>,
) -> Trial {
    Trial::ignorable_test(variant.name(), move || {
        if start_by.is_some_and(|time| SystemTime::now() > time) {
            return Ok(Completion::ignored_with("the time is up"));
        }
        let begin = Instant::now();
        run(variant, &manifest, iommu).map_err(|error| Failed::from(story(&error)))?;
        let mut times = times
            .lock()
            .map_err(|_| Failed::from("another scenario has panicked"))?;
        times.insert(variant.name(), begin.elapsed().as_secs_f64());
        Ok(Completion::Completed)
    })
}

/// Runs a scenario in its own folder, which stays if the scenario fails or the caller wants it.
fn run(variant: Variant, manifest: &Manifest, iommu: Option<Iommu>) -> Result<()> {
    let folder = folder(manifest, &variant.name())?;
    let run = Run::new(variant, manifest, &folder, iommu);
    let result = (variant.scenario.run)(&run).with_context(|| {
        format!(
            "at the step `{}`; images and console logs are in {}",
            run.current_step(),
            folder.display()
        )
    });
    match result {
        Ok(()) if manifest.keep => eprintln!(
            "{}: images and console logs are in {}",
            variant.name(),
            folder.display()
        ),
        Ok(()) => std::fs::remove_dir_all(&folder)?,
        Err(error) => {
            let kind = kind_of(&error);
            return Err(error.context(kind));
        }
    }
    Ok(())
}

/// Returns an error and its causes, one a line.
fn story(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Tells apart what has to be looked for in different places.
fn kind_of(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref::<vm::Error>() {
        Some(vm::Error::NotUp { .. }) => "THE VM DID NOT COME UP, nothing was tested",
        Some(vm::Error::Crashed { .. } | vm::Error::Hung { .. }) => "THE VM WAS LOST",
        _ => "the test failed",
    }
}

/// Returns a fresh folder for one run on one suite.
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

/// Runs a Dom0 with an NVDIMM and its console on this terminal.
fn shell(manifest: &Manifest, image: Option<&Path>) -> Result<()> {
    let folder = folder(manifest, "shell")?;
    let nvdimm = match image {
        Some(image) => image.to_owned(),
        None => {
            let nvdimm = folder.join("nvdimm");
            image::blank(&nvdimm, 512 * MIB)?;
            nvdimm
        }
    };
    let config = Config {
        interactive: true,
        ..Config::new(Kind::Xen, vec![Nvdimm::unlabelled(&nvdimm)])
    };
    let mut vm = Vm::boot(manifest, &folder, &config)?;
    vm.start_xenstored(&manifest.xen_version)?;
    vm.load_nvdimm_drivers()?;
    vm.start_shell()?;
    vm.wait()?;
    Ok(())
}
