//! libnvdimm's bus: binding and unbinding drivers, so that a report comes before nd_pmem maps the memory.
//!
//! Sources: Linux `Documentation/ABI/testing/sysfs-bus-nvdimm`, `drivers/base/bus.c` (`bind`, `unbind`), `drivers/nvdimm/bus.c`
//! (`wait_probe`: returns when all that is being probed has been).

use crate::sysfs::{Directory, SysfsRoot};
use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// A block device that nobody else can mount or otherwise claim as long as this lives.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "closing it gives the device back")] OwnedFd);

impl NdBus {
    /// The bus in this sysfs.
    pub fn new(sysfs: SysfsRoot) -> Self {
        Self { sysfs }
    }

    /// Has drivers bind to whatever appears, as the kernel does unless told otherwise, or wait until they are bound.
    ///
    /// # Errors
    ///
    /// If libnvdimm is not loaded, or the kernel refuses.
    pub fn set_autoprobe(&self, on: bool) -> Result<()> {
        self.write("drivers_autoprobe", if on { "1" } else { "0" })
            .context("is libnvdimm loaded?")
    }

    /// Binds the drivers of NVDIMMs and regions that have none, so that namespaces are there, without a driver: what the kernel
    /// does not do itself while `drivers_autoprobe` is off.
    ///
    /// # Errors
    ///
    /// If the bus cannot be read, or a driver refuses.
    pub fn bind_regions(&self) -> Result<()> {
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

    /// Binds the drivers of namespaces, and of what these turn out to be, that have none.
    ///
    /// # Errors
    ///
    /// If the bus cannot be read, or a namespace is left without a block device or whatever its mode gives it.
    pub fn bind_namespaces(&self) -> Result<()> {
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

    /// The devices called `kind` and a number that have no driver and are not empty.
    fn unbound(&self, kind: &str) -> Result<Vec<Directory>> {
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

    /// The devices called `kind` and a number.
    fn devices(&self, kind: &str) -> Result<Vec<Directory>> {
        let is_called = |name: &String| {
            name.strip_prefix(kind)
                .is_some_and(|number| number.starts_with(|digit: char| digit.is_ascii_digit()))
        };
        let names = self.sysfs.nd_names()?.into_iter().filter(is_called);
        Ok(names.filter_map(|name| self.sysfs.nd_device(&name)).collect())
    }

    fn bind(&self, device: &Directory, driver: &str) -> Result<()> {
        tracing::info!("{}: binding {driver}", device.name());
        self.write(&format!("drivers/{driver}/bind"), device.name())
            .with_context(|| {
                format!(
                    "{}: cannot bind the driver {driver} (is its module loaded?)",
                    device.name()
                )
            })
    }

    fn write(&self, attribute: &str, text: &str) -> Result<()> {
        let path = self.sysfs.path().join("bus/nd").join(attribute);
        fs::write(&path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
    }

    /// Waits for what is being probed. A bus that does not offer this has nothing to wait for.
    pub fn settle(&self) {
        for bus in self.devices("ndbus").unwrap_or_default() {
            let _ = bus.text("wait_probe");
        }
    }

    /// Takes the driver from the raw namespace that presents the block device `node`, does `then`, and gives it its driver back, whatever
    /// came of it.
    ///
    /// # Errors
    ///
    /// If the device is in use or is not a raw namespace, or its driver cannot be taken or given back.
    pub fn without_driver<T>(&self, node: &Path, then: impl FnOnce() -> T) -> Result<T> {
        let namespace = self.raw_namespace(node)?;
        let claim = claim(node)?;
        tracing::info!("{namespace}: unbinding nd_pmem");
        self.write("drivers/nd_pmem/unbind", &namespace)?;
        drop(claim);
        let result = then();
        self.write("drivers/nd_pmem/bind", &namespace).with_context(|| {
            format!("{namespace}: its driver cannot be bound again; try `ndctl enable-namespace {namespace}`")
        })?;
        self.settle();
        for _ in 0..TRIES {
            if node.exists() {
                return Ok(result);
            }
            std::thread::sleep(PAUSE);
        }
        bail!("{}: has not come back since its driver was bound again", node.display())
    }

    /// The raw namespace that presents a block device.
    fn raw_namespace(&self, node: &Path) -> Result<String> {
        let shown = node.display();
        let name = node.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let device = self
            .sysfs
            .block_device(name)
            .and_then(|disk| disk.follow("device"))
            .with_context(|| format!("{shown}: is no block device of libnvdimm"))?;
        if device.name().starts_with("namespace") {
            Ok(device.name().to_owned())
        } else {
            bail!(
                "{shown}: is not a raw namespace but {}: a PV Dom0 cannot unbind that without damage to its kernel. Report it early (`apply --early` in the initramfs)",
                device.name()
            )
        }
    }
}

/// Claims a block device for this process alone.
fn claim(node: &Path) -> Result<Claim> {
    let path: PathBuf = node.to_owned();
    match rustix::fs::open(&path, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => Ok(Claim(file)),
        Err(rustix::io::Errno::BUSY) => bail!(
            "{}: is in use (a partition is mounted, or a volume manager holds it): unmount it first (`lsblk {0}` shows what)",
            path.display()
        ),
        Err(errno) => Err(errno).with_context(|| format!("{}: cannot be opened", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A bus with these devices, each a name and its attributes.
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

    fn names(devices: Result<Vec<Directory>>) -> Vec<String> {
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
        assert!(error.to_string().contains("apply --early"), "{error}");
        let error = bus.without_driver(Path::new("/dev/sda"), || ()).unwrap_err();
        assert!(error.to_string().contains("no block device of libnvdimm"), "{error}");
    }
}
