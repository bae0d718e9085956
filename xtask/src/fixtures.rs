//! `cargo xtask fixtures`: records anew the sysfs trees that the discoverer's tests run on.

use crate::e2e;
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::path::Path;

/// The scenarios that record.
const SCENARIOS: [&str; 3] = ["shapes-labels", "shapes-many", "shapes-legacy"];

/// Runs the scenarios and takes what they have recorded.
///
/// # Errors
///
/// If one fails, or has recorded nothing.
pub(crate) fn run() -> Result<()> {
    e2e::run(&e2e::Options::keeping(&SCENARIOS))?;
    let fixtures = workspace::root().join("discover/tests/recorded");
    fs::create_dir_all(&fixtures)?;
    for scenario in SCENARIOS {
        let run = workspace::e2e("run")?.join(format!("trixie-{scenario}"));
        let recorded = run.join("recorded");
        let files = fs::read_dir(&recorded).with_context(|| format!("nothing in {}", recorded.display()))?;
        for file in files {
            let file = file?;
            let to = fixtures.join(file.file_name());
            fs::copy(file.path(), &to)?;
            step(&format!("recorded {}", to.display()));
        }
        fs::remove_dir_all(&run)?;
    }
    Ok(())
}

/// Unpacks the recorded tree `name`, whose lines are files (F) and links (L) with their contents, below `root/sys`, and makes blank
/// images of its devices in `root/dev`.
///
/// # Errors
///
/// If there is no such tree, or it cannot be unpacked.
pub(crate) fn unpack(name: &str, root: &Path) -> Result<()> {
    let file = workspace::root()
        .join("discover/tests/recorded")
        .join(format!("{name}.tree"));
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let sys = root.join("sys");
    for line in text.lines() {
        let parts: Vec<&str> = line.splitn(3, '\t').collect();
        let [kind, path, content] = parts.as_slice() else {
            bail!("{}: {line:?} is neither a file nor a link", file.display())
        };
        let path = sys.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&sys))?;
        match *kind {
            "L" => std::os::unix::fs::symlink(sys.join(content), &path)?,
            _ => fs::write(&path, format!("{content}\n"))?,
        }
    }
    fs::create_dir_all(root.join("dev"))?;
    for disk in fs::read_dir(sys.join("class/block"))? {
        let disk = disk?;
        let sectors: u64 = fs::read_to_string(disk.path().join("size"))?.trim().parse()?;
        File::create(root.join("dev").join(disk.file_name()))?.set_len(sectors * 512)?;
    }
    Ok(())
}
