//! `guest release`: the partitions are Dom0's again.

use super::super::{SCHEMA, take_turn};
use super::{device_mapper, domain_names, name_of, refused};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_nvdimm::guest_claim::Claim;
use xen_pmem_nvdimm::sysfs::SysfsRoot;

/// How often it is looked whether domains are there.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a domain must not be there to be gone: one that reboots is away for a moment.
const GONE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct Arguments {
    /// Partitions by node (/dev/pmem0p1)
    #[arg(value_name = "PARTITION", group = "what")]
    partitions: Vec<PathBuf>,
    /// All claims for the domain of this name
    #[arg(long, value_name = "NAME", group = "what")]
    domain: Option<String>,
    /// All claims for domains that are not there
    #[arg(long, group = "what")]
    gone: bool,
    /// Wait until the domains have been there and are gone, then release
    #[arg(long, conflicts_with = "gone")]
    wait: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    released: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let chosen = choose(arguments)?;
    if arguments.wait {
        let domains: BTreeSet<&str> = chosen.iter().map(Claim::domain).collect();
        for domain in domains {
            wait(domain)?;
        }
    }
    let _turn = take_turn()?;
    let mapper = device_mapper()?;
    let domains = domain_names()?;
    if let Some(claim) = chosen.iter().find(|claim| domains.contains(claim.domain())) {
        let error = format!(
            "{claim}: domain {} has it; shut that down first, or say --wait",
            claim.domain()
        );
        return Err(Failure::new(ExitStatus::Refused, error));
    }
    let mut document = Document {
        schema: SCHEMA,
        released: Vec::new(),
    };
    for claim in &chosen {
        mapper
            .release(claim)
            .map_err(|error| refused(&claim.to_string(), &error))?;
        document.released.push(claim.name());
    }
    flags.print(&document, || {
        chosen.iter().map(|claim| format!("{claim}: released\n")).collect()
    })?;
    Ok(ExitStatus::Done)
}

/// Returns the claims that are meant.
fn choose(arguments: &Arguments) -> Result<Vec<Claim>, Failure> {
    if !arguments.partitions.is_empty() {
        return arguments.partitions.iter().map(|path| held(path)).collect();
    }
    let claims = device_mapper()?.claims();
    let mut claims = claims.map_err(|error| Failure::new(ExitStatus::Failed, error.to_string()))?;
    if let Some(domain) = &arguments.domain {
        claims.retain(|claim| claim.domain() == domain);
        if claims.is_empty() {
            let error = format!("nothing is claimed for domain {domain}; `xen-pmem-report guest list` lists what is");
            return Err(Failure::new(ExitStatus::NothingPrepared, error));
        }
        return Ok(claims);
    }
    let domains = domain_names()?;
    claims.retain(|claim| !domains.contains(claim.domain()));
    Ok(claims)
}

/// Returns the claim that holds the partition with this node.
fn held(path: &Path) -> Result<Claim, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let fail = |status, error: &str| Failure::new(status, format!("{}: {error}", name_of(path)));
    let metadata = std::fs::metadata(path).map_err(|error| fail(ExitStatus::Failed, &error.to_string()))?;
    let number = format!(
        "{}:{}",
        rustix::fs::major(metadata.rdev()),
        rustix::fs::minor(metadata.rdev())
    );
    let folder = SysfsRoot::default().block_device_numbered(&number);
    let holders = folder.map(|folder| folder.child("holders"));
    let claim = holders.and_then(|holders| {
        let entries = std::fs::read_dir(holders.path()).ok()?.flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.find_map(|name| Claim::of_holder(&holders.child(&name)))
    });
    claim.ok_or_else(|| fail(ExitStatus::NothingPrepared, "is not claimed"))
}

/// Waits until a domain has been there and is gone.
fn wait(domain: &str) -> Result<(), Failure> {
    let mut left: Option<Instant> = None;
    let mut was_there = false;
    loop {
        if domain_names()?.contains(domain) {
            (was_there, left) = (true, None);
        } else if was_there && left.get_or_insert_with(Instant::now).elapsed() >= GONE {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}
