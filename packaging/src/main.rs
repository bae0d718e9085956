//! Makes the manual pages and shell completions of the tools, from their own command lines.

mod manual;
mod sections;
mod specification;

use anyhow::{Context as _, Result};
use clap::{Command, Parser};
use clap_complete::{Shell, generate_to};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes manual pages and shell completions.
#[derive(Parser)]
struct Cli {
    /// The folder to write to: manual pages to `man`, completions to `bash`, `zsh` and `fish`
    folder: PathBuf,
}

/// Returns the command lines of all tools.
fn tools() -> [Command; 3] {
    [
        xen_pmem_provision::cli::command(),
        xen_pmem_discover::cli::command(),
        xen_pmem_report::cli::command(),
    ]
}

fn main() -> Result<()> {
    let Cli { folder } = Cli::parse();
    let man = made(&folder.join("man"))?;
    for (name, page) in manual::pages(tools())? {
        write(&man.join(name), &page)?;
    }
    write(&man.join(specification::NAME), specification::page().as_bytes())?;
    for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let folder = made(&folder.join(name))?;
        for mut tool in tools() {
            let program = tool.get_name().to_owned();
            generate_to(shell, &mut tool, program, &folder)
                .with_context(|| format!("cannot write completions to {}", folder.display()))?;
        }
    }
    Ok(())
}

fn made(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.to_owned())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
