//! An NVDIMM's backing file as the host sees it, read without the project's own crates: a second opinion.

use anyhow::{Context as _, Result, ensure};
use rustix::fs::SeekFrom;
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

/// Returns a little-endian number in an image.
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
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let size = file.metadata()?.len();
    let mut offset = 0;
    // Holes are zeros.
    while let Some(data) = next_data(&file, offset)? {
        let bytes = read(path, data, usize::try_from((size - data).min(MIB))?)?;
        ensure!(
            bytes.iter().all(|byte| *byte == 0),
            "{} is not blank any more near {data:#x}",
            path.display()
        );
        offset = data + MIB;
    }
    Ok(())
}

/// Returns the first byte from `offset` on that is not in a hole.
fn next_data(file: &File, offset: u64) -> Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(Some(data)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        blank(&path, 64 * MIB).unwrap();
        ensure_blank(&path).unwrap();
        write(&path, 5 * MIB, &[0; 4096]).unwrap();
        ensure_blank(&path).unwrap();
        for offset in [0, 40 * MIB + 12_345, 64 * MIB - 1] {
            write(&path, offset, &[1]).unwrap();
            assert!(ensure_blank(&path).is_err(), "{offset:#x}");
            write(&path, offset, &[0]).unwrap();
        }
        ensure_blank(&path).unwrap();
    }
}
