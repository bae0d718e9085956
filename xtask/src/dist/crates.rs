//! The crates, packaged as for a registry.

use crate::command;
use crate::crates::{self, Package};
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::Path;

/// Packages every crate as for a registry, those that never go there too, and builds each from its package alone.
pub(super) fn check() -> Result<()> {
    step("packaging the crates");
    // Cargo never unpacks or builds a version a second time, but our crates change between two runs. So each run removes both first.
    let folder = workspace::target().join("crates");
    workspace::discard(&folder)?;
    forget_unpacked(&workspace::cargo_home().join("registry/src"), &crates::own()?)?;
    command::run(
        workspace::cargo()
            .args([
                "package",
                "--workspace",
                "--quiet",
                "--locked",
                "--allow-dirty",
                "--target-dir",
            ])
            .arg(&folder),
    )
}

/// Removes what Cargo unpacked of these packages from the folders of its registries, which are below `unpacked`.
fn forget_unpacked(unpacked: &Path, packages: &[Package]) -> Result<()> {
    if !unpacked.exists() {
        return Ok(());
    }
    for registry in fs::read_dir(unpacked).with_context(|| format!("cannot read {}", unpacked.display()))? {
        let registry = registry?.path();
        for Package { name, version, .. } in packages {
            workspace::discard(&registry.join(format!("{name}-{version}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_unpacked_earlier_are_forgotten_and_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let (ours, others) = ("xen-pmem-format-0.1.0", "xen-pmem-format-0.0.9");
        for folder in [ours, others] {
            fs::create_dir_all(home.path().join("registry").join(folder).join("src")).unwrap();
        }
        let packages = [Package {
            name: "xen-pmem-format".to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            links: None,
            rust_version: None,
            dependencies: Vec::new(),
        }];
        forget_unpacked(home.path(), &packages).unwrap();
        assert!(!home.path().join("registry").join(ours).exists());
        assert!(home.path().join("registry").join(others).exists());
        forget_unpacked(&home.path().join("nothing"), &packages).unwrap();
    }
}
