//! `cargo xtask mutants`: whether the format's tests notice when the format is changed.

use crate::cargo_tools;
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;

/// Mutants that no test can tell from the original, each with the reason, named as cargo-mutants does but without line and column.
const EQUIVALENT: &str = "format/equivalent-mutants.txt";

/// Runs the tests on every mutant of the format.
///
/// # Errors
///
/// If a mutant survives without an explanation, or an explained one no longer exists.
pub(crate) fn run() -> Result<()> {
    let mutants = cargo_tools::install(&cargo_tools::MUTANTS)?;
    let output = workspace::target().join("mutants");
    step("mutating the format: some twenty minutes");
    let mut command = std::process::Command::new(mutants);
    command
        .current_dir(workspace::root())
        .args([
            "mutants",
            "--package",
            "xen-pmem-format",
            "--timeout",
            "60",
            "--no-times",
        ])
        .arg("--output")
        .arg(&output);
    // Its exit code says whether any survived; which ones is in its report.
    let status = command.status().context("starting cargo-mutants")?;
    let report = |name: &str| -> Result<Vec<String>> {
        let path = output.join("mutants.out").join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("{}: no report ({status})", path.display()))?;
        Ok(text.lines().map(without_position).collect())
    };
    let (missed, caught, unviable) = (report("missed.txt")?, report("caught.txt")?, report("unviable.txt")?);
    let timeouts = report("timeout.txt")?;
    let explained = explained(&workspace::root().join(EQUIVALENT))?;
    println!(
        "{} mutants noticed, {} more by not ending, {} do not compile, {} survive",
        caught.len(),
        timeouts.len(),
        unviable.len(),
        missed.len()
    );
    let unexplained: Vec<&String> = missed.iter().filter(|mutant| !explained.contains(mutant)).collect();
    let stale: Vec<&String> = explained.iter().filter(|mutant| !missed.contains(mutant)).collect();
    if !unexplained.is_empty() {
        bail!(
            "these survive and are not explained in {EQUIVALENT}:\n{}",
            lines(&unexplained)
        );
    }
    if !stale.is_empty() {
        bail!(
            "these are explained in {EQUIVALENT} and do not survive:\n{}",
            lines(&stale)
        );
    }
    Ok(())
}

fn lines(mutants: &[&String]) -> String {
    mutants.iter().map(|mutant| format!("  {mutant}\n")).collect()
}

/// Returns the mutants in the file: lines that are neither empty nor reasons, which begin with `#`.
fn explained(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_mutant = |line: &&str| !line.is_empty() && !line.starts_with('#');
    Ok(text.lines().filter(is_mutant).map(str::to_owned).collect())
}

/// Returns `file:line:column: what` without line and column, which change with every edit.
fn without_position(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => mutant.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_do_not_matter() {
        assert_eq!(
            without_position("format/src/a.rs:12:5: replace > with >= in f::<T>"),
            "format/src/a.rs: replace > with >= in f::<T>"
        );
        assert_eq!(without_position("nothing"), "nothing");
    }
}
