//! The page that everything is written to.

use super::Part;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

const PAGE: &str = "docs/performance.md";
/// The sections are between these lines; all else of the page is left as it is.
const BEGIN: &str = "<!-- written by cargo xtask bench: begin -->";
const END: &str = "<!-- written by cargo xtask bench: end -->";
/// What a section begins with: the part's name is between these.
const SECTION: (&str, &str) = ("<!-- cargo xtask bench ", " -->");

/// The page with its sections.
pub(super) struct Page {
    path: PathBuf,
    head: String,
    sections: BTreeMap<Part, String>,
    tail: String,
}

impl Page {
    /// Reads it as it is.
    pub(super) fn read() -> Result<Self> {
        let path = workspace::root().join(PAGE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut page = Self::parse(&text).with_context(|| format!("{}", path.display()))?;
        page.path = path;
        Ok(page)
    }

    fn parse(text: &str) -> Result<Self> {
        let (head, rest) = text.split_once(BEGIN).with_context(|| format!("there is no {BEGIN}"))?;
        let (written, tail) = rest.split_once(END).with_context(|| format!("there is no {END}"))?;
        let mut sections = BTreeMap::new();
        let mut pieces = written.split(SECTION.0);
        if pieces.next().is_some_and(|before| !before.trim().is_empty()) {
            bail!("there is something before the first section");
        }
        for piece in pieces {
            let (name, content) = piece.split_once(SECTION.1).context("a section's line does not end")?;
            let part = Part::from_str(name, false)
                .ok()
                .with_context(|| format!("there is no part {name}"))?;
            sections.insert(part, content.trim().to_owned());
        }
        Ok(Self {
            path: PathBuf::new(),
            head: head.to_owned(),
            sections,
            tail: tail.to_owned(),
        })
    }

    /// Replaces a section.
    pub(super) fn put(&mut self, part: Part, content: String) {
        self.sections.insert(part, content);
    }

    fn text(&self) -> String {
        let mut text = format!("{}{BEGIN}\n", self.head);
        for (part, content) in &self.sections {
            let _ = write!(
                text,
                "\n{}{}{}\n\n{}\n",
                SECTION.0,
                part.name(),
                SECTION.1,
                content.trim()
            );
        }
        text + "\n" + END + &self.tail
    }

    /// Writes it with what was put into it.
    pub(super) fn write(&self) -> Result<()> {
        fs::write(&self.path, self.text()).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_measured_again_stays() {
        let empty = format!("head\n{BEGIN}\n{END}\ntail\n");
        let mut page = Page::parse(&empty).unwrap();
        page.put(Part::Guard, "the guard".to_owned());
        page.put(Part::Images, "images\n".to_owned());
        let mut again = Page::parse(&page.text()).unwrap();
        assert_eq!(again.text(), page.text());
        again.put(Part::Guard, "another".to_owned());
        let text = again.text();
        assert!(text.starts_with("head\n") && text.ends_with("\ntail\n"), "{text}");
        let (images, guard) = text.split_once("another").unwrap();
        assert!(images.contains("images") && !guard.contains("the guard"), "{text}");
        assert!(Page::parse("head").is_err());
    }
}
