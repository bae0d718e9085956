//! The domains that there are, by name.

use crate::xenstore::Error;
use std::collections::BTreeSet;
use std::io;
use xenstore_rs::Xs;
use xenstore_rs::unix::XsUnix;

/// Where XenStore has a directory for each domain.
const ROOT: &str = "/local/domain";

/// Returns the names of all domains of this host.
///
/// # Errors
///
/// If xenstored cannot be reached, and what XenStore says.
pub fn of_host() -> Result<BTreeSet<String>, Error> {
    names(&XsUnix::new().map_err(Error::Connect)?)
}

/// Returns the names of all domains.
///
/// # Errors
///
/// What XenStore says.
pub fn names(client: &impl Xs) -> Result<BTreeSet<String>, Error> {
    let domains = client.directory(ROOT).map_err(|error| Error::List {
        path: ROOT.to_owned(),
        error,
    })?;
    let mut names = BTreeSet::new();
    for domain in domains.iter().filter(|domain| !domain.is_empty()) {
        let path = format!("{ROOT}/{domain}/name");
        match client.read(&path) {
            Ok(name) => {
                names.insert(name.into());
            }
            // Not named yet, or gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::Read { path, error }),
        }
    }
    Ok(names)
}
