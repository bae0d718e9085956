//! External commands whose failure says which command it was.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Returns the command line, for people.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a command with this process's output.
///
/// # Errors
///
/// If it cannot be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command quietly and returns its standard output.
///
/// # Errors
///
/// If it cannot be started or does not exit with 0. The error has its output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!(
            "`{}` failed: {status}\n{}{}",
            line(command),
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    }
    Ok(stdout)
}

/// Runs a command quietly and returns all that it wrote: some programs say what they do on standard error.
///
/// # Errors
///
/// As [`output`].
pub(crate) fn output_of_both(command: &mut Command) -> Result<String> {
    let name = line(command);
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{name}`"))?;
    let said = [stdout, stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    if !status.success() {
        bail!("`{name}` failed: {status}\n{said}");
    }
    Ok(said)
}

/// Returns the output like [`output`], as text.
///
/// # Errors
///
/// As [`output`], and if the text is not UTF-8.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let line = line(command);
    String::from_utf8(output(command)?).with_context(|| format!("`{line}` wrote something that is not text"))
}

/// Returns whether a program of this name is on the path (or in the directories of administration programs, which may not be).
pub(crate) fn exists(name: &str) -> bool {
    find(name).is_some()
}

/// Returns where a program of this name is on the path.
pub(crate) fn find(name: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(&name))
        .find(|file| file.is_file())
}
