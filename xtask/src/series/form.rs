//! The form that Xen's maintainers want of a series: its numbering, and the style of the lines that it adds.

use crate::workspace;
use crate::xen;
use std::fs;

/// The longest line of source and of documents (`CODING_STYLE`, "Line Length").
const LINE: usize = 80;
/// The longest line of a commit message: `git log` indents it by four.
const MESSAGE_LINE: usize = 75;
/// ACPICA's definitions come in ACPICA's style.
const IMPORTED: &str = "xen/include/acpi/actbl1.h";

/// A patch: its file's name and its text.
struct Patch {
    name: String,
    text: String,
}

/// A line that a patch adds.
struct Added<'a> {
    patch: &'a str,
    file: &'a str,
    line: &'a str,
}

fn patches() -> Vec<Patch> {
    let read = |path: std::path::PathBuf| Patch {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    xen::patches().unwrap().into_iter().map(read).collect()
}

fn added(patch: &Patch) -> Vec<Added<'_>> {
    let mut file = "";
    let mut lines = Vec::new();
    for line in patch.text.lines() {
        if let Some(name) = line.strip_prefix("+++ b/") {
            file = name;
        } else if let Some(line) = line.strip_prefix('+') {
            let patch = &patch.name;
            lines.push(Added { patch, file, line });
        }
    }
    lines
}

/// Returns the lines of all patches for which `wrong` holds.
fn offending(wrong: impl Fn(&Added<'_>) -> bool) -> Vec<String> {
    let patches = patches();
    let lines = patches.iter().flat_map(added);
    let wrong = lines.filter(wrong);
    wrong
        .map(|it| format!("{}: {}: {}", it.patch, it.file, it.line))
        .collect()
}

/// Returns whether a line of C assigns to a variable in the condition of an `if` or a `while`.
fn assigns_in_condition(line: &str) -> bool {
    let Some(at) = ["if ( ", "while ( "]
        .iter()
        .find_map(|word| Some(line.find(word)? + word.len()))
    else {
        return false;
    };
    let bytes = line.as_bytes();
    (at..bytes.len()).any(|index| {
        let before = bytes.get(index.wrapping_sub(1)).copied();
        let after = bytes.get(index + 1).copied();
        bytes[index] == b'=' && before == Some(b' ') && after == Some(b' ')
    })
}

#[test]
fn subjects_are_numbered_in_order() {
    let patches = patches();
    for (number, patch) in (1..).zip(&patches) {
        let subject = format!("Subject: [PATCH v1 {number:02}/{}] ", patches.len());
        assert!(patch.name.starts_with(&format!("{number:04}-")), "{}", patch.name);
        assert!(patch.text.contains(&subject), "{} has no {subject}", patch.name);
        assert!(patch.text.contains("\nSigned-off-by: "), "{}", patch.name);
        assert!(
            patch.text.lines().any(|line| line.starts_with("index ")),
            "{}",
            patch.name
        );
    }
}

/// Returns a text with one blank where it has blanks or ends of lines.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_cover_letter_names_each_patch() {
    let cover = fs::read_to_string(workspace::root().join("xen/patches/0000-cover-letter.patch")).unwrap();
    let patches = patches();
    assert!(cover.contains(&format!("[PATCH v1 00/{}] ", patches.len())));
    for patch in &patches {
        let (_, rest) = patch.text.split_once("Subject: ").unwrap();
        let (subject, _) = rest.split_once("\n\n").unwrap();
        let (_, subject) = subject.split_once("] ").unwrap();
        assert!(
            words(&cover).contains(&words(subject)),
            "the cover letter does not name {subject}"
        );
    }
}

#[test]
fn lines_of_messages_are_short() {
    for patch in patches() {
        let (message, _) = patch.text.split_once("\n---\n").unwrap();
        let (_, body) = message.split_once("\n\n").unwrap();
        for line in body.lines() {
            assert!(line.len() <= MESSAGE_LINE, "{}: {line}", patch.name);
        }
    }
}

#[test]
fn lines_of_source_are_short() {
    // A table's row cannot be broken, and Xen's own generators write lines as long as they like.
    let long = offending(|it| {
        let width: usize = it.line.chars().map(|c| if c == '\t' { 8 } else { 1 }).sum();
        width > LINE && it.file != IMPORTED && !it.file.contains(".gen.") && !it.line.starts_with('|')
    });
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn no_line_ends_with_blanks() {
    let blank = offending(|it| it.line.ends_with([' ', '\t']));
    assert!(blank.is_empty(), "{}", blank.join("\n"));
}

/// MISRA C:2012, rule 13.4.
#[test]
fn no_condition_assigns() {
    assert!(assigns_in_condition("    else if ( (rc = f(a)) )"));
    assert!(assigns_in_condition("    while ( (entry = next()) != NULL )"));
    assert!(!assigns_in_condition("    if ( a == b && c <= d )"));
    assert!(!assigns_in_condition("    for ( i = 0; i < n; ++i )"));
    let wrong = offending(|it| it.file.ends_with(['c', 'h']) && assigns_in_condition(it.line));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
