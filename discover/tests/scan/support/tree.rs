//! Synthetic sysfs trees: the files and links that libnvdimm makes, as far as a scan looks at them.

use super::disk::Disk;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where the kernel puts the nd bus on an ACPI machine.
const BUS: &str = "sys/devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00/ndbus0";

/// A sysfs tree and the images that go with it, in a directory of their own.
pub(crate) struct Tree {
    root: TempDir,
}

/// A region in a tree.
pub(crate) struct Region<'t> {
    tree: &'t Tree,
    number: u32,
    base: u64,
    size: u64,
}

/// A namespace in a region.
pub(crate) struct Namespace<'t> {
    pub(crate) directory: PathBuf,
    region: &'t Region<'t>,
    number: u32,
    base: u64,
    size: u64,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let root = TempDir::new().unwrap();
        for directory in ["sys/bus/nd/devices", "sys/class/block", "sys/dev/block", "dev"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        Self { root }
    }

    pub(crate) fn sysfs(&self) -> PathBuf {
        self.root.path().join("sys")
    }

    pub(crate) fn dev(&self) -> PathBuf {
        self.root.path().join("dev")
    }

    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.dev().join(name)
    }

    pub(crate) fn region(&self, number: u32, base: u64, size: u64) -> Region<'_> {
        let directory = self.root.path().join(BUS).join(format!("region{number}"));
        write(&directory, "resource", &format!("{base:#x}"));
        write(&directory, "size", &size.to_string());
        write(&directory, "numa_node", "0");
        self.link(&directory, "sys/bus/nd/devices");
        Region {
            tree: self,
            number,
            base,
            size,
        }
    }

    /// Adds a block device that is not persistent memory.
    pub(crate) fn other_disk(&self, name: &str) {
        let directory = self.root.path().join("sys/devices/pci0000:00/block").join(name);
        write(&directory, "size", "2048");
        self.link(&directory, "sys/class/block");
    }

    fn link(&self, directory: &Path, list: &str) {
        let name = directory.file_name().unwrap();
        symlink(directory, self.root.path().join(list).join(name)).unwrap();
    }

    fn block_device(&self, parent: &Path, name: &str, disk: &Disk) {
        let directory = parent.join("block").join(name);
        write(&directory, "size", &(disk.bytes.len() / 512).to_string());
        write(&directory, "dev", "259:0");
        write(&directory.join("queue"), "logical_block_size", "512");
        let partition = directory.join(format!("{name}p1"));
        write(&partition, "partition", "1");
        self.link(&directory, "sys/class/block");
        self.link(&partition, "sys/class/block");
        fs::write(self.node(name), &disk.bytes).unwrap();
    }
}

impl<'t> Region<'t> {
    fn directory(&self) -> PathBuf {
        self.tree.root.path().join(BUS).join(format!("region{}", self.number))
    }

    /// Returns a namespace that nothing claims and no driver is bound to; one of zero bytes is a seed.
    pub(crate) fn namespace(&'t self, number: u32, base: u64, size: u64) -> Namespace<'t> {
        let directory = self.directory().join(format!("namespace{}.{number}", self.number));
        write(&directory, "size", &size.to_string());
        if size > 0 {
            write(&directory, "resource", &format!("{base:#x}"));
        }
        write(&directory, "holder", "");
        write(&directory, "numa_node", "0");
        self.tree.link(&directory, "sys/bus/nd/devices");
        Namespace {
            directory,
            region: self,
            number,
            base,
            size,
        }
    }

    /// Returns the only namespace, without labels: the whole region.
    pub(crate) fn whole(&'t self) -> Namespace<'t> {
        self.namespace(0, self.base, self.size)
    }
}

impl Namespace<'_> {
    pub(crate) fn raw(&self, name: &str, disk: &Disk) {
        assert_eq!(disk.bytes.len() as u64, self.size);
        self.region.tree.block_device(&self.directory, name, disk);
    }

    /// Returns what claims the namespace: `pfn`, `dax` or `btt`.
    pub(crate) fn claim(&self, kind: &str) -> PathBuf {
        let name = format!("{kind}{}.{}", self.region.number, self.number + 1);
        let claim = self.region.directory().join(&name);
        write(
            &claim,
            "namespace",
            self.directory.file_name().unwrap().to_str().unwrap(),
        );
        write(&self.directory, "holder", &name);
        self.region.tree.link(&claim, "sys/bus/nd/devices");
        claim
    }

    /// Adds an fsdax device that starts `offset` after the namespace.
    pub(crate) fn fsdax(&self, name: &str, offset: u64, disk: &Disk) {
        let pfn = self.claim("pfn");
        write(&pfn, "mode", "ram");
        write(&pfn, "resource", &format!("{:#x}", self.base + offset));
        write(&pfn, "size", &disk.bytes.len().to_string());
        self.region.tree.block_device(&pfn, name, disk);
    }

    pub(crate) fn sector(&self, name: &str, disk: &Disk) {
        let btt = self.claim("btt");
        self.region.tree.block_device(&btt, name, disk);
    }

    pub(crate) fn devdax(&self, name: &str) {
        let dax = self.claim("dax");
        write(&dax.join(name), "size", &self.size.to_string());
    }
}

/// Writes an attribute the way the kernel shows it: with a newline.
pub(crate) fn write(directory: &Path, attribute: &str, content: &str) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join(attribute), format!("{content}\n")).unwrap();
}
