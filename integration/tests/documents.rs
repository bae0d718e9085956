//! What documents say of the tools: command lines that are run somewhere, words that the tools say, files that are there.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end wherever something is not as it should be"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use xen_pmem_integration::documents::{GUIDE, Place, UNIT, all, blocks, inline, read, root, without_comment};

/// Command lines in sentences that nothing runs as they stand, and why not.
const NOT_RUN: &[(&str, &str)] = &[(
    "apt install ./xen-pmem*.deb",
    "apt-get does it, from another folder, when the system of the scenarios `installed*` is made",
)];

/// Programs of others that documents have command lines of.
const PROGRAMS: &[&str] = &[
    "apt",
    "dd",
    "journalctl",
    "mkfs.ext4",
    "modprobe",
    "mount",
    "ndctl",
    "parted",
    "partprobe",
    "sfdisk",
    "sgdisk",
    "systemctl",
    "udevadm",
    "umount",
    "xenstore-ls",
    "xenstore-read",
    "xl",
];

fn is_program(word: &str) -> bool {
    PROGRAMS.contains(&word) || tools().iter().any(|tool| tool.get_name() == word)
}

fn tools() -> [clap::Command; 3] {
    [
        xen_pmem_provision::cli::command(),
        xen_pmem_discover::cli::command(),
        xen_pmem_report::cli::command(),
    ]
}

/// Returns the command lines that scenarios run out of documents, with the names of these.
fn executed() -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for document in all().unwrap() {
        for block in blocks(&document.text).iter().filter(|block| block.place().is_some()) {
            let commands = block.commands().into_iter();
            lines.extend(commands.map(|command| (document.name.clone(), command.line)));
        }
    }
    lines
}

#[test]
fn command_lines_in_blocks_are_run_by_scenarios() {
    let mut others = 0;
    for document in all().unwrap() {
        for block in blocks(&document.text) {
            let place = block.place();
            assert!(
                document.name != GUIDE
                    || block.info == UNIT
                    || matches!(place, Some(Place::Linux | Place::Dom0 | Place::Guest)),
                "{}: a block {:?}, which the scenario `guide` does not run",
                document.name,
                block.info
            );
            if place.is_some() {
                assert!(!block.commands().is_empty(), "{}: {:?}", document.name, block.lines);
                continue;
            }
            for line in &block.lines {
                let line = line.trim_start_matches("# ").trim_start_matches("$ ");
                let first = line.split_whitespace().next().unwrap_or_default();
                assert!(
                    !is_program(first),
                    "{}: a scenario runs `{line}` if its block says where, as in ```sh dom0",
                    document.name
                );
                others += 1;
            }
        }
    }
    assert!(others > 10, "{others} lines without a place only: were they read?");
}

#[test]
fn command_lines_in_sentences_are_run_by_scenarios() {
    // In documents, in scenarios and in measurements: there words may be apart.
    let mut corpus: Vec<String> = executed().into_iter().map(|(_, line)| line).collect();
    let mut sources = String::new();
    for folder in ["scenarios", "measurements"] {
        collect(&root().join("integration/src").join(folder), &mut sources);
    }
    corpus.extend(sources.lines().map(|line| line.replace("\", \"", " ")));
    let is_run = |words: &[&str]| {
        corpus.iter().any(|line| {
            let mut rest = line.split(|c: char| c.is_whitespace() || c == '"');
            words.iter().all(|word| {
                // An option in a sentence may be without its value.
                rest.any(|other| other == *word || other.strip_prefix(word).is_some_and(|value| value.starts_with('=')))
            })
        })
    };
    let (mut seen, mut excused, mut idle) = (0, BTreeSet::new(), Vec::new());
    for document in all().unwrap() {
        for span in inline(&document.text) {
            let words: Vec<&str> = span.split_whitespace().filter(|word| *word != "...").collect();
            if words.len() < 2 || !words.first().is_some_and(|word| is_program(word)) {
                continue;
            }
            seen += 1;
            if NOT_RUN.iter().any(|(line, _)| *line == span) {
                excused.insert(span);
            } else if !is_run(&words) {
                idle.push(format!("{}: {span}", document.name));
            }
        }
    }
    assert!(idle.is_empty(), "no scenario runs\n{}", idle.join("\n"));
    assert!(seen > 25, "{seen} command lines only");
    assert_eq!(excused.len(), NOT_RUN.len(), "excused without being there");
}

/// This is cheaper than a scenario, and covers the commands in sentences, too.
#[test]
fn command_lines_are_ones_that_the_tools_take() {
    let mut lines = executed();
    for document in all().unwrap() {
        let spans = inline(&document.text).into_iter().filter(|span| !span.contains("..."));
        lines.extend(spans.map(|span| (document.name.clone(), span)));
    }
    let mut seen = 0;
    for (name, line) in lines {
        let line = without_comment(line.trim_end_matches(" &"));
        let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != "|").collect();
        let Some(tool) = tools().into_iter().find(|tool| Some(&tool.get_name()) == words.first()) else {
            continue;
        };
        if words.len() < 2 {
            continue;
        }
        let result = tool.try_get_matches_from(&words);
        // A sentence may leave out which device.
        let incomplete = [
            clap::error::ErrorKind::MissingRequiredArgument,
            clap::error::ErrorKind::InvalidValue,
        ];
        if let Err(error) = result
            && !incomplete.contains(&error.kind())
        {
            panic!("{name}: {line}\n{error}");
        }
        seen += 1;
    }
    assert!(seen > 30, "{seen} command lines only");
}

#[test]
fn messages_in_the_guide_are_the_tools_own() {
    let mut sources = String::new();
    for part in ["format", "provision", "discover", "report"] {
        collect(&root().join(part).join("src"), &mut sources);
    }
    let guide = read(GUIDE).unwrap().text;
    let table = guide.split("## What to do when it says").nth(1).unwrap();
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
    for document in all().unwrap() {
        let path = root().join(&document.name);
        for link in document
            .text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(
                path.with_file_name(target).exists(),
                "{} links to {link}",
                document.name
            );
        }
    }
}
