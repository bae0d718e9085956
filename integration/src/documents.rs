//! The documents: their blocks of commands, where these are run, and what they print.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The operator's guide.
pub const GUIDE: &str = "docs/operating.md";
/// What its blocks with a unit for systemd are called: the scenario `cxl-installed` starts it.
pub const UNIT: &str = "ini";

/// A document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its path in the repository.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Returns the repository's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns a document by its path in the repository.
///
/// # Errors
///
/// If it cannot be read.
pub fn read(name: &str) -> io::Result<Document> {
    let path = root().join(name);
    let text = fs::read_to_string(&path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
    Ok(Document {
        name: name.to_owned(),
        text,
    })
}

/// Returns all of them: those of the root folder, then `docs` by name.
///
/// # Errors
///
/// If one cannot be read.
pub fn all() -> io::Result<Vec<Document>> {
    let mut names: Vec<String> = fs::read_dir(root().join("docs"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.retain(|name| name.ends_with(".md"));
    names.sort();
    let docs = names.into_iter().map(|name| format!("docs/{name}"));
    ["README.md", "CONTRIBUTING.md"]
        .map(str::to_owned)
        .into_iter()
        .chain(docs)
        .map(|name| read(&name))
        .collect()
}

/// Where commands are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Linux without Xen.
    Linux,
    /// Dom0 before the NVDIMM's drivers and xenstored are there.
    Initramfs,
    /// Dom0.
    Dom0,
    /// A guest of that Dom0, at its console.
    Guest,
}

/// The word behind a block's place if the host has lost power before.
const AFTER_POWER_FAILURE: &str = "after-power-failure";

/// A block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The words behind the opening fence: its language, then where it is run. Empty for one that is only indented.
    pub info: String,
    /// Its lines, without the indentation that they have in common with the fence.
    pub lines: Vec<String>,
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The line as it is typed.
    pub line: String,
    /// What it prints, if the document says so.
    pub prints: Option<Vec<String>>,
}

impl Block {
    /// Returns where its commands run: `sh` has a command on each line; `console` has commands behind a prompt, and their output.
    pub fn place(&self) -> Option<Place> {
        let mut words = self.info.split(' ');
        let language = words.next()?;
        let place = match words.next()? {
            "linux" => Place::Linux,
            "initramfs" => Place::Initramfs,
            "dom0" => Place::Dom0,
            "guest" => Place::Guest,
            _ => return None,
        };
        matches!(language, "sh" | "console").then_some(place)
    }

    /// Returns whether the host loses power before its commands are run.
    pub fn is_after_power_failure(&self) -> bool {
        self.info.split(' ').nth(2) == Some(AFTER_POWER_FAILURE)
    }

    /// Returns its commands.
    pub fn commands(&self) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        if !self.info.starts_with("console") {
            let lines = self.lines.iter().filter(|line| !line.trim().is_empty());
            return lines
                .map(|line| Command {
                    line: without_comment(line).to_owned(),
                    prints: None,
                })
                .collect();
        }
        for line in &self.lines {
            let typed = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "));
            match (typed, commands.last_mut()) {
                (Some(typed), _) => commands.push(Command {
                    line: typed.to_owned(),
                    prints: Some(Vec::new()),
                }),
                (None, Some(command)) => command.prints.get_or_insert_default().push(line.clone()),
                (None, None) => {}
            }
        }
        commands
    }
}

/// Returns a command line without the comment behind `#`.
pub fn without_comment(line: &str) -> &str {
    line.split(" #").next().unwrap_or_default().trim_end()
}

/// Returns the blocks of code of a Markdown document, in order: fenced ones, and lines that are indented by four.
pub fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    let mut indented: Vec<String> = Vec::new();
    for line in document.lines().chain([""]) {
        let indentation = line.len() - line.trim_start().len();
        match (&mut open, line.trim().strip_prefix("```")) {
            (None, Some(info)) => {
                let block = Block {
                    info: info.to_owned(),
                    lines: Vec::new(),
                };
                open = Some((indentation, block));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(_, block)| block)),
            (Some((common, block)), None) => block.lines.push(line.get(*common..).unwrap_or_default().to_owned()),
            (None, None) => match line.strip_prefix("    ") {
                Some(code) => indented.push(code.to_owned()),
                None if indented.is_empty() => {}
                None => blocks.push(Block {
                    info: String::new(),
                    lines: std::mem::take(&mut indented),
                }),
            },
        }
    }
    blocks
}

