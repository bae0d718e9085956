//! What documents say of the tools: command lines that the tools take, words that they say, files that are there.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end wherever something is not as it should be"
)]

use std::fs;
use std::path::{Path, PathBuf};
use xen_pmem_integration::guide::{OPERATING, blocks};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All documents: their names and texts.
fn documents() -> Vec<(String, String)> {
    let root = root();
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.extend(["README.md", "CONTRIBUTING.md"].map(|file| root.join(file)));
    files.sort();
    files
        .into_iter()
        .map(|file| {
            (
                file.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(file).unwrap(),
            )
        })
        .collect()
}

/// The lines of a document's blocks of code, fenced or indented.
fn code(document: &str) -> Vec<String> {
    let mut lines: Vec<String> = blocks(document).into_iter().flat_map(|block| block.lines).collect();
    lines.extend(
        document
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .map(str::to_owned),
    );
    lines
}

#[test]
fn command_lines_are_ones_that_the_tools_take() {
    let tools = || {
        [
            xen_pmem_provision::cli::command(),
            xen_pmem_discover::cli::command(),
            xen_pmem_report::cli::command(),
        ]
    };
    let mut seen = 0;
    for (name, text) in documents() {
        for line in code(&text) {
            let line = line.trim().trim_start_matches("$ ");
            let line = line.split(" #").next().unwrap();
            let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "|").collect();
            let Some(tool) = tools().into_iter().find(|tool| Some(&tool.get_name()) == words.first()) else {
                continue;
            };
            if let Err(error) = tool.try_get_matches_from(&words) {
                panic!("{name}: {line}\n{error}");
            }
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen} command lines only");
}

#[test]
fn messages_in_the_guide_are_the_tools_own() {
    let mut sources = String::new();
    for part in ["format", "provision", "discover", "report"] {
        collect(&root().join(part).join("src"), &mut sources);
    }
    let table = OPERATING.split("## What to do when it says").nth(1).unwrap();
    let says: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .collect();
    assert!(says.len() >= 8, "{says:?}");
    for words in says {
        assert!(sources.contains(words), "no tool says {words:?}");
    }
}

fn collect(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else {
            *text += &fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for (name, text) in documents() {
        let folder = if name.chars().next().unwrap().is_uppercase() {
            root()
        } else {
            root().join("docs")
        };
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(folder.join(target).exists(), "{name} links to {link}");
        }
    }
}
