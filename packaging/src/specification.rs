//! The manual page of the format: its specification, `docs/format.md`, in the manual's own language.

use clap_mangen::roff::{Inline, Roff, bold, roman};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The page's name among the manual's.
pub(crate) const NAME: &str = "xen-pmem-format.5";

const TEXT: &str = include_str!("format.md");

/// Returns the page.
pub(crate) fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = Page::default();
    page.roff
        .control(
            "TH",
            ["XEN-PMEM-FORMAT", "5", "", &format!("xen-pmem {version}"), "xen-pmem"],
        )
        .control("SH", ["NAME"])
        .text([roman(
            "xen-pmem-format - the super block and the area reserved for Xen on persistent memory",
        )])
        .control("SH", ["DESCRIPTION"]);
    for event in Parser::new_ext(TEXT, Options::ENABLE_TABLES) {
        page.take(event);
    }
    page.roff.control("SH", ["SEE ALSO"]).text([
        bold("xen-pmem-provision"),
        roman("(8), "),
        bold("xen-pmem-discover"),
        roman("(8)"),
    ]);
    page.roff.render()
}

/// A page in the making.
#[derive(Default)]
struct Page {
    roff: Roff,
    /// The words of the paragraph, heading or cell that is being read.
    words: Vec<Inline>,
    /// How many levels of strong text are open.
    strong: usize,
    /// The cells before this one of the table row that is being read.
    cells: Vec<String>,
    /// The words of its last cell.
    last: Vec<Inline>,
    /// Whether what is being read is the title, which the page has already, or a code block.
    title: bool,
    code: bool,
    /// The next number of each list that is being read; `None` where it has bullets.
    lists: Vec<Option<u64>>,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code => {
                for line in text.lines() {
                    self.roff.text([roman(line)]);
                }
            }
            Event::Text(text) if self.strong > 0 => self.words.push(bold(text.to_string())),
            Event::Text(text) => self.words.push(roman(text.to_string())),
            Event::Code(text) => self.words.push(bold(text.to_string())),
            Event::SoftBreak | Event::HardBreak => self.words.push(roman(" ")),
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => self.title = *level as u8 == 1,
            Tag::Paragraph if self.lists.is_empty() => {
                self.roff.control("PP", []);
            }
            Tag::CodeBlock(_) => {
                self.code = true;
                self.roff.control("PP", []).control("EX", []);
            }
            Tag::List(first) => {
                self.say();
                self.lists.push(*first);
            }
            Tag::Item => {
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}.", *number - 1)
                    }
                    _ => "-".to_owned(),
                };
                self.roff.control("IP", [mark.as_str(), "3"]);
            }
            Tag::Strong | Tag::Emphasis => self.strong += 1,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                let words: Vec<Inline> = self.words.drain(..).collect();
                if !self.title {
                    self.roff.control("SS", [plain(&words).as_str()]);
                }
            }
            TagEnd::Paragraph | TagEnd::Item => self.say(),
            TagEnd::CodeBlock => {
                self.code = false;
                self.roff.control("EE", []);
            }
            TagEnd::TableCell => {
                let cell = plain(&self.words);
                self.cells.push(cell);
                self.last = self.words.drain(..).collect();
            }
            TagEnd::TableHead | TagEnd::TableRow => self.row(),
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::Strong | TagEnd::Emphasis => self.strong = self.strong.saturating_sub(1),
            _ => {}
        }
    }

    /// Writes a row of a table: its last cell, under the others.
    fn row(&mut self) {
        self.cells.pop();
        let tag = self.cells.drain(..).collect::<Vec<_>>().join("  ");
        self.roff.control("TP", []).text([bold(tag)]);
        let last: Vec<Inline> = self.last.drain(..).collect();
        self.roff.text(last);
    }

    fn say(&mut self) {
        if !self.words.is_empty() {
            self.roff.text(self.words.drain(..).collect::<Vec<_>>());
        }
    }
}

fn plain(words: &[Inline]) -> String {
    words
        .iter()
        .map(|word| match word {
            Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text.as_str(),
            Inline::LineBreak => " ",
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_field_and_no_markup() {
        let page = page();
        for field in ["signature", "features_incompatible", "device_in_namespace", "creator"] {
            assert!(page.contains(field), "{field}");
        }
        for line in page.lines() {
            assert!(
                !line.contains("](") && !line.contains('`') && !line.contains("|---"),
                "{line}"
            );
        }
    }
}
