//! NVDIMMs' backing files frame by frame: what a hypervisor has written, and where.

use crate::image;
use anyhow::{Context as _, Result, ensure};
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A frame.
pub const FRAME: u64 = 4096;
/// How much is compared at once.
const STRIDE: u64 = 1 << 20;
/// What a reserved area is filled with before a hypervisor gets it, so that every write into it shows.
const PATTERN: u8 = 0xa5;

/// Fills part of an image with a pattern.
///
/// # Errors
///
/// If it cannot be written.
pub fn fill(image: &Path, bytes: Range<u64>) -> Result<()> {
    let file = OpenOptions::new().write(true).open(image)?;
    let frame = [PATTERN; FRAME as usize];
    for offset in bytes.step_by(FRAME as usize) {
        file.write_all_at(&frame, offset)?;
    }
    Ok(())
}

/// Returns a copy of an image beside it, with its holes.
///
/// # Errors
///
/// If it cannot be made.
pub fn snapshot(image: &Path, name: &str) -> Result<PathBuf> {
    let copy = image.with_extension(name);
    let status = Command::new("cp")
        .arg("--sparse=always")
        .arg(image)
        .arg(&copy)
        .status()
        .context("starting cp")?;
    ensure!(status.success(), "copying {} failed", image.display());
    Ok(copy)
}

/// Returns the runs of frames in which two images differ, as ranges of bytes.
///
/// # Errors
///
/// If they cannot be read or have different sizes.
pub fn differences(one: &Path, other: &Path) -> Result<Vec<Range<u64>>> {
    let size = std::fs::metadata(one)?.len();
    ensure!(
        std::fs::metadata(other)?.len() == size,
        "the images have different sizes"
    );
    let files = [File::open(one)?, File::open(other)?];
    let mut buffers = [vec![0; STRIDE as usize], vec![0; STRIDE as usize]];
    let mut runs: Vec<Range<u64>> = Vec::new();
    for offset in (0..size).step_by(STRIDE as usize) {
        let length = usize::try_from((size - offset).min(STRIDE))?;
        for (file, buffer) in files.iter().zip(&mut buffers) {
            buffer.resize(length, 0);
            file.read_exact_at(buffer, offset)?;
        }
        let [one, other] = &buffers;
        if one == other {
            continue;
        }
        let frames = one.chunks(FRAME as usize).zip(other.chunks(FRAME as usize));
        for (start, (one, other)) in (offset..).step_by(FRAME as usize).zip(frames) {
            if one == other {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == start => run.end += FRAME,
                _ => runs.push(start..start + FRAME),
            }
        }
    }
    Ok(runs)
}

/// Returns the bytes at `range` of an image.
///
/// # Errors
///
/// If they cannot be read.
pub fn bytes(image: &Path, range: &Range<u64>) -> Result<Vec<u8>> {
    image::read(image, range.start, usize::try_from(range.end - range.start)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_frames_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        image::blank(&image, 4 << 20).unwrap();
        let before = snapshot(&image, "before").unwrap();
        assert_eq!(differences(&before, &image).unwrap(), []);
        image::write(&image, 5000, &[1]).unwrap();
        fill(&image, (1 << 20) - FRAME..(1 << 20) + FRAME).unwrap();
        let expected = [4096..8192, (1 << 20) - FRAME..(1 << 20) + FRAME];
        assert_eq!(differences(&before, &image).unwrap(), expected);
        assert_eq!(bytes(&image, &(5000..5002)).unwrap(), [1, 0]);
    }
}
