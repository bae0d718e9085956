//! `guest list`: the claims there are.

use super::super::SCHEMA;
use super::{device_mapper, domain_names};
use serde::Serialize;
use uuid::Uuid;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

#[derive(Serialize)]
struct Document {
    schema: u32,
    claims: Vec<Claimed>,
}

#[derive(Serialize)]
struct Claimed {
    name: String,
    uuid: Uuid,
    partition: u32,
    domain: String,
    running: bool,
}

pub(crate) fn run(_: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let claims = device_mapper()?
        .claims()
        .map_err(|error| Failure::new(ExitStatus::Failed, error.to_string()))?;
    let domains = domain_names()?;
    let claims = claims.into_iter().map(|claim| Claimed {
        name: claim.name(),
        uuid: claim.reservation(),
        partition: claim.partition(),
        running: domains.contains(claim.domain()),
        domain: claim.domain().to_owned(),
    });
    let document = Document {
        schema: SCHEMA,
        claims: claims.collect(),
    };
    flags.print(&document, || text(&document))?;
    Ok(ExitStatus::Done)
}

fn text(document: &Document) -> String {
    let line = |claim: &Claimed| {
        let state = if claim.running {
            "which is there"
        } else {
            "which is not there"
        };
        format!(
            "partition {} of reservation {}: claimed for domain {}, {state}\n",
            claim.partition, claim.uuid, claim.domain
        )
    };
    document.claims.iter().map(line).collect()
}
