//! Debian's Xen with the project's patches, built from Debian's source package.
//!
//! Neither sources nor binaries are ever committed. Nothing is built again while source version, patches and configuration are the same.

pub(crate) mod source;
pub(crate) mod toolstack;
pub(crate) mod tree;

use crate::host::{self, Need};
use crate::suite::Suite;
use crate::workspace;
use anyhow::{Context as _, Result};
use source::{RELEASE, Source};
use std::fs;
use std::path::{Path, PathBuf};
use tree::{Configuration, Tree, series};

/// The suite whose Xen the patches are for.
pub(crate) const SUITE: Suite = Suite::Trixie;

/// What building takes.
pub(crate) const NEEDS: &[Need] = &[
    Need {
        program: "gcc",
        package: "build-essential",
    },
    Need {
        program: "make",
        package: "build-essential",
    },
    Need {
        program: "bison",
        package: "bison",
    },
    Need {
        program: "flex",
        package: "flex",
    },
    Need {
        program: "python3",
        package: "python3",
    },
    Need {
        program: "patch",
        package: "patch",
    },
    Need {
        program: "git",
        package: "git",
    },
    Need {
        program: "xz",
        package: "xz-utils",
    },
];

/// The name of the configuration that a hypervisor was built with, beside it.
const CONFIGURATION: &str = "config";

/// Builds the patched hypervisor and returns the path of the ELF file that boots. [`configuration`] is beside it.
///
/// # Errors
///
/// If the source cannot be fetched, a patch does not apply, or the build fails.
pub(crate) fn build(debug: bool) -> Result<PathBuf> {
    host::install(NEEDS)?;
    made(RELEASE, &source::source(RELEASE)?, debug)
}

pub(crate) fn made(release: &str, source: &Source, debug: bool) -> Result<PathBuf> {
    let patches = patches()?;
    let folder = workspace::target()
        .join("xen")
        .join(release)
        .join(if debug { "debug" } else { "release" });
    let stamp = format!("{}{CONFIGURATION}\n", stamp(source, &patches, debug)?);
    kept(&folder, "xen", &stamp, source, &patches, |tree, log| {
        let configuration = Configuration {
            debug,
            options: tree::ON,
            whole: true,
        };
        let tree = Tree::at(tree);
        let made = tree.make(configuration, log)?;
        fs::copy(tree.configuration(), folder.join(CONFIGURATION)).context("the build left no configuration")?;
        Ok(made)
    })
}

/// Returns the configuration that a hypervisor of [`build`] was built with.
pub(crate) fn configuration(built: &Path) -> PathBuf {
    built.with_file_name(CONFIGURATION)
}

/// Returns what `build` makes from the source with our patches, kept in `folder` as `name` as long as `stamp` stays the same. `build` gets
/// the paths of the tree and of its log.
fn kept(
    folder: &Path,
    name: &str,
    stamp: &str,
    source: &Source,
    patches: &[PathBuf],
    build: impl FnOnce(&Path, &Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    let result = folder.join(name);
    let stamp_file = folder.join("stamp");
    if result.is_file() && fs::read_to_string(&stamp_file).is_ok_and(|text| text == stamp) {
        return Ok(result);
    }

    workspace::discard(folder)?;
    let place = folder.join("tree");
    let tree = Tree::at(&place);
    tree.unpack(source)?;
    for patch in patches {
        tree.patch(patch)?;
    }
    let made = build(&place, &folder.join("build.log"))?;
    fs::copy(made, &result).with_context(|| format!("the build made no {name}"))?;
    fs::remove_dir_all(&place)?;
    // Last: without it, all is done again.
    fs::write(&stamp_file, stamp)?;
    Ok(result)
}

/// Returns our own patches.
pub(crate) fn patches() -> Result<Vec<PathBuf>> {
    series(&workspace::root().join("xen").join("patches"))
}

/// Returns all that the result depends on: the source's version, the whole text of our patches, and the configuration.
fn stamp(source: &Source, patches: &[PathBuf], debug: bool) -> Result<String> {
    let mut stamp = format!("{}\ndebug={debug}\n{}\n", source.name(), tree::ON.join("\n"));
    for patch in patches {
        let text = fs::read_to_string(patch).with_context(|| format!("cannot read {}", patch.display()))?;
        stamp.push_str(&text);
    }
    Ok(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_of_the_series_is_there() {
        let folder = workspace::root().join("xen/patches");
        let patches = patches().unwrap();
        assert!(!patches.is_empty());
        // The cover letter has the form of a patch, and changes nothing.
        let is_patch = |name: &str| name.ends_with(".patch") && !name.ends_with("cover-letter.patch");
        let there = fs::read_dir(folder).unwrap().filter_map(Result::ok);
        let there = there.filter(|entry| is_patch(&entry.file_name().to_string_lossy()));
        assert_eq!(there.count(), patches.len());
        assert!(patches.iter().all(|patch| patch.is_file()));
    }
}
