//! libnvdimm's bus: binding and unbinding drivers, so that a report comes before nd_pmem maps the memory.
//!
//! Sources: Linux `Documentation/ABI/testing/sysfs-bus-nvdimm`, `drivers/base/bus.c` (`bind`, `unbind`), `drivers/nvdimm/bus.c`
//! (`wait_probe`: returns when all that is being probed has been).

use crate::claim::{self, Intent};
use crate::sysfs::{self, Directory, SysfsRoot};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

/// The drivers of the bus's devices by what these are called, in the order in which they must be bound: labels are read before
/// a region is looked at, and a namespace says what else it is.
const DIMMS_AND_REGIONS: [(&str, &str); 2] = [("nmem", "nvdimm"), ("region", "nd_region")];
const NAMESPACES: [(&str, &str); 4] = [
    ("namespace", "nd_pmem"),
    ("pfn", "nd_pmem"),
    ("btt", "nd_pmem"),
    ("dax", "dax_pmem"),
];
/// How long a bound namespace's block device may take to appear.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

/// The bus.
#[derive(Clone, Debug)]
pub struct NdBus {
    sysfs: SysfsRoot,
}

/// Why a driver could not be bound, or taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bus lacks an attribute, or it has an unexpected value.
    #[error(transparent)]
    Sysfs(#[from] sysfs::Error),
    /// The kernel did not take it.
    #[error("cannot write {text:?} to {}: {error}", .path.display())]
    Write {
        /// What was written.
        text: String,
        /// Where to.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// There is no bus.
    #[error("is libnvdimm loaded? {0}")]
    NoBus(Box<Error>),
    /// A driver did not take a device.
    #[error("{device}: cannot bind the driver {driver} (is its module loaded?): {error}")]
    Bind {
        /// The device.
        device: String,
        /// The driver.
        driver: &'static str,
        /// Why.
        error: Box<Error>,
    },
    /// A driver that was taken from a namespace could not be given back.
    #[error("{namespace}: its driver cannot be bound again; try `ndctl enable-namespace {namespace}`: {error}")]
    BindAgain {
        /// The namespace.
        namespace: String,
        /// Why.
        error: Box<Error>,
    },
    /// The block device has not come back.
    #[error("{}: has not come back since its driver was bound again", .0.display())]
    Gone(PathBuf),
    /// It is another block device, or none.
    #[error("{}: is not a block device of libnvdimm", .0.display())]
    NotNvdimm(PathBuf),
    /// It is presented by something between it and the namespace, which cannot be taken apart.
    #[error("{}: is not a raw namespace but {device}: a PV Dom0 cannot unbind that without damage to its kernel", .node.display())]
    NotRaw {
        /// The block device.
        node: PathBuf,
        /// What presents it.
        device: String,
    },
    /// It is in use, or cannot be opened.
    #[error("{}: {error}", .node.display())]
    Claim {
        /// The block device.
        node: PathBuf,
        /// Why.
        error: claim::Error,
    },
}

impl NdBus {
    /// Returns the bus in this sysfs.
    pub fn new(sysfs: SysfsRoot) -> Self {
        Self { sysfs }
    }

    /// Lets drivers bind to every new device, which is the kernel's default, or makes them wait until a program binds them.
    ///
    /// # Errors
    ///
    /// If libnvdimm is not loaded, or the kernel refuses.
    pub fn set_autoprobe(&self, on: bool) -> Result<(), Error> {
        self.write("drivers_autoprobe", if on { "1" } else { "0" })
            .map_err(|error| Error::NoBus(Box::new(error)))
    }

    /// Binds the drivers of NVDIMMs and regions that have none, so that namespaces are there, without a driver: what the kernel
    /// does not do itself while `drivers_autoprobe` is off.
    ///
    /// # Errors
    ///
    /// If the bus cannot be read, or a driver refuses.
    pub fn bind_regions(&self) -> Result<(), Error> {
        // What the kernel has begun before it was told to hold back.
        self.settle();
        for (kind, driver) in DIMMS_AND_REGIONS {
            for device in self.unbound(kind)? {
                self.bind(&device, driver)?;
            }
            self.settle();
        }
        Ok(())
    }

    /// Binds drivers to the namespaces, and to the devices that these become, that have none yet.
    ///
    /// # Errors
    ///
    /// If the bus cannot be read, or a namespace ends without the device of its mode (a block device, or a character device).
    pub fn bind_namespaces(&self) -> Result<(), Error> {
        for (kind, driver) in NAMESPACES {
            for device in self.unbound(kind)? {
                let result = self.bind(&device, driver);
                self.settle();
                // The driver hands a namespace that is not raw on to another device, and says so with an error.
                let handed_on = kind == "namespace" && device.text("holder")?.is_some();
                if !handed_on {
                    result?;
                }
            }
        }
        Ok(())
    }

    /// Returns the devices called `kind` and a number that have no driver and are not empty.
    fn unbound(&self, kind: &str) -> Result<Vec<Directory>, sysfs::Error> {
        let mut unbound = Vec::new();
        for device in self.devices(kind)? {
            if device.follow("driver").is_some() {
                continue;
            }
            // Seeds for devices to be: namespaces without a size, claims without a namespace, which is then an empty word.
            let claimed = device.text("holder")?.is_some();
            let seed = match kind {
                "namespace" => device.size()?.is_none_or(|size| size.0 == 0),
                "pfn" | "btt" | "dax" => device.text("namespace")?.is_none(),
                _ => false,
            };
            if !seed && !claimed {
                unbound.push(device);
            }
        }
        Ok(unbound)
    }

    /// Returns the devices called `kind` and a number.
    fn devices(&self, kind: &str) -> Result<Vec<Directory>, sysfs::Error> {
        let is_called = |name: &String| {
            name.strip_prefix(kind)
                .is_some_and(|number| number.starts_with(|digit: char| digit.is_ascii_digit()))
        };
        let names = self.sysfs.nd_names()?.into_iter().filter(is_called);
        Ok(names.filter_map(|name| self.sysfs.nd_device(&name)).collect())
    }

    fn bind(&self, device: &Directory, driver: &'static str) -> Result<(), Error> {
        tracing::info!("{}: binding {driver}", device.name());
        self.write(&format!("drivers/{driver}/bind"), device.name())
            .map_err(|error| Error::Bind {
                device: device.name().to_owned(),
                driver,
                error: Box::new(error),
            })
    }

    fn write(&self, attribute: &str, text: &str) -> Result<(), Error> {
        let path = self.sysfs.path().join("bus/nd").join(attribute);
        fs::write(&path, text).map_err(|error| Error::Write {
            text: text.to_owned(),
            path,
            error,
        })
    }

    /// Waits until all probing has ended. Returns at once on a bus that does not offer this.
    pub fn settle(&self) {
        for bus in self.devices("ndbus").unwrap_or_default() {
            let _ = bus.text("wait_probe");
        }
    }

    /// Unbinds the driver of the raw namespace that presents the block device `node`, calls `then`, and binds the driver again, whether
    /// `then` succeeded or not.
    ///
    /// # Errors
    ///
    /// If the device is in use or is not a raw namespace, or its driver cannot be taken or given back.
    pub fn without_driver<T>(&self, node: &Path, then: impl FnOnce() -> T) -> Result<T, Error> {
        let namespace = self.raw_namespace(node)?;
        let claim = claim::disk(&self.sysfs, node, Intent::DryRun).map_err(|error| Error::Claim {
            node: node.to_owned(),
            error,
        })?;
        tracing::info!("{namespace}: unbinding nd_pmem");
        self.write("drivers/nd_pmem/unbind", &namespace)?;
        drop(claim);
        let result = then();
        self.write("drivers/nd_pmem/bind", &namespace)
            .map_err(|error| Error::BindAgain {
                namespace,
                error: Box::new(error),
            })?;
        self.settle();
        for _ in 0..TRIES {
            if node.exists() {
                return Ok(result);
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::Gone(node.to_owned()))
    }

    /// Returns the raw namespace that presents a block device.
    fn raw_namespace(&self, node: &Path) -> Result<String, Error> {
        let name = node.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let device = self
            .sysfs
            .block_device(name)
            .and_then(|disk| disk.follow("device"))
            .ok_or_else(|| Error::NotNvdimm(node.to_owned()))?;
        if device.name().starts_with("namespace") {
            Ok(device.name().to_owned())
        } else {
            Err(Error::NotRaw {
                node: node.to_owned(),
                device: device.name().to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Returns a bus with these devices, each a name and its attributes.
    fn bus(devices: &[(&str, &[(&str, &str)])]) -> (tempfile::TempDir, NdBus) {
        let root = tempfile::tempdir().unwrap();
        for driver in ["nvdimm", "nd_region", "nd_pmem", "dax_pmem"] {
            fs::create_dir_all(root.path().join("bus/nd/drivers").join(driver)).unwrap();
        }
        let list = root.path().join("bus/nd/devices");
        fs::create_dir_all(&list).unwrap();
        for (name, attributes) in devices {
            let device = root.path().join("devices").join(name);
            fs::create_dir_all(&device).unwrap();
            for (attribute, text) in *attributes {
                match *attribute {
                    "driver" => symlink(root.path().join("bus/nd/drivers").join(text), device.join("driver")).unwrap(),
                    _ => fs::write(device.join(attribute), text).unwrap(),
                }
            }
            symlink(&device, list.join(name)).unwrap();
        }
        let bus = NdBus::new(SysfsRoot::new(root.path()));
        (root, bus)
    }

    fn names(devices: Result<Vec<Directory>, sysfs::Error>) -> Vec<String> {
        devices.unwrap().iter().map(|device| device.name().to_owned()).collect()
    }

    #[test]
    fn only_what_lacks_a_driver_and_is_not_empty_is_bound() {
        let (_root, bus) = bus(&[
            ("nmem0", &[("driver", "nvdimm")]),
            ("nmem1", &[]),
            ("region0", &[("driver", "nd_region")]),
            ("region1", &[]),
            ("ndbus0", &[]),
            ("namespace0.0", &[("size", "4096"), ("driver", "nd_pmem")]),
            ("namespace0.1", &[("size", "0")]),
            ("namespace1.0", &[("size", "4096")]),
            ("namespace1.1", &[("size", "4096"), ("holder", "pfn1.0")]),
            ("pfn1.0", &[("namespace", "namespace1.1")]),
            ("pfn1.1", &[("namespace", "\n")]),
            ("dax1.0", &[]),
        ]);
        for (kind, expected) in [
            ("nmem", &["nmem1"][..]),
            ("region", &["region1"]),
            ("namespace", &["namespace1.0"]),
            ("pfn", &["pfn1.0"]),
            ("btt", &[]),
            ("dax", &[]),
        ] {
            assert_eq!(names(bus.unbound(kind)), expected, "{kind}");
        }
    }

    #[test]
    fn what_is_not_raw_keeps_its_driver() {
        let (root, bus) = bus(&[("pfn0.0", &[])]);
        let disk = root.path().join("class/block/pmem0");
        fs::create_dir_all(&disk).unwrap();
        symlink(root.path().join("devices/pfn0.0"), disk.join("device")).unwrap();
        let error = bus.without_driver(Path::new("/dev/pmem0"), || ()).unwrap_err();
        assert!(
            matches!(&error, Error::NotRaw { device, .. } if device == "pfn0.0"),
            "{error}"
        );
        let error = bus.without_driver(Path::new("/dev/sda"), || ()).unwrap_err();
        assert!(matches!(error, Error::NotNvdimm(_)), "{error}");
    }
}
