//! The shared libraries that programs need, read from their ELF headers.

use anyhow::{Context as _, Result, bail};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The dynamic loader, where programs name it.
const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";

/// Returns the names of the libraries that an ELF file asks for; none if it is static or no ELF file.
fn needed(bytes: &[u8]) -> Result<Vec<String>> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let Some((entries, link)) = sections.dynamic(endian, bytes)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, bytes, link)?;
    entries
        .iter()
        .filter(|entry| entry.tag(endian) == DT_NEEDED)
        .map(|entry| {
            let name = entry.string(endian, strings)?;
            Ok(String::from_utf8(name.to_vec())?)
        })
        .collect()
}

/// Returns where a library is in `root`, relative to it.
fn find(root: &Path, name: &str) -> Option<PathBuf> {
    ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"]
        .into_iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| inside(root, path).exists())
}

/// How many links in a row are followed.
const MOST_LINKS: usize = 16;

/// Returns the file of `root` that a path relative to it leads to. A link to an absolute path stays within `root`, too: followed by the
/// system it would lead to a file of this machine.
fn inside(root: &Path, path: &Path) -> PathBuf {
    let mut path = root.join(path);
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = match target.strip_prefix("/") {
            Ok(target) => root.join(target),
            Err(_) => path.parent().unwrap_or(root).join(target),
        };
    }
    path
}

/// Returns the libraries in `root` that `programs` (relative to it) need, directly or not, relative to it.
///
/// # Errors
///
/// If a program cannot be read or a library is not there; with who needs it.
pub(crate) fn of(root: &Path, programs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut libraries = BTreeSet::new();
    let mut left = programs.to_vec();
    while let Some(file) = left.pop() {
        let path = inside(root, &file);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let names = needed(&bytes).with_context(|| format!("cannot tell the libraries of {}", path.display()))?;
        if !names.is_empty() && libraries.insert(PathBuf::from(LOADER)) {
            left.push(PathBuf::from(LOADER));
        }
        for name in names {
            let Some(library) = find(root, &name) else {
                bail!(
                    "{} needs {name}, which none of the unpacked packages has",
                    file.display()
                );
            };
            if libraries.insert(library.clone()) {
                left.push(library);
            }
        }
    }
    Ok(libraries)
}