/// Returns what stands between backquotes in a document's sentences and tables.
pub fn inline(document: &str) -> Vec<String> {
    let mut fenced = false;
    let mut spans = Vec::new();
    for line in document.lines() {
        if line.trim().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

/// Returns whether a printed line is one that a document shows: the same except for UUIDs and process IDs; `...` stands for anything.
pub fn is_as_shown(shown: &str, printed: &str) -> bool {
    let printed = masked(printed);
    let shown = masked(shown);
    let mut parts = shown.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// Returns a line with words in place of the parts that change from run to run.
fn masked(line: &str) -> String {
    const UUID: [usize; 5] = [8, 4, 4, 4, 12];
    let is_uuid = |word: &str| {
        let parts: Vec<&str> = word.split('-').collect();
        parts.len() == UUID.len()
            && parts
                .iter()
                .zip(UUID)
                .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut masked = String::new();
    let mut before = String::new();
    for word in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let end = word.get(bare.len()..).unwrap_or_default();
        let is_process = before == "process" && !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
        masked += match () {
            () if is_uuid(bare) => "(a UUID)",
            () if is_process => "(a process)",
            () => bare,
        };
        masked += end;
        bare.clone_into(&mut before);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(info: &str, lines: &[&str]) -> Block {
        Block {
            info: info.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn indented_blocks_are_blocks() {
        let found =
            blocks("1. a\n\n   ```sh linux\n   true\n     x\n   ```\n\n```\nb\n```\n\n    c\n    d\n\ne `f g` h\n");
        let expected = [
            block("sh linux", &["true", "  x"]),
            block("", &["b"]),
            block("", &["c", "d"]),
        ];
        assert_eq!(found, expected);
        assert_eq!(inline("```\n`no`\n```\na `b c`, `d`\n    `no`\n"), ["b c", "d"]);
    }

    #[test]
    fn commands_and_what_they_print() {
        let command = |line: &str, prints: Option<&[&str]>| Command {
            line: line.to_owned(),
            prints: prints.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect()),
        };
        let sh = block("sh dom0", &["a --b   # why", "", "c"]);
        assert_eq!(sh.commands(), [command("a --b", None), command("c", None)]);
        let console = block("console linux", &["# a &", "1", "2", "$ b"]);
        assert_eq!(
            console.commands(),
            [command("a &", Some(&["1", "2"])), command("b", Some(&[]))]
        );
        assert_eq!(console.place(), Some(Place::Linux));
        assert!(!console.is_after_power_failure());
        assert_eq!(block("json", &[]).place(), None);
        assert_eq!(block("json dom0", &[]).place(), None);
        let after = block("sh dom0 after-power-failure", &["a"]);
        assert_eq!(after.place(), Some(Place::Dom0));
        assert!(after.is_after_power_failure());
    }

    #[test]
    fn what_differs_each_time_is_the_same() {
        let (one, other) = (
            "reservation ab48e766-adfd-4095-abf2-b958d00bb9e3, sequence 1",
            "reservation 00000000-0000-4000-8000-00000000000A, sequence 1",
        );
        assert!(is_as_shown(one, other));
        assert!(!is_as_shown(one, &other.replace("sequence 1", "sequence 2")));
        assert!(is_as_shown("by process 812 (dd); 1", "by process 7 (dd); 1"));
        assert!(!is_as_shown("by process 812 (dd); 1", "by process 812 (cp); 1"));
        assert!(is_as_shown("{\"a\":1,...}}", "{\"a\":1,\"b\":{}}"));
        assert!(!is_as_shown("{\"a\":1,...}}", "{\"a\":1,\"b\":2}"));
        assert!(is_as_shown("a...c...e", "abcde") && !is_as_shown("a...c...e", "abde"));
        assert!(!is_as_shown("a", "ab"));
    }
}
