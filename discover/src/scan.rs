//! Looking once: which persistent memory is there, and what of it is prepared.

use crate::document::{self, Device, Mode, SCHEMA, Span, State};
use crate::placement::{self, Placement};
use std::io;
use std::path::{Path, PathBuf};
use xen_pmem_format::inspect::inspect;
use xen_pmem_format::read::ReadAt;
use xen_pmem_format::units::{Bytes, PhysAddr, PhysRange};
use xen_pmem_nvdimm::firmware;
use xen_pmem_nvdimm::mode;
use xen_pmem_nvdimm::namespace::{self, Disk, Namespace, Presented};
use xen_pmem_nvdimm::node::{self, Nodes};
use xen_pmem_nvdimm::obstacle::Obstacle;
use xen_pmem_nvdimm::physical_memory::PhysicalMemory;
use xen_pmem_nvdimm::platform::Platform;
use xen_pmem_nvdimm::sysfs::{self, SysfsRoot};
use xen_pmem_nvdimm::unbound::{self, Unbound, WillBe};

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where sysfs is.
    pub sysfs: SysfsRoot,
    /// Where the devices' nodes are.
    pub nodes: Nodes,
    /// The devices asked for, by path or by name; none: all that there are.
    pub devices: Vec<PathBuf>,
    /// Whether namespaces without a device are left out.
    pub devices_only: bool,
    /// Physical memory (`/dev/mem`). With it, namespaces without a driver are read, and where libnvdimm has no region the firmware's table
    /// is read.
    pub memory: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was found.
    pub scan: document::Scan,
    /// The devices that could not be read, and why.
    pub failures: Vec<Failure>,
}

/// A device that could not be read.
#[derive(Debug)]
pub struct Failure {
    /// Its node, or the name of its namespace.
    pub device: String,
    /// Why.
    pub error: Error,
}

/// Why a scan, or the part of it for one device, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The given root does not contain a sysfs.
    #[error("{} is not a sysfs tree: it has no directory `bus`", .0.display())]
    NoSysfs(PathBuf),
    /// sysfs lacks an attribute, or it has an unexpected value.
    #[error(transparent)]
    Sysfs(#[from] sysfs::Error),
    /// The node is not a node of this device.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The device or the image could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Physical memory cannot be read.
    #[error("{} cannot be opened: {error}{}", .path.display(), memory_advice(.error))]
    Memory {
        /// The device.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The firmware's table is not one.
    #[error(transparent)]
    Firmware(#[from] firmware::Error),
    /// The image does not fit at its stated address.
    #[error("an image of {size} at physical address {base} would end beyond 64 bits")]
    Base {
        /// The given address.
        base: PhysAddr,
        /// The image's size.
        size: Bytes,
    },
    /// What was given for an image is something else.
    #[error("is not an image file")]
    NotAnImage,
}

/// Returns advice: the kernel shows physical memory to root only.
fn memory_advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        " (run as root; a kernel locked down by Secure Boot does not allow it at all)"
    } else {
        ""
    }
}

/// Looks at the devices asked for, or at all that there are.
///
/// # Errors
///
/// If nothing can be listed at all. What goes wrong with one device is a [`Failure`] in the outcome.
pub fn scan(options: &Options) -> Result<Outcome, Error> {
    let mut namespaces = Vec::new();
    let mut failures = Vec::new();
    for listed in namespace::all(&options.sysfs)? {
        match listed.result {
            Ok(namespace) => namespaces.push(namespace),
            Err(error) => failures.push(Failure {
                device: listed.name,
                error: error.into(),
            }),
        }
    }
    let nothing = namespaces.is_empty() && failures.is_empty();
    if nothing && !options.sysfs.directory("bus").exists() {
        return Err(Error::NoSysfs(options.sysfs.path().to_path_buf()));
    }
    let memory = options.memory.as_deref().map(open_memory).transpose()?;
    if nothing && memory.is_some() && options.sysfs.nd_names()?.is_empty() {
        namespaces = firmware::namespaces(&options.sysfs)?;
    }
    if !options.devices.is_empty() {
        failures = choose(options, &mut namespaces, failures);
    }
    if options.devices_only {
        namespaces.retain(|namespace| namespace.node().is_some());
    }
    let mut devices = Vec::new();
    for namespace in &namespaces {
        match look_at(options, memory.as_ref(), namespace) {
            Ok(Some(device)) => devices.push(device),
            Ok(None) => tracing::debug!(namespace = namespace.name, "vanished during the scan"),
            Err(error) => failures.push(Failure {
                device: shown_name(&options.nodes, namespace),
                error,
            }),
        }
    }
    Ok(Outcome::new(devices, failures))
}

/// Looks at an image file as if it were a namespace at the physical address `base`.
///
/// # Errors
///
/// If it is not a regular file, cannot be read, or does not fit there.
pub fn scan_image(path: &Path, base: PhysAddr) -> Result<Outcome, Error> {
    let file = node::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::NotAnImage);
    }
    let size = file.size()?;
    let range = PhysRange::new(base, size).ok_or(Error::Base { base, size })?;
    let placement = Placement {
        device: path.display().to_string(),
        mode: Mode::Image,
        region: range,
        namespace: range,
        start: base,
        size,
        numa_node: None,
        platform: Platform::default(),
    };
    let device = placement::judge(&placement, &inspect(&file, None)?);
    Ok(Outcome::new(vec![device], Vec::new()))
}

