//! XenStore: the nodes of a report, in the order in which they are written.
//!
//! `docs/xenstore.md` is the specification. Without transactions readers rely on the order: `state` is written last and removed first, so
//! a reader that finds `ready` reads a whole report.

use crate::report::Report;
use crate::sink::{Outcome, Receipt, Registration};
use std::collections::BTreeMap;
use std::io;
use uuid::Uuid;
use xen_pmem_format::units::{Bytes, PAGE, PhysAddr, PhysRange};
use xenstore_rs::Xs;

/// The directory of all reports.
pub const ROOT: &str = "/tool/xen-pmem";
/// The version of the nodes' schema, the value of `schema`.
pub const SCHEMA: &str = "1";
/// The node that makes a report valid, and its value.
const STATE: (&str, &str) = ("state", "ready");

/// The hypervisor's answer to the report, and the number of frames of the reserved area that it uses. Absent if it was not asked.
const HYPERVISOR: &str = "hypervisor";
const FRAMES_USED: &str = "frames-used";
const REGISTERED: &str = "registered";
/// What the platform says: the NUMA node, the persistence domain, what has happened to the NVDIMMs. Each is absent if it says nothing.
const PLATFORM: [&str; 3] = ["numa-node", "persistence-domain", "health"];
const UNSUPPORTED: &str = "unsupported";

/// Why XenStore was not read or not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection cannot be made.
    #[error("cannot reach xenstored: is it running (systemctl status xenstored), and are you root?: {0}")]
    Connect(io::Error),
    /// A directory cannot be listed.
    #[error("cannot list {path} in XenStore: {error}")]
    List {
        /// The directory.
        path: String,
        /// What XenStore said.
        error: io::Error,
    },
    /// A node cannot be read.
    #[error("cannot read {path} in XenStore: {error}")]
    Read {
        /// The node.
        path: String,
        /// What XenStore said.
        error: io::Error,
    },
    /// A node cannot be written.
    #[error("cannot write {path} in XenStore: {error}")]
    Write {
        /// The node.
        path: String,
        /// What XenStore said.
        error: io::Error,
    },
    /// A node cannot be removed.
    #[error("cannot remove {path} in XenStore: {error}")]
    Remove {
        /// The node.
        path: String,
        /// What XenStore said.
        error: io::Error,
    },
}

/// Returns the directory of one reservation.
pub fn directory(uuid: Uuid) -> String {
    format!("{ROOT}/{uuid}")
}

/// Returns the nodes of a report but `state`, as paths relative to its directory: decimal integers of bytes, except `device` and what the
/// platform says.
pub(crate) fn nodes(report: &Report) -> BTreeMap<String, String> {
    let mut nodes = BTreeMap::from([
        ("schema".to_owned(), SCHEMA.to_owned()),
        ("device".to_owned(), report.device().to_owned()),
        ("range-base".to_owned(), report.range().base().0.to_string()),
        ("range-size".to_owned(), report.range().size().0.to_string()),
        ("reserved-base".to_owned(), report.reserved().base().0.to_string()),
        ("reserved-size".to_owned(), report.reserved().size().0.to_string()),
    ]);
    for partition in report.data() {
        let base = format!("data/{}", partition.number);
        nodes.insert(format!("{base}/base"), partition.range.0.base().0.to_string());
        nodes.insert(format!("{base}/size"), partition.range.0.size().0.to_string());
    }
    let platform = report.platform();
    let health: Vec<&str> = platform.health.iter().map(|health| health.as_str()).collect();
    let values = [
        report.numa_node().map(|node| node.to_string()),
        platform.persistence_domain.map(|domain| domain.as_str().to_owned()),
        (!health.is_empty()).then(|| health.join(" ")),
    ];
    let known = PLATFORM.into_iter().zip(values);
    nodes.extend(known.filter_map(|(name, value)| Some((name.to_owned(), value?))));
    nodes
}

/// Returns the nodes that say what the hypervisor says.
fn verdict_nodes(verdict: Registration) -> Vec<(String, String)> {
    let node = |name: &str, value: String| (name.to_owned(), value);
    match verdict {
        Registration::Unsupported => vec![node(HYPERVISOR, UNSUPPORTED.to_owned())],
        Registration::Registered { used } => vec![
            node(HYPERVISOR, REGISTERED.to_owned()),
            node(FRAMES_USED, used.0.div_euclid(PAGE.0).to_string()),
        ],
    }
}

