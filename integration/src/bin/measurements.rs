//! Measures in machines and prints one JSON document: `cargo xtask bench` makes what this needs, starts it and renders the document.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "run by developers, on a terminal or in CI"
)]

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::{Map, Value};
use std::process::ExitCode;
use xen_pmem_integration::manifest::Manifest;
use xen_pmem_integration::measurements::{ALL, Measurement};

/// Measures in machines and prints one JSON document. `cargo xtask bench` makes what this needs, starts it and renders the document.
#[derive(Parser)]
struct Cli {
    /// Say what the measurements need, a word each (hypervisors, `system` and `toolstack`), and end
    #[arg(long)]
    needs: bool,
    /// What is measured
    #[arg(required = true, value_parser = named)]
    measurements: Vec<&'static Measurement>,
}

fn named(name: &str) -> Result<&'static Measurement, String> {
    let names: Vec<&str> = ALL.iter().map(|measurement| measurement.name).collect();
    ALL.iter()
        .find(|measurement| measurement.name == name)
        .ok_or_else(|| format!("there are: {}", names.join(", ")))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.needs {
        for measurement in &cli.measurements {
            println!("{}", measurement.hypervisor.as_str());
            if measurement.system {
                println!("system");
            }
            if measurement.toolstack {
                println!("toolstack");
            }
        }
        return ExitCode::SUCCESS;
    }
    match run(&cli.measurements) {
        Ok(document) => {
            println!("{document}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(measurements: &[&Measurement]) -> Result<Value> {
    let manifest = Manifest::from_environment()?;
    let mut document = Map::new();
    for measurement in measurements {
        let folder = manifest
            .work
            .join(format!("{}-measured-{}", manifest.suite, measurement.name));
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let measured = measurement.run(&manifest, &folder).with_context(|| {
            format!(
                "{}; images and console logs are in {}",
                measurement.name,
                folder.display()
            )
        })?;
        document.insert(measurement.name.to_owned(), measured);
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(Value::Object(document))
}
