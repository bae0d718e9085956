//! `cargo xtask setup`: installs what this machine lacks, for all commands at once.

use crate::bench;
use crate::counts;
use crate::dist;
use crate::fuzz;
use crate::host::{self, Need};
use crate::series;
use crate::system;
use crate::xen;
use anyhow::Result;

/// Returns what each part of the workspace needs. Each part installs its own when it runs, too, except for `lint`.
fn needs() -> Vec<&'static [Need]> {
    let mut needs = vec![
        host::BUILD,
        host::TEST,
        host::E2E,
        fuzz::NEEDS,
        counts::NEEDS,
        system::NEEDS,
        xen::NEEDS,
        xen::toolstack::NEEDS,
        series::NEEDS,
        bench::NEEDS,
    ];
    needs.extend(dist::NEEDS);
    needs
}

/// Installs everything that is missing, as root.
///
/// # Errors
///
/// Without root, the one line to run; with root, apt's error.
pub(crate) fn run() -> Result<()> {
    host::install_all(&needs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;
    use std::fs;
    use std::path::Path;

    /// Returns how many lists of needs the sources below a folder have.
    fn lists(folder: &Path) -> usize {
        let mut found = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found += if path.is_dir() {
                lists(&path)
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let is_list = |line: &&str| line.contains("const ") && line.contains(": &[Need] = ");
                text.lines().filter(is_list).count()
            };
        }
        found
    }

    #[test]
    fn every_list_of_needs_is_installed() {
        // One is the line above, which counts them.
        let lists = lists(&workspace::root().join("xtask/src")) - 1;
        assert_eq!(needs().len(), lists, "a list of needs is missing in `setup`");
    }
}
