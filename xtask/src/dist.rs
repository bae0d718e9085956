//! `cargo xtask dist`: what packagers ship. Debian packages, RPMs, a tarball of static binaries, manual pages, completions.

mod check;
mod crates;
mod debian;
mod make;
mod rpm;
mod tarball;
mod xen;

pub(crate) use make::{packages, xen_packages};

use crate::host::Need;

use crate::workspace;
use anyhow::Result;

/// What making the packages and checking them takes of this machine.
pub(crate) const NEEDS: [&[Need]; 4] = [
    make::NEEDS,
    debian::LINT_NEEDS,
    rpm::LINT_NEEDS,
    rpm::installation::NEEDS,
];

/// Options of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build everything a second time, in another folder, compare the bytes; run lintian and rpmlint; install the RPMs into a folder; package the crates
    #[arg(long)]
    check: bool,
}

/// Makes the packages, the RPMs and the tarball in `target/dist`.
///
/// # Errors
///
/// If something does not build; with `--check`, if two builds differ, lintian or rpmlint finds an error, or RPMs do not install.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = workspace::target().join("dist");
    let made = make::all(workspace::root(), &workspace::target(), &folder, None)?;
    if options.check {
        debian::lint(&made)?;
        rpm::lint(&made)?;
        rpm::installation::check(&made)?;
        check::reproducible(&made)?;
        check::complete(&made)?;
        crates::check()?;
    }
    for file in &made {
        println!("{}", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::workspace;
    use std::fs;

    /// The files of the repository that the Debian packages have, and where they put them, stand in the document for other packagers.
    #[test]
    fn the_document_says_where_everything_goes() {
        let document = fs::read_to_string(workspace::root().join("docs/packaging.md")).unwrap();
        let mut seen = 0;
        for package in ["provision", "discover", "report", "packaging"] {
            let manifest = fs::read_to_string(workspace::root().join(package).join("Cargo.toml")).unwrap();
            for line in manifest.lines().filter(|line| line.starts_with("    [\"")) {
                let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
                let [from, to, _] = words.as_slice() else {
                    panic!("{line}")
                };
                // What is made is named by program there.
                let Some(from) = from.strip_prefix("../") else { continue };
                if from.ends_with("lintian-overrides") {
                    continue;
                }
                let row = document.lines().find(|row| row.contains(&format!("`{from}`")));
                let row = row.unwrap_or_else(|| panic!("{from} is not in the document"));
                // The second of the vectors and the headers stands with the documents.
                let folder = to.trim_end_matches('/').trim_end_matches("/vectors");
                let is_there = row.contains(&format!("`/{folder}`")) || row.contains("| the same |");
                assert!(is_there, "{from} goes to {to}: {row}");
                seen += 1;
            }
        }
        assert!(seen >= 10, "{seen} files only");
    }
}
