//! Whether a library can be used as its README says, in an empty project, on a machine without clang and libraries.

use crate::command;
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The crates that build with a Rust compiler and a linker alone.
const LIBRARIES: [&str; 3] = ["xen-pmem-format", "xen-pmem-nvdimm", "xen-pmem-discover"];

/// The programs that a build finds.
const PROGRAMS: [&str; 5] = ["rustc", "cargo", "cc", "ld", "as"];

/// Adds each library to an empty project, and builds and runs its README's example there.
///
/// # Errors
///
/// If a README has no example, or it does not build or fails.
pub(crate) fn check() -> Result<()> {
    let folder = workspace::target().join("consumer");
    let programs = folder.join("bin");
    workspace::discard(&programs)?;
    fs::create_dir_all(&programs).with_context(|| format!("cannot make {}", programs.display()))?;
    for program in PROGRAMS {
        let found = command::find(program).with_context(|| format!("this machine lacks `{program}`"))?;
        symlink(found, programs.join(program))?;
    }
    for library in LIBRARIES {
        step(&format!("{library} in an empty project"));
        let source = workspace::root().join(library.trim_start_matches("xen-pmem-"));
        let project = folder.join(library);
        make_project(&project, &source)?;
        let cargo = |arguments: &[&str]| {
            let mut cargo = Command::new(programs.join("cargo"));
            cargo
                .current_dir(&project)
                .env("PATH", &programs)
                .env("CARGO_TARGET_DIR", folder.join("target"))
                .args(arguments);
            cargo
        };
        command::output(cargo(&["add", "--quiet", library, "--path"]).arg(&source))?;
        command::run(&mut cargo(&["run", "--quiet"]))?;
    }
    Ok(())
}

/// Makes a project whose program is the example of the library in `source`, with the versions of dependencies that the workspace has.
fn make_project(project: &Path, source: &Path) -> Result<()> {
    workspace::discard(project)?;
    fs::create_dir_all(project.join("src")).with_context(|| format!("cannot make {}", project.display()))?;
    let readme = source.join("README.md");
    let text = fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let example = example(&text).with_context(|| format!("{} has no example", readme.display()))?;
    fs::write(project.join("src/main.rs"), example)?;
    // It is a separate workspace, since it lies in the folder of another one.
    let manifest = "[package]\nname = \"consumer\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(project.join("Cargo.toml"), manifest)?;
    fs::copy(workspace::root().join("Cargo.lock"), project.join("Cargo.lock"))?;
    Ok(())
}

/// Returns the first block of Rust in a document.
fn example(document: &str) -> Option<&str> {
    let (_, rest) = document.split_once("\n```rust\n")?;
    let (example, _) = rest.split_once("\n```")?;
    Some(example)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_of_rust_is_the_example() {
        let document = "# A\n\n```toml\na = 1\n```\n\n```rust\nfn main() {}\n```\n\n```rust\nb\n```\n";
        assert_eq!(example(document), Some("fn main() {}"));
        assert_eq!(example("# A\n"), None);
    }
}
