//! How long small writes and reads take.

use super::nanoseconds;
use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use memmap2::{MmapMut, MmapOptions};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Instant;

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Blocks are read in the order of this number's multiples: no two neighbours in turn.
const STRIDE: u64 = 2_654_435_761;

/// How blocks reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// Past the page cache
    Direct,
    /// Into the page cache, and flushed one by one
    Flushed,
    /// Past the page cache, and durable one by one
    Durable,
    /// By the memory itself (DAX), mapped and touched before, and durable one by one
    Mapped,
}

/// What is done with blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// They are written, one after the other.
    Writes,
    /// They are read, here and there.
    Reads,
}

/// A device, or a file, with whole blocks.
struct Blocks {
    file: File,
    count: u64,
}

impl Blocks {
    fn open(path: &Path, how: How) -> Result<Self> {
        let flags = match how {
            How::Direct => OFlags::DIRECT,
            How::Durable => OFlags::DIRECT | OFlags::DSYNC,
            How::Flushed | How::Mapped => OFlags::empty(),
        };
        let mut file: File = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(flags.bits())?)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let count = file.seek(SeekFrom::End(0))? / u64::try_from(BLOCK)?;
        Ok(Self { file, count })
    }

    fn map(&self) -> Result<MmapMut> {
        let length = usize::try_from(self.count)?.checked_mul(BLOCK).context("too large")?;
        // SAFETY: other processes may change the file meanwhile: its bytes are only read as bytes or overwritten, and every value is
        // valid. Nobody makes the file smaller: this program has its own file.
        let map = unsafe { MmapOptions::new().len(length).map_mut(&self.file) };
        map.context("cannot map it")
    }
}

/// Writes or reads `count` blocks of a device or a file, and returns how long all of them took.
///
/// # Errors
///
/// If it cannot be opened, written or read, or is too small.
pub fn time(path: &Path, count: u64, how: How, what: What) -> Result<u64> {
    let blocks = Blocks::open(path, how)?;
    ensure!(
        count <= blocks.count,
        "{} has {} blocks only",
        path.display(),
        blocks.count
    );
    let mut map = (how == How::Mapped).then(|| blocks.map()).transpose()?;
    // Direct writes and reads want memory that is aligned as blocks are.
    let mut memory = vec![0x5a; 2 * BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    let bytes = memory
        .get_mut(start..start + BLOCK)
        .context("memory cannot be aligned")?;
    if let Some(map) = &mut map {
        // What uses a map for long has taken its page faults.
        for place in map.chunks_exact_mut(BLOCK) {
            store(place, bytes);
        }
    }
    let begin = Instant::now();
    for number in 0..count {
        let number = match what {
            What::Writes => number,
            What::Reads => number.wrapping_mul(STRIDE) % blocks.count,
        };
        let offset = number * u64::try_from(BLOCK)?;
        let mapped = match &mut map {
            Some(map) => {
                let from = usize::try_from(offset)?;
                Some(map.get_mut(from..from + BLOCK).context("the map is too small")?)
            }
            None => None,
        };
        match (what, mapped) {
            (What::Writes, Some(place)) => store(place, bytes),
            (What::Reads, Some(place)) => bytes.copy_from_slice(place),
            (What::Writes, None) => {
                blocks.file.write_all_at(bytes, offset)?;
                if how == How::Flushed {
                    blocks.file.sync_data()?;
                }
            }
            (What::Reads, None) => blocks.file.read_exact_at(bytes, offset)?,
        }
        black_box(&mut *bytes);
    }
    nanoseconds(begin.elapsed())
}

/// Copies a block by stores that go past the caches, and waits until they are at the memory: durable without a flush.
fn store(place: &mut [u8], bytes: &[u8]) {
    use core::arch::x86_64::{_mm_sfence, _mm_stream_si64};
    let (places, _) = place.as_chunks_mut::<8>();
    let (words, _) = bytes.as_chunks::<8>();
    for (place, word) in places.iter_mut().zip(words) {
        // SAFETY: `place` is eight bytes that this function may write. They are aligned to eight: blocks are in a map, which begins at a
        // page. Every processor of this architecture has the instruction.
        unsafe { _mm_stream_si64(place.as_mut_ptr().cast(), i64::from_le_bytes(*word)) };
    }
    // SAFETY: every processor of this architecture has the instruction, and it has no operand.
    unsafe { _mm_sfence() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8192).unwrap();
        assert!(time(file.path(), 3, How::Flushed, What::Writes).is_err());
        time(file.path(), 2, How::Flushed, What::Writes).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), [0x5a; 8192]);
    }

    #[test]
    fn mapped_blocks_are_written_and_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 * 4096).unwrap();
        time(file.path(), 3, How::Mapped, What::Writes).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), [0x5a; 4 * 4096]);
        time(file.path(), 4, How::Mapped, What::Reads).unwrap();
        assert!(time(file.path(), 5, How::Mapped, What::Reads).is_err());
    }
}
