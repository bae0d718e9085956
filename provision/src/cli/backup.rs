//! `backup`: saves the partition tables and the super blocks.

use super::{failure, inspect, unusable};
use crate::backup::Backup;
use crate::signatures::Traces;
use crate::step::Step;
use crate::target::{Access, Target};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use xen_pmem_cli::clock;
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::read::ReadAt as _;

/// Where what is overwritten on devices is saved.
const FOLDER: &str = "/var/backups/xen-pmem";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A block device (/dev/pmem0) or an image file
    target: PathBuf,
    /// The file to make; it must not be there
    file: PathBuf,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    target: String,
    backup: String,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let target = Target::open(path, Access::Read).map_err(|error| unusable(path, &error))?;
    let inspection = inspect(&target).map_err(|error| unusable(path, &error))?;
    let name = path.display().to_string();
    let failed = |error: io::Error| failure(path, ExitStatus::Failed, format!("cannot be read: {error}"));
    let backup = Backup::of_metadata(target.file(), &name, &inspection).map_err(failed)?;
    save(&backup, &arguments.file)?;
    let file = arguments.file.display().to_string();
    let document = Document {
        schema: crate::document::SCHEMA,
        target: name.clone(),
        backup: file.clone(),
    };
    flags.print(&document, || {
        format!("{name}: its partition tables and super blocks are saved in {file}\n")
    })?;
    Ok(ExitStatus::Done)
}

/// Writes a backup to a new file and makes it durable: whole under its name, or not at all.
fn save(backup: &Backup, file: &Path) -> Result<(), Failure> {
    let failed = |error| failure(file, ExitStatus::Failed, format!("cannot be written: {error}"));
    let beside = write_beside(backup, file).map_err(failed)?;
    put_in_place(beside, file).map_err(|(error, _)| failed(error))
}

/// Writes a backup to an unnamed file in its folder, and makes it durable.
fn write_beside(backup: &Backup, file: &Path) -> io::Result<NamedTempFile> {
    let text = serde_json::to_string_pretty(backup)?;
    let beside = NamedTempFile::new_in(folder_of(file))?;
    // The file itself: its errors do not contain a name that nobody knows.
    let mut open = beside.as_file();
    open.write_all(text.as_bytes())?;
    open.write_all(b"\n")?;
    beside.as_file().sync_all()?;
    Ok(beside)
}

/// Gives a file its name, which must be free, and makes that durable.
fn put_in_place(beside: NamedTempFile, file: &Path) -> Result<(), (io::Error, Option<NamedTempFile>)> {
    beside
        .persist_noclobber(file)
        .map_err(|error| (error.error, Some(error.file)))?;
    let folder = File::open(folder_of(file)).map_err(|error| (error, None))?;
    folder.sync_all().map_err(|error| (error, None))
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Saves the bytes that steps are about to overwrite, and says where. Does nothing if nothing is lost and all bytes are zero.
pub(crate) fn save_overwritten(
    path: &Path,
    target: &Target,
    steps: &[Step],
    lost: &Traces,
    flags: Flags,
) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        failure(
            path,
            ExitStatus::Failed,
            format!("what --force would overwrite cannot be read, to save it: {error}"),
        )
    };
    let size = target.file().size().map_err(failed)?;
    let saved = Backup::of_overwritten(target.file(), &path.display().to_string(), size, steps).map_err(failed)?;
    if lost.0.is_empty() && saved.pieces().all(|(_, bytes)| bytes.iter().all(|byte| *byte == 0)) {
        return Ok(());
    }
    let file = save_under_free_name(&saved, path, target.is_image())?;
    if !flags.is_quiet() {
        xen_pmem_cli::say(&format_args!(
            "{}: what is overwritten is saved in {}",
            path.display(),
            file.display()
        ));
    }
    Ok(())
}

/// Saves a backup beside an image, or in the folder of the system's backups.
fn save_under_free_name(backup: &Backup, target: &Path, is_image: bool) -> Result<PathBuf, Failure> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let seconds = clock::now().map_err(|error| failure(target, ExitStatus::Usage, error))?;
    let folder = if is_image { folder_of(target) } else { Path::new(FOLDER) };
    let failed = |what: &str, error: io::Error| {
        failure(
            folder,
            ExitStatus::Failed,
            format!("{what}, for what --force overwrites: {error}"),
        )
    };
    if !is_image {
        std::fs::create_dir_all(folder).map_err(|error| failed("cannot be made", error))?;
    }
    let cannot_write = |error| failed("no backup can be written there", error);
    let mut file = folder.join(format!("{name}.{seconds}.xen-pmem-backup"));
    let mut beside = write_beside(backup, &file).map_err(cannot_write)?;
    // More than one within a second: the next name that is free.
    for count in 1u32.. {
        match put_in_place(beside, &file) {
            Ok(()) => break,
            Err((error, Some(again))) if error.kind() == io::ErrorKind::AlreadyExists => {
                file = folder.join(format!("{name}.{seconds}-{count}.xen-pmem-backup"));
                beside = again;
            }
            Err((error, _)) => return Err(cannot_write(error)),
        }
    }
    Ok(file)
}
