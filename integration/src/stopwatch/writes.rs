//! How long small writes to a block device take.

use super::nanoseconds;
use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Instant;

/// Bytes of a write.
const BLOCK: usize = 4096;

/// How writes reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// Past the page cache
    Direct,
    /// Into the page cache, and flushed one by one
    Flushed,
}

/// Writes `count` blocks to a device's first blocks, one after the other, and returns how long all of them took.
///
/// # Errors
///
/// If the device cannot be written, or is too small.
pub fn time(device: &Path, count: u64, how: How) -> Result<u64> {
    let flags = match how {
        How::Direct => OFlags::DIRECT,
        How::Flushed => OFlags::empty(),
    };
    let mut file: File = OpenOptions::new()
        .write(true)
        .custom_flags(i32::try_from(flags.bits())?)
        .open(device)
        .with_context(|| format!("cannot open {}", device.display()))?;
    let block = u64::try_from(BLOCK)?;
    let blocks = file.seek(SeekFrom::End(0))? / block;
    ensure!(count <= blocks, "{} has {blocks} blocks only", device.display());
    // Direct writes want memory that is aligned as blocks are.
    let memory = vec![0x5a; 2 * BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    let bytes = memory.get(start..start + BLOCK).context("memory cannot be aligned")?;
    let begin = Instant::now();
    for number in 0..count {
        file.write_all_at(bytes, number * block)?;
        if how == How::Flushed {
            file.sync_data()?;
        }
    }
    nanoseconds(begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8192).unwrap();
        assert!(time(file.path(), 3, How::Flushed).is_err());
        time(file.path(), 2, How::Flushed).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), [0x5a; 8192]);
    }
}
