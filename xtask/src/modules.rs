//! The kernel modules of a guest: those it is to load, and what they depend on.

use crate::command;
use anyhow::{Context as _, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

/// What guests load.
const WANTED: &[&str] = &[
    // Persistent memory.
    "nfit",
    "libnvdimm",
    "nd_pmem",
    "nd_btt",
    "nd_e820",
    "device_dax",
    "dax_pmem",
    // CXL memory, whose regions are persistent memory, too.
    "cxl_acpi",
    "cxl_pci",
    "cxl_port",
    "cxl_mem",
    "cxl_pmem",
    // File systems on it.
    "ext4",
    "crc32c_generic",
    "crc32c_intel",
    // Xen's interfaces.
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
    "xen-blkback",
    "xen-blkfront",
    "loop",
    // Claims.
    "dm_mod",
    // The disk that the tools come on.
    "virtio_pci",
    "virtio_blk",
];

/// Copies the wanted modules and their dependencies, unpacked, from `root` to `stage` and indexes them there.
///
/// # Errors
///
/// If a module cannot be read, or depmod fails.
pub(crate) fn stage(root: &Path, version: &str, stage: &Path) -> Result<()> {
    command::output(Command::new("depmod").arg("-b").arg(root).arg(version))?;
    let source = root.join("lib/modules").join(version);
    let index = fs::read_to_string(source.join("modules.dep")).context("depmod made no modules.dep")?;
    let target = stage.join("usr/lib/modules").join(version);
    let files = closure(&index, WANTED)?;
    for file in &files {
        let packed = fs::read(source.join(file))?;
        let (name, module) = match file.strip_suffix(".xz") {
            None => (file.as_str(), packed),
            Some(name) => {
                let mut module = Vec::new();
                liblzma::read::XzDecoder::new(packed.as_slice())
                    .read_to_end(&mut module)
                    .with_context(|| format!("unpacking {file}"))?;
                (name, module)
            }
        };
        let path = target.join(name);
        fs::create_dir_all(path.parent().context("a module without a folder")?)?;
        fs::write(path, module)?;
    }
    for file in ["modules.builtin", "modules.order", "modules.builtin.modinfo"] {
        fs::copy(source.join(file), target.join(file)).with_context(|| format!("copying {file}"))?;
    }
    // depmod looks in lib/modules below its argument.
    let link = stage.join("lib");
    if !link.exists() {
        std::os::unix::fs::symlink("usr/lib", link)?;
    }
    command::output(Command::new("depmod").arg("-b").arg(stage).arg(version))?;
    Ok(())
}

/// Returns the name that the kernel knows a module file by.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

/// Returns the files of `wanted` and of all their dependencies according to `index` (`modules.dep`). Leaves out modules that are built
/// into this kernel: one kernel builds in what another has as a module.
fn closure(index: &str, wanted: &[&str]) -> Result<BTreeSet<String>> {
    let mut files = BTreeMap::new();
    let mut needs = BTreeMap::new();
    for line in index.lines() {
        let Some((file, dependencies)) = line.split_once(':') else {
            bail!("modules.dep has a line without a colon: {line}")
        };
        files.insert(module_name(file), file.to_owned());
        needs.insert(
            file.to_owned(),
            dependencies.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        );
    }
    let names = wanted.iter().map(|name| module_name(name));
    let mut left: Vec<String> = names.filter_map(|name| files.get(&name).cloned()).collect();
    let mut all = BTreeSet::new();
    while let Some(file) = left.pop() {
        if let Some(dependencies) = needs.get(&file)
            && all.insert(file)
        {
            left.extend(dependencies.iter().cloned());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_along_and_built_in_modules_do_not() {
        let index = "kernel/a/nd_pmem.ko.xz: kernel/a/nd-btt.ko.xz kernel/l.ko.xz\nkernel/a/nd-btt.ko.xz: kernel/l.ko.xz\nkernel/l.ko.xz:\nkernel/other.ko.xz:\n";
        let files = closure(index, &["nd_pmem", "ext4"]).unwrap();
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        assert_eq!(
            files,
            ["kernel/a/nd-btt.ko.xz", "kernel/a/nd_pmem.ko.xz", "kernel/l.ko.xz"]
        );
    }
}