/// Returns the hypervisor's answer for these ranges, if it is known. It is valid until the next boot, and XenStore does not outlive that.
fn known_verdict(there: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let same = ["range-base", "range-size", "reserved-base", "reserved-size"]
        .iter()
        .all(|name| there.get(*name) == wanted.get(*name));
    let kept = |name: &str| there.get(name).map(|value| (name.to_owned(), value.clone()));
    if same {
        [HYPERVISOR, FRAMES_USED].into_iter().filter_map(kept).collect()
    } else {
        Vec::new()
    }
}

/// XenStore behind a client: xenstored's in earnest, a recorder in tests.
pub struct XenStore<X> {
    client: X,
}

/// One reservation as XenStore has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The name of its directory: a UUID, unless somebody else wrote there.
    pub name: String,
    /// Its leaves, by their path relative to the directory.
    pub nodes: BTreeMap<String, String>,
}

impl Published {
    /// Returns what XenStore has otherwise than `report` says; `None` if they agree.
    pub fn difference(&self, report: &Report) -> Option<String> {
        if !self.is_ready() {
            return Some("the report is not whole".to_owned());
        }
        let mut there = self.nodes.clone();
        for name in [STATE.0, HYPERVISOR, FRAMES_USED] {
            there.remove(name);
        }
        let wanted = nodes(report);
        // A report of an older version lacks these, and is right all the same.
        let is_older = |path: &String| PLATFORM.contains(&path.as_str()) && !there.contains_key(path);
        let differs = |path: &&String| there.get(*path) != wanted.get(*path) && !is_older(path);
        let mut paths: Vec<&String> = there.keys().chain(wanted.keys()).filter(differs).collect();
        paths.sort();
        paths.dedup();
        let list = paths.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(", ");
        (!paths.is_empty()).then(|| format!("XenStore has another {list}: run `apply`"))
    }

    /// Returns the hypervisor's answer as XenStore has it; `None` if it is absent or not valid.
    pub fn verdict(&self) -> Option<Registration> {
        match self.nodes.get(HYPERVISOR)?.as_str() {
            UNSUPPORTED => Some(Registration::Unsupported),
            REGISTERED => {
                let used = PAGE.checked_mul(self.nodes.get(FRAMES_USED)?.parse().ok()?)?;
                Some(Registration::Registered { used })
            }
            _ => None,
        }
    }

    /// Returns the range that it names, if that makes sense.
    pub fn range(&self) -> Option<PhysRange> {
        self.span("range")
    }

    /// Returns the reserved area that it names, if that makes sense.
    pub fn reserved(&self) -> Option<PhysRange> {
        self.span("reserved")
    }

    fn span(&self, name: &str) -> Option<PhysRange> {
        let number = |part: &str| self.nodes.get(&format!("{name}-{part}"))?.parse().ok();
        PhysRange::new(PhysAddr(number("base")?), Bytes(number("size")?))
    }

    /// Returns whether the report is whole.
    pub fn is_ready(&self) -> bool {
        self.nodes.get(STATE.0).is_some_and(|state| state == STATE.1)
    }
}

impl XenStore<xenstore_rs::unix::XsUnix> {
    /// Connects to xenstored.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub fn connect() -> Result<Self, Error> {
        let client = xenstore_rs::unix::XsUnix::new().map_err(Error::Connect)?;
        Ok(Self::new(client))
    }
}

impl<X: Xs> XenStore<X> {
    /// Creates the sink of the XenStore that `client` reaches.
    pub fn new(client: X) -> Self {
        Self { client }
    }

