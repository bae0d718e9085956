//! `cargo xtask fixtures`: records anew the sysfs trees that the discoverer's tests run on.

use crate::e2e;
use crate::progress::step;
use crate::suite::{Suite, Suites};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::path::Path;

/// The suites whose trees are recorded.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Debian release of the kernel: trixie, bookworm, bullseye, forky, or all, one after the other
    #[arg(long, default_value = "all")]
    suite: Suites,
}

/// Returns the scenarios that record. Those of other suites show what their kernels do otherwise.
fn scenarios(suite: Suite) -> &'static [&'static str] {
    match suite {
        Suite::Trixie => &[
            "shapes-labels",
            "shapes-many",
            "shapes-legacy",
            "cxl-bare",
            "cxl-report",
        ],
        Suite::Bookworm | Suite::Bullseye | Suite::Forky => &["shapes-labels"],
    }
}

/// Runs the scenarios and takes what they have recorded.
///
/// # Errors
///
/// If one fails, or has recorded nothing.
pub(crate) fn run(options: &Options) -> Result<()> {
    for suite in &options.suite.0 {
        run_on(*suite)?;
    }
    Ok(())
}

fn run_on(suite: Suite) -> Result<()> {
    let scenarios = scenarios(suite);
    e2e::run(&e2e::Options::keeping(suite, scenarios))?;
    let fixtures = workspace::root().join("discover/tests/recorded");
    fs::create_dir_all(&fixtures)?;
    // The names of the default suite's trees are in tests and documents.
    let prefix = match suite {
        Suite::Trixie => String::new(),
        other => format!("{}-", other.name()),
    };
    for scenario in scenarios {
        let run = workspace::e2e("run")?.join(format!("{}-{scenario}", suite.name()));
        let recorded = run.join("recorded");
        let files = fs::read_dir(&recorded).with_context(|| format!("nothing in {}", recorded.display()))?;
        for file in files {
            let file = file?;
            let name = format!("{prefix}{}", file.file_name().to_string_lossy());
            let to = fixtures.join(name);
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
/// If the tree does not exist, or cannot be unpacked.
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
