//! An NVDIMM's backing file as the host sees it, read without the project's own crates: a second opinion.

use anyhow::{Context as _, Result, ensure};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A mebibyte.
pub const MIB: u64 = 1 << 20;

/// Makes a blank image.
///
/// # Errors
///
/// If it cannot be made.
pub fn blank(path: &Path, size: u64) -> Result<()> {
    let file = File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(file.set_len(size)?)
}

/// Reads bytes of an image.
///
/// # Errors
///
/// If they cannot be read.
pub fn read(path: &Path, offset: u64, count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.read_exact_at(&mut bytes, offset)
        .with_context(|| format!("reading {count} bytes at {offset:#x}"))?;
    Ok(bytes)
}

/// Writes bytes of an image.
///
/// # Errors
///
/// If they cannot be written.
pub fn write(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    Ok(OpenOptions::new().write(true).open(path)?.write_all_at(bytes, offset)?)
}

/// A little-endian number in an image.
///
/// # Errors
///
/// If it cannot be read.
pub fn number(path: &Path, offset: u64) -> Result<u64> {
    let bytes = read(path, offset, 8)?;
    Ok(u64::from_le_bytes(bytes.as_slice().try_into()?))
}

/// Checks that an image is all zeros.
///
/// # Errors
///
/// If it is not; with where.
pub fn ensure_blank(path: &Path) -> Result<()> {
    let size = std::fs::metadata(path)?.len();
    for offset in (0..size).step_by(1 << 20) {
        let bytes = read(path, offset, usize::try_from((size - offset).min(MIB))?)?;
        let found = bytes.iter().position(|byte| *byte != 0);
        ensure!(
            found.is_none(),
            "{} is not blank any more near {offset:#x}",
            path.display()
        );
    }
    Ok(())
}
