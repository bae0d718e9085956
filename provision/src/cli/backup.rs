//! `backup`: saves the partition tables and the super blocks.

use super::{failure, unusable};
use crate::backup::Backup;
use crate::target::{Access, Target};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::{Failure, Flags};

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
    let inspection = target.inspect().map_err(|error| unusable(path, &error))?;
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

/// Writes a backup to a new file, and makes it durable.
fn save(backup: &Backup, file: &Path) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let text = serde_json::to_string_pretty(backup)?;
        let mut open = OpenOptions::new().write(true).create_new(true).open(file)?;
        open.write_all(text.as_bytes())?;
        open.write_all(b"\n")?;
        open.sync_all()
    };
    write().map_err(|error| failure(file, ExitStatus::Failed, format!("cannot be written: {error}")))
}

/// Saves what is about to be overwritten, beside an image or in the folder of the system's backups, and says where.
pub(crate) fn save_overwritten(backup: &Backup, target: &Path, is_image: bool) -> Result<PathBuf, Failure> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map(|elapsed| elapsed.as_secs())
        .unwrap_or_default();
    let folder = match target.parent() {
        Some(folder) if is_image => folder.to_owned(),
        _ => PathBuf::from(FOLDER),
    };
    let no_folder = |error| {
        failure(
            &folder,
            ExitStatus::Failed,
            format!("cannot be made, for what --force overwrites: {error}"),
        )
    };
    if !is_image {
        std::fs::create_dir_all(&folder).map_err(no_folder)?;
    }
    // More than one within a second: the next name that is free.
    let names = (0u32..).map(|count| match count {
        0 => format!("{name}.{seconds}.xen-pmem-backup"),
        count => format!("{name}.{seconds}-{count}.xen-pmem-backup"),
    });
    let file = names
        .map(|name| folder.join(name))
        .find(|file| !file.exists())
        .unwrap_or(folder);
    save(backup, &file)?;
    Ok(file)
}