impl Outcome {
    fn new(mut devices: Vec<Device>, failures: Vec<Failure>) -> Self {
        // By what stays: the place, not the number that the kernel gave.
        let place = |device: &Device| {
            let base = |span: Option<Span>| span.map(|Span(range)| range.base());
            (base(device.namespace), base(device.device_range))
        };
        devices.sort_by(|one, other| (place(one), &one.device).cmp(&(place(other), &other.device)));
        Self {
            scan: document::Scan {
                schema: SCHEMA,
                devices,
            },
            failures,
        }
    }
}

/// Keeps the namespaces that were asked for, each once; returns what fails of the request.
fn choose(options: &Options, namespaces: &mut Vec<Namespace>, unread: Vec<Failure>) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut names = Vec::new();
    let mut any_unknown = false;
    for asked in &options.devices {
        let mut fail = |error: node::Error| {
            failures.push(Failure {
                device: asked.display().to_string(),
                error: error.into(),
            });
        };
        match options.nodes.name_of(&options.sysfs, asked) {
            Err(error) => fail(error),
            Ok(name) => {
                let known = namespaces.iter().any(|namespace| namespace.is_called(&name));
                let failed = unread.iter().any(|failure| failure.device == name);
                if !known && !failed {
                    // It may be one of those that could not be read: those say why.
                    any_unknown = true;
                    if unread.is_empty() {
                        fail(node::why_unknown(&options.sysfs, &options.nodes, &name));
                    }
                }
                names.push(name);
            }
        }
    }
    namespaces.retain(|namespace| names.iter().any(|name| namespace.is_called(name)));
    failures.extend(
        unread
            .into_iter()
            .filter(|failure| any_unknown || names.contains(&failure.device)),
    );
    failures
}

fn open_memory(path: &Path) -> Result<PhysicalMemory, Error> {
    PhysicalMemory::open(path).map_err(|error| Error::Memory {
        path: path.to_owned(),
        error,
    })
}

/// Returns what a namespace is; `None` if its device vanished meanwhile.
fn look_at(options: &Options, memory: Option<&PhysicalMemory>, namespace: &Namespace) -> Result<Option<Device>, Error> {
    let nodes = &options.nodes;
    if let Some(obstacle) = &namespace.obstacle {
        return Ok(Some(unsupported(nodes, namespace, namespace.mode, obstacle)));
    }
    match &namespace.presented {
        Presented::Unusable { obstacle, .. } => Ok(Some(unsupported(nodes, namespace, namespace.mode, obstacle))),
        Presented::Unbound(unbound) => match memory {
            Some(memory) => inspect_memory(memory, namespace, unbound).map(Some),
            None => Ok(Some(unsupported(nodes, namespace, namespace.mode, &Obstacle::NoDriver))),
        },
        Presented::Block { disk, start } => match inspect_disk(nodes, namespace, disk, *start) {
            Err(error) if !disk.exists() => {
                tracing::debug!(disk = disk.name, %error, "gone");
                Ok(None)
            }
            result => result.map(Some),
        },
    }
}

/// Returns a namespace without a driver: judged as the block device that it will be.
fn inspect_memory(memory: &PhysicalMemory, namespace: &Namespace, unbound: &Unbound) -> Result<Device, Error> {
    let window = memory.window(namespace.range, &unbound.bad);
    let (mode, range) = match unbound::foresee(unbound, namespace.range, &window)? {
        WillBe::Block(mode, range) => (mode, range),
        WillBe::Unusable(mode, obstacle) => return Ok(unsupported(&Nodes::System, namespace, mode, &obstacle)),
    };
    let Some(bytes) = window.part(range) else {
        return Ok(unsupported(&Nodes::System, namespace, mode, &Obstacle::Outside));
    };
    let placement = Placement {
        device: namespace.name.clone(),
        mode: mode.into(),
        region: namespace.region,
        namespace: namespace.range,
        start: range.base(),
        size: range.size(),
        numa_node: namespace.numa_node,
        platform: namespace.platform.clone(),
    };
    Ok(placement::judge(&placement, &inspect(&bytes, unbound.lba_size)?))
}

fn inspect_disk(nodes: &Nodes, namespace: &Namespace, disk: &Disk, start: PhysAddr) -> Result<Device, Error> {
    let file = nodes.open(disk)?;
    let placement = Placement {
        device: shown_name(nodes, namespace),
        mode: namespace.mode.into(),
        region: namespace.region,
        namespace: namespace.range,
        start,
        size: disk.size,
        numa_node: namespace.numa_node,
        platform: namespace.platform.clone(),
    };
    Ok(placement::judge(&placement, &inspect(&file, disk.lba_size)?))
}

fn unsupported(nodes: &Nodes, namespace: &Namespace, mode: mode::Mode, obstacle: &Obstacle) -> Device {
    Device {
        device: shown_name(nodes, namespace),
        state: State::Unsupported,
        uuid: None,
        mode: mode.into(),
        region: Some(Span(namespace.region)),
        namespace: Some(Span(namespace.range)),
        device_range: None,
        numa_node: namespace.numa_node,
        persistence_domain: namespace.platform.persistence_domain,
        health: namespace.platform.health.clone(),
        reserved: None,
        partitions: Vec::new(),
        reason: Some(obstacle.to_string()),
    }
}

/// Returns the path of a namespace's node, or its own name if it has none.
fn shown_name(nodes: &Nodes, namespace: &Namespace) -> String {
    match namespace.node() {
        Some(node) => nodes.path(node).display().to_string(),
        None => namespace.name.clone(),
    }
}
