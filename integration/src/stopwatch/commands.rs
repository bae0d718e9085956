//! How long command lines take, as whole processes.

use super::nanoseconds;
use anyhow::{Context as _, Result, ensure};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs each command line (words separated by spaces) `rounds` times in turn, and returns the times of each.
///
/// # Errors
///
/// If one cannot be started or does not end with exit code 0: what fails is not comparable with what does its work.
pub fn time(lines: &[&str], rounds: usize) -> Result<Vec<Vec<u64>>> {
    // What is run for the first time is read from the disk, and translated by an emulator.
    let mut times = vec![Vec::new(); lines.len()];
    for round in 0..=rounds {
        for (line, times) in lines.iter().zip(&mut times) {
            let mut words = line.split_whitespace();
            let mut command = Command::new(words.next().context("a command line without words")?);
            command
                .args(words)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let begin = Instant::now();
            let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
            let time = begin.elapsed();
            ensure!(status.success(), "`{line}` ended with {status}");
            if round > 0 {
                times.push(nanoseconds(time)?);
            }
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_run_as_often() {
        let times = time(&["true", "true --help"], 3).unwrap();
        assert_eq!(times.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        assert!(time(&["true", "false"], 1).is_err());
    }
}
