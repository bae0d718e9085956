//! The domains that there are, by name.

use anyhow::Context as _;
use std::collections::BTreeSet;
use std::io;
use xenstore_rs::Xs;

/// Where XenStore has a directory for each domain.
const ROOT: &str = "/local/domain";

/// The names of all domains.
///
/// # Errors
///
/// What XenStore says.
pub fn names(client: &impl Xs) -> anyhow::Result<BTreeSet<String>> {
    let domains = client
        .directory(ROOT)
        .with_context(|| format!("cannot list {ROOT} in XenStore"))?;
    let mut names = BTreeSet::new();
    for domain in domains.iter().filter(|domain| !domain.is_empty()) {
        let path = format!("{ROOT}/{domain}/name");
        match client.read(&path) {
            Ok(name) => {
                names.insert(name.into());
            }
            // Not named yet, or gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {path} in XenStore")),
        }
    }
    Ok(names)
}
