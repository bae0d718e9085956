//! `cargo xtask licences`: every dependency's licence is one that we may ship with, or an exception with a reason; and every C library
//! that a dependency links has its licence written down.

use crate::crates::{self, Package};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The rules: `licences.json` in the workspace's root.
#[derive(Deserialize)]
struct Rules {
    /// SPDX identifiers that any crate may have.
    allowed: BTreeSet<String>,
    /// Crates that may have another one.
    exceptions: BTreeMap<String, Exception>,
    /// The libraries other than crates that crates link, by their names in Cargo's `links`.
    linked: BTreeMap<String, Exception>,
}

#[derive(Deserialize)]
struct Exception {
    licence: String,
    reason: String,
}

/// Checks all packages that the lock file names.
///
/// # Errors
///
/// The packages whose licence is not allowed, and exceptions that nothing needs any more.
pub(crate) fn run() -> Result<()> {
    let path = workspace::root().join("licences.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rules: Rules = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    let packages = crates::all()?;
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !rules.allow(package))
        .map(|package| {
            format!(
                "{} {}: {}",
                package.name,
                package.version,
                package.license.as_deref().unwrap_or("none")
            )
        })
        .collect();
    if !refused.is_empty() {
        bail!("licences that are not allowed:\n  {}", refused.join("\n  "));
    }
    let unused: Vec<&String> = rules
        .exceptions
        .keys()
        .filter(|name| packages.iter().all(|package| package.name != **name))
        .collect();
    if !unused.is_empty() {
        bail!("exceptions in {} that no package needs: {unused:?}", path.display());
    }
    let linked: BTreeSet<&String> = packages.iter().filter_map(|package| package.links.as_ref()).collect();
    let explained = rules.linked.iter().filter(|(_, library)| library.is_complete());
    let explained: BTreeSet<&String> = explained.map(|(name, _)| name).collect();
    if linked != explained {
        bail!(
            "`linked` in {} has {explained:?}, the packages link {linked:?}: each takes a licence and a reason",
            path.display()
        );
    }
    println!("{} packages, all with a licence that is allowed", packages.len());
    Ok(())
}

impl Exception {
    fn is_complete(&self) -> bool {
        ![&self.licence, &self.reason].into_iter().any(String::is_empty)
    }
}

impl Rules {
    fn allow(&self, package: &Package) -> bool {
        let Some(licence) = package.license.as_deref() else {
            return false;
        };
        let excepted = self
            .exceptions
            .get(&package.name)
            .is_some_and(|exception| exception.licence == licence && exception.is_complete());
        excepted || allows(licence, &self.allowed)
    }
}

/// Returns whether one may choose allowed licences only: one of an `OR`, all of an `AND`. Parentheses are rare enough to be exceptions.
fn allows(expression: &str, allowed: &BTreeSet<String>) -> bool {
    if expression.contains('(') {
        return false;
    }
    expression
        .split(" OR ")
        .flat_map(|alternative| alternative.split('/'))
        .any(|alternative| {
            alternative
                .split(" AND ")
                .all(|licence| allowed.contains(licence.trim()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_and_conjunctions_are_told_apart() {
        let allowed: BTreeSet<String> = ["MIT", "BSD-3-Clause"].map(str::to_owned).into();
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 OR GPL-3.0-only", false),
            ("MIT AND BSD-3-Clause", true),
            ("MIT AND GPL-2.0-only", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
        ] {
            assert_eq!(allows(expression, &allowed), expected, "{expression}");
        }
    }
}