    /// Returns all that is published, by directory name.
    ///
    /// # Errors
    ///
    /// What XenStore says, with the path.
    pub fn published(&self) -> Result<Vec<Published>, Error> {
        let mut all = Vec::new();
        for name in self.children(ROOT)?.unwrap_or_default() {
            let nodes = self.leaves(&format!("{ROOT}/{name}"))?;
            all.push(Published {
                name: name.into(),
                nodes,
            });
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Removes a report's directory, `state` first. `Ok(false)` if it is not there.
    ///
    /// # Errors
    ///
    /// What XenStore says, with the path.
    pub fn remove(&mut self, name: &str) -> Result<bool, Error> {
        let directory = format!("{ROOT}/{name}");
        if self.children(&directory)?.is_none() {
            return Ok(false);
        }
        self.rm(&format!("{directory}/{}", STATE.0))?;
        self.rm(&directory)?;
        if self.children(ROOT)?.is_some_and(|rest| rest.is_empty()) {
            self.rm(ROOT)?;
        }
        Ok(true)
    }

    /// Removes what is in a report's way: reports of other reservations on the same memory, since the device has been prepared again; and
    /// the rest of an interrupted run, since nobody else writes at the same time (see [`crate::turn`]).
    fn clear_way(&mut self, report: &Report) -> Result<(), Error> {
        for published in self.published()? {
            let other = published.name != report.uuid().to_string() && published.name.parse::<Uuid>().is_ok();
            let superseded = published.range().is_some_and(|range| range.overlaps(report.range()));
            if other && (superseded || !published.is_ready()) {
                let why = if superseded { "superseded" } else { "never completed" };
                tracing::info!("{}: {why}, removed", published.name);
                self.remove(&published.name)?;
            }
        }
        Ok(())
    }

    /// Returns the names in a directory; `None` if the node does not exist.
    fn children(&self, path: &str) -> Result<Option<Vec<Box<str>>>, Error> {
        match self.client.directory(path) {
            // An empty listing comes as one empty name.
            Ok(names) => Ok(Some(names.into_iter().filter(|name| !name.is_empty()).collect())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::List {
                path: path.to_owned(),
                error,
            }),
        }
    }

    /// Returns all nodes below `directory` that have no children, by relative path.
    fn leaves(&self, directory: &str) -> Result<BTreeMap<String, String>, Error> {
        let mut leaves = BTreeMap::new();
        let mut left = vec![String::new()];
        while let Some(relative) = left.pop() {
            let path = format!("{directory}{relative}");
            let Some(names) = self.children(&path)? else { continue };
            if names.is_empty() && !relative.is_empty() {
                match self.client.read(&path) {
                    Ok(value) => {
                        leaves.insert(relative.trim_start_matches('/').to_owned(), value.into());
                    }
                    // Gone between the listing and the reading.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Error::Read { path, error }),
                }
            }
            left.extend(names.iter().map(|name| format!("{relative}/{name}")));
        }
        Ok(leaves)
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Error> {
        self.client.write(path, value).map_err(|error| Error::Write {
            path: path.to_owned(),
            error,
        })
    }

    fn rm(&self, path: &str) -> Result<(), Error> {
        match self.client.rm(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Remove {
                path: path.to_owned(),
                error,
            }),
            _ => Ok(()),
        }
    }
}

/// What XenStore is called in documents and messages.
pub const NAME: &str = "xenstore";

impl<X: Xs> XenStore<X> {
    /// Makes a report known, together with what the hypervisor says of it if it has been asked. Doing it twice changes nothing.
    ///
    /// # Errors
    ///
    /// Why it cannot be written, and which node it concerns.
    pub fn publish(&mut self, report: &Report, verdict: Option<Registration>) -> Result<Receipt, Error> {
        self.clear_way(report)?;
        let outcome = self.write_report(report, verdict)?;
        Ok(Receipt { outcome, verdict: None })
    }

    fn write_report(&mut self, report: &Report, verdict: Option<Registration>) -> Result<Outcome, Error> {
        let directory = directory(report.uuid());
        let mut there = self.leaves(&directory)?;
        let ready = there.remove(STATE.0).is_some_and(|state| state == STATE.1);
        let mut wanted = nodes(report);
        wanted.extend(verdict.map_or_else(|| known_verdict(&there, &wanted), verdict_nodes));
        if ready && there == wanted {
            return Ok(Outcome::Unchanged);
        }
        self.rm(&format!("{directory}/{}", STATE.0))?;
        for stale in there.keys().filter(|path| !wanted.contains_key(*path)) {
            self.rm(&format!("{directory}/{stale}"))?;
        }
        for stale in stale_partitions(&there, &wanted) {
            self.rm(&format!("{directory}/{stale}"))?;
        }
        for (path, value) in &wanted {
            if there.get(path) != Some(value) {
                self.write(&format!("{directory}/{path}"), value)?;
            }
        }
        self.write(&format!("{directory}/{}", STATE.0), STATE.1)?;
        Ok(Outcome::Published)
    }
}

/// Returns the directories in `there` that no wanted node is in: with their leaves gone they would stay as empty nodes.
fn stale_partitions(there: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let parents = |nodes: &BTreeMap<String, String>| -> Vec<String> {
        let mut parents: Vec<String> = nodes
            .keys()
            .flat_map(|path| {
                path.match_indices('/')
                    .map(|(at, _)| path.split_at(at).0.to_owned())
                    .collect::<Vec<_>>()
            })
            .collect();
        parents.sort();
        parents.dedup();
        parents
    };
    let wanted = parents(wanted);
    // The deepest first, though removing a parent takes its children along.
    parents(there)
        .into_iter()
        .rev()
        .filter(|parent| !wanted.contains(parent))
        .collect()
}

#[cfg(test)]
mod tests;
