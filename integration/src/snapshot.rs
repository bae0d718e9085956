//! Machines that have booted once. As soon as a machine's agent is up, its state is saved: its memory, its devices, its console's output.
//! After that, each machine of the same make continues from there, in a fraction of a second.
//!
//! At that moment no driver for NVDIMMs is loaded and the tools under test are not there yet, so a snapshot does not depend on the content
//! of NVDIMMs or on the tools. Memory is a file, which needs no saving: machines from the snapshot map it privately, so that they share
//! what they do not change. QEMU then saves only the devices (its capability `x-ignore-shared`).

use crate::machine::{self, Config, Root};
use crate::manifest::Manifest;
use crate::poll;
use crate::qmp::Qmp;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// QEMU's arguments for a machine that starts from a snapshot.
pub(crate) const WAITING: [&str; 2] = ["-incoming", "defer"];
/// How long QEMU may take to save or to load a machine's devices; it takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(30);
/// What a disk must have left for a snapshot to be taken.
const ROOM: u64 = 8 << 30;

/// The snapshot of one make of machine, there or not.
pub(crate) struct Snapshot {
    folder: PathBuf,
}

impl Snapshot {
    /// Returns the snapshot of machines made as `config` says; `None` where each is to boot.
    ///
    /// # Errors
    ///
    /// If what they are made of cannot be looked at.
    pub(crate) fn of(manifest: &Manifest, config: &Config) -> io::Result<Option<Self>> {
        let Some(snapshots) = &manifest.snapshots else {
            return Ok(None);
        };
        // No snapshot for an installed system (its boot is under test), for a terminal (it is for people), and for a clock that counts
        // (it starts at the start). QEMU does not save the device that copies, AMD's IOMMU and CXL memory. A machine with its own
        // firmware tables tests those.
        let unsaved = config.copier || config.iommu.is_some() || !config.acpi_tables.is_empty() || config.cxl.is_some();
        if config.root != Root::Memory || config.interactive || config.counted || unsaved {
            return Ok(None);
        }
        let name = match config.kind {
            machine::Kind::Bare => "bare",
            machine::Kind::Xen => config.hypervisor.as_str(),
        };
        let software = hash(&machine::software(manifest, config)?);
        let make = hash(&machine::fingerprint(config)?);
        let family = snapshots.join(format!("{name}-{software:016x}"));
        if !family.is_dir() {
            forget(snapshots, name, &family)?;
            fs::create_dir_all(&family)?;
        }
        Ok(Some(Self {
            folder: family.join(format!("{make:016x}")),
        }))
    }

    /// Returns whether it has been taken.
    pub(crate) fn is_there(&self) -> bool {
        self.folder.is_dir()
    }

    /// Returns whether the disk has room for one more.
    pub(crate) fn has_room(&self) -> io::Result<bool> {
        let family = self.folder.parent().unwrap_or(&self.folder);
        let disk = rustix::fs::statvfs(family)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize) > ROOM)
    }

    /// Keeps others from taking the same snapshot as long as the result lives.
    pub(crate) fn lock(&self) -> io::Result<File> {
        let lock = File::create(self.folder.with_extension("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Returns the path of the memory of the machine that will become the snapshot.
    pub(crate) fn memory_to_be(&self) -> io::Result<PathBuf> {
        let making = self.making();
        if making.exists() {
            fs::remove_dir_all(&making)?;
        }
        fs::create_dir_all(&making)?;
        Ok(making.join("memory"))
    }

    /// Saves the machine that `qmp` leads to, whose memory is where [`Self::memory_to_be`] says and whose console is `console`. It does
    /// not run any more then.
    pub(crate) fn take(&self, qmp: &mut Qmp, console: &Path) -> Result<()> {
        let making = self.making();
        ignore_shared(qmp)?;
        let save = format!("exec:cat >{}", quoted(&making.join("devices")));
        qmp.execute("migrate", json!({ "uri": save }))?;
        poll::until("QEMU has saved the machine", LIMIT, || {
            let progress = qmp.execute("query-migrate", json!({}))?;
            match progress["status"].as_str() {
                Some("completed") => Ok(Some(())),
                Some("failed" | "cancelled") => bail!("QEMU cannot save the machine: {progress}"),
                _ => Ok(None),
            }
        })?;
        fs::copy(console, making.join("console"))?;
        fs::rename(&making, &self.folder).context("keeping the snapshot")
    }

    /// Returns the memory of a machine that is woken up.
    pub(crate) fn memory(&self) -> PathBuf {
        self.folder.join("memory")
    }

    /// Begins a machine's console with what that of the snapshot had said.
    pub(crate) fn begin_console(&self, console: &Path) -> io::Result<()> {
        fs::copy(self.folder.join("console"), console).map(drop)
    }

    /// Loads the snapshot into the machine that `qmp` leads to, which was started with [`WAITING`], and waits until it runs.
    pub(crate) fn wake(&self, qmp: &mut Qmp) -> Result<()> {
        ignore_shared(qmp)?;
        let load = format!("exec:cat {}", quoted(&self.folder.join("devices")));
        qmp.execute("migrate-incoming", json!({ "uri": load }))?;
        poll::until("the machine is awake", LIMIT, || {
            let status = qmp.execute("query-status", json!({}))?;
            Ok((status["running"] == true).then_some(()))
        })
    }

    fn making(&self) -> PathBuf {
        self.folder.with_extension("making")
    }
}

/// Tells QEMU not to save and load memory that is shared with a file: NVDIMMs, and memory that is a file.
fn ignore_shared(qmp: &mut Qmp) -> Result<()> {
    let capability = json!({ "capability": "x-ignore-shared", "state": true });
    qmp.execute("migrate-set-capabilities", json!({ "capabilities": [capability] }))?;
    Ok(())
}

/// Removes old snapshots of machines called `name`: all except `family`, which another scenario may be making.
fn forget(snapshots: &Path, name: &str, family: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(snapshots) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let of = path.file_name().and_then(|file| file.to_str()?.rsplit_once('-'));
        if path == family || of.is_none_or(|(of, _)| of != name) {
            continue;
        }
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn hash(of: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    // A machine depends on the code that makes it.
    include_str!("machine.rs").hash(&mut hasher);
    of.hash(&mut hasher);
    hasher.finish()
}

/// Returns a path as a word of a shell's.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
