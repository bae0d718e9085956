//! `cargo xtask semver`: the public API of the crates for people outside, as text, compared with what is committed. A change of it shows in
//! review, and says whether the next version is a major one.
//!
//! cargo-semver-checks compares with a published version, which does not exist yet.

use crate::command;
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates that other projects may use, and the names of their libraries.
const LIBRARIES: [(&str, &str); 3] = [
    ("xen-pmem-format", "xen_pmem_format"),
    ("xen-pmem-nvdimm", "xen_pmem_nvdimm"),
    ("xen-pmem-discover", "xen_pmem_discover"),
];

/// Where the committed texts are.
const FOLDER: &str = "docs/api";

/// Options of `cargo xtask semver`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the public API to the files that later runs are compared with
    #[arg(long)]
    update: bool,
}

/// Compares the public API of each library with the committed text, or writes that text.
///
/// # Errors
///
/// If the documentation of a library cannot be made or read, or its public API is not the committed one.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = workspace::root().join(FOLDER);
    let mut changed = Vec::new();
    for (package, library) in LIBRARIES {
        step(&format!("the public API of {package}"));
        let json = documentation(package, library)?;
        let api = public_api::Builder::from_rustdoc_json(&json)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
            .with_context(|| format!("cannot read {}", json.display()))?;
        let api = api.items().map(|item| format!("{item}\n")).collect::<String>();
        let file = folder.join(format!("{package}.txt"));
        if options.update {
            fs::create_dir_all(&folder)?;
            fs::write(&file, api)?;
        } else if let Some(difference) = difference(&file, &api)? {
            changed.push(difference);
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    bail!(
        "the public API has changed:\n{}\nif that is intended, run `cargo xtask semver --update`; an item that is gone or different needs a new major version",
        changed.join("\n")
    )
}

/// Makes the documentation of a library as JSON, with the features that other projects get without asking.
fn documentation(package: &str, library: &str) -> Result<PathBuf> {
    command::output(
        workspace::cargo()
            // The toolchain is a stable one, and this output is not.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["rustdoc", "--locked", "--quiet", "--lib", "--package", package, "--"])
            .args([
                "-Z",
                "unstable-options",
                "--output-format",
                "json",
                "--cap-lints",
                "allow",
            ]),
    )?;
    Ok(workspace::target().join("doc").join(format!("{library}.json")))
}

/// Returns the lines that only one of the two has; `None` if they are equal.
fn difference(file: &Path, now: &str) -> Result<Option<String>> {
    let before = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let gone = before.lines().filter(|line| !now.lines().any(|other| other == *line));
    let new = now.lines().filter(|line| !before.lines().any(|other| other == *line));
    let lines: Vec<String> = gone
        .map(|line| format!("- {line}"))
        .chain(new.map(|line| format!("+ {line}")))
        .collect();
    Ok((!lines.is_empty()).then(|| format!("{}:\n{}", file.display(), lines.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_is_gone_and_one_that_is_new_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("api.txt");
        fs::write(&file, "pub fn a()\npub fn b()\n").unwrap();
        assert_eq!(difference(&file, "pub fn b()\npub fn a()\n").unwrap(), None);
        let found = difference(&file, "pub fn b()\npub fn c()\n").unwrap().unwrap();
        assert!(found.ends_with("- pub fn a()\n+ pub fn c()"), "{found}");
        assert!(difference(&folder.path().join("none"), "").is_err());
    }

    #[test]
    fn no_dependency_is_part_of_the_formats_api() {
        let text = fs::read_to_string(workspace::root().join(FOLDER).join("xen-pmem-format.txt")).unwrap();
        for other in ["gptman", "zerocopy", "crc32fast"] {
            let found = text.lines().find(|line| line.contains(&format!("{other}::")));
            assert_eq!(found, None);
        }
    }
}
