//! The kernel and the hypervisor of a suite, in the forms that QEMU starts.

use crate::progress::step;
use crate::suite::Suite;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What QEMU starts.
pub(crate) struct Kernels {
    /// Linux's version: the name of its folder of modules.
    pub(crate) version: String,
    /// Linux as distributed: started without Xen.
    pub(crate) vmlinuz: PathBuf,
    /// Linux unpacked: started by Xen, which would need seconds to unpack it under emulation.
    pub(crate) vmlinux: PathBuf,
    /// Xen, the 32-bit ELF image that multiboot starts.
    pub(crate) xen: PathBuf,
}

/// Finds and unpacks the kernels in a suite's `root`. `fresh` says that the root has changed since the last time.
///
/// # Errors
///
/// If one is missing or cannot be unpacked.
pub(crate) fn prepare(suite: Suite, root: &Path, fresh: bool) -> Result<Kernels> {
    let (vmlinuz, version) = linux_in(root)?;
    let xen_gz = find(&root.join("boot"), |name| {
        name.starts_with("xen-") && name.ends_with("-amd64.gz")
    })?;
    let folder = workspace::e2e(suite.name())?;
    let (vmlinux, xen) = (folder.join("vmlinux"), folder.join("xen"));
    if fresh || !vmlinux.exists() || !xen.exists() {
        step(&format!("unpacking Linux {version} and {}", file_name(&xen_gz)));
        fs::write(&vmlinux, unpacked(&vmlinuz)?)?;
        let elf = crate::command::output(std::process::Command::new("gzip").args(["-dc"]).arg(&xen_gz))?;
        fs::write(&xen, elf)?;
    }
    Ok(Kernels {
        version,
        vmlinuz,
        vmlinux,
        xen,
    })
}

/// Returns the Linux that a suite's packages unpack to, and its version. Up to Debian 13 it is in /boot; from then on it lies with its
/// modules, and installing the package copies it to /boot.
fn linux_in(root: &Path) -> Result<(PathBuf, String)> {
    if let Ok(vmlinuz) = find(&root.join("boot"), |name| name.starts_with("vmlinuz-")) {
        let version = file_name(&vmlinuz).trim_start_matches("vmlinuz-").to_owned();
        return Ok((vmlinuz, version));
    }
    let modules = root.join("usr/lib/modules");
    let folder = find(&modules, |name| modules.join(name).join("vmlinuz").is_file())?;
    Ok((folder.join("vmlinuz"), file_name(&folder)))
}

/// Returns the ELF image in a kernel as distributed.
///
/// # Errors
///
/// If it cannot be read or is packed in an unknown way.
pub(crate) fn unpacked(vmlinuz: &Path) -> Result<Vec<u8>> {
    let image = fs::read(vmlinuz).with_context(|| format!("cannot read {}", vmlinuz.display()))?;
    vmlinux_of(&image).with_context(|| format!("unpacking {}", vmlinuz.display()))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn find(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| wanted(&file_name(path)))
        .collect();
    found.sort();
    found
        .pop()
        .with_context(|| format!("no such kernel in {}", folder.display()))
}

/// Returns the ELF image in a bzImage: Linux `Documentation/arch/x86/boot.rst`, `payload_offset` and `payload_length`, counted from the
/// end of the set-up sectors.
fn vmlinux_of(image: &[u8]) -> Result<Vec<u8>> {
    let byte = |at: usize| {
        image
            .get(at)
            .copied()
            .map(usize::from)
            .context("too short for a bzImage")
    };
    let word = |at: usize| -> Result<usize> {
        let bytes = image.get(at..at + 4).context("too short for a bzImage")?;
        Ok(usize::try_from(u32::from_le_bytes(bytes.try_into()?))?)
    };
    if image.get(0x202..0x206) != Some(b"HdrS".as_slice()) {
        bail!("not a bzImage");
    }
    let setup_sectors = match byte(0x1f1)? {
        0 => 4,
        sectors => sectors,
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    let payload = image
        .get(start..start + word(0x24c)?)
        .context("the payload ends beyond the image")?;
    let mut elf = Vec::new();
    match payload {
        // The reader stops at the end of the stream; the size that the kernel's build appends is not read.
        [0xfd, b'7', b'z', b'X', b'Z', ..] => liblzma::read::XzDecoder::new(payload).read_to_end(&mut elf)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(payload)?;
            decoder.read_to_end(&mut elf)?
        }
        _ => bail!("its payload is packed in a way that is neither xz nor zstd"),
    };
    if !elf.starts_with(b"\x7fELF") {
        bail!("its payload is no ELF image");
    }
    Ok(elf)
}
