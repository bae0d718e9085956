//! Manual pages: what the command lines say of themselves, and the sections that they cannot know.

use crate::sections::{self, Page};
use anyhow::{Context as _, Result};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The section of the manual for administrators.
const SECTION: &str = "8";

/// Returns the pages of these tools and of their subcommands: file names and contents.
///
/// # Errors
///
/// If a command has no hand-written sections.
pub(crate) fn pages(tools: impl IntoIterator<Item = Command>) -> Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    for mut tool in tools {
        tool = tool.disable_help_subcommand(true);
        tool.build();
        let name = tool.get_name().to_owned();
        pages_below(&name, &name, tool, &mut pages)?;
    }
    Ok(pages)
}

/// Adds the page of a command, called `words`, and those of its subcommands.
fn pages_below(words: &str, tool: &str, command: Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
    pages.push(page(words, tool, command)?);
    for subcommand in subcommands
        .into_iter()
        .filter(|subcommand| subcommand.get_name() != "help")
    {
        let words = format!("{words} {}", subcommand.get_name());
        pages_below(&words, tool, subcommand, pages)?;
    }
    Ok(())
}

/// Returns the page of one command, called `words` on a command line, of the tool `tool`.
fn page(words: &str, tool: &str, command: Command) -> Result<(String, Vec<u8>)> {
    let written = sections::of(words).with_context(|| format!("`{words}` has no examples"))?;
    let title = words.replace(' ', "-");
    // The exit codes at the end of the help have their own section.
    let exit_codes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone().after_help("").after_long_help("").version(version))
        .title(title.to_uppercase())
        .section(SECTION)
        .source(format!("xen-pmem {version}"))
        .manual("xen-pmem");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    synopsis(words, &command).to_writer(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    rest(words, written, &exit_codes, tool, &title).to_writer(&mut text)?;
    Ok((format!("{title}.{SECTION}"), text))
}

/// Returns the command line in short, as `--help` has it: it knows which arguments take the place of others.
fn synopsis(words: &str, command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let arguments = usage.strip_prefix(words).unwrap_or(usage);
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(words), roman(arguments)]);
    roff
}

/// Returns what follows the options.
fn rest(words: &str, written: &Page, exit_codes: &str, tool: &str, title: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (what, line) in written.examples {
        roff.control("PP", []);
        roff.text([roman(*what)]);
        roff.control("RS", ["4"]).control("EX", []);
        roff.text([bold(*line)]);
        roff.control("EE", []).control("RE", []);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for line in exit_codes.lines().skip(1) {
        if let Some((code, meaning)) = line.trim().split_once(' ') {
            roff.control("TP", ["4"]);
            roff.text([bold(code)]);
            roff.text([roman(meaning.trim())]);
        }
    }
    for section in sections::MORE.iter().filter(|section| section.command == words) {
        roff.control("SH", [section.title]);
        for (what, told) in section.entries {
            roff.control("TP", []);
            roff.text([bold(*what)]);
            roff.text([roman(*told)]);
        }
    }
    if !written.files.is_empty() {
        roff.control("SH", ["FILES"]);
        for (path, what) in written.files {
            roff.control("TP", []);
            roff.text([bold(*path)]);
            roff.text([roman(*what)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    let mut others: Vec<String> = written.see_also.iter().map(|page| (*page).to_owned()).collect();
    if title != tool {
        others.insert(0, format!("{tool}({SECTION})"));
    }
    for (index, other) in others.iter().enumerate() {
        let (name, section) = other.split_once('(').unwrap_or((other, ""));
        let comma = if index + 1 == others.len() { "" } else { "," };
        roff.text([bold(name), roman(format!("({section}{comma}"))]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_has_a_page_and_every_reference_leads_to_one() {
        let pages = pages(crate::tools()).unwrap();
        let mut names: BTreeSet<String> = pages.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), pages.len());
        assert!(
            names.contains("xen-pmem-provision-init.8") && names.contains("xen-pmem-report.8"),
            "{names:?}"
        );
        names.insert(crate::specification::NAME.to_owned());
        for (name, text) in &pages {
            let text = String::from_utf8(text.clone()).unwrap();
            for section in [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "EXAMPLES",
                "EXIT STATUS",
                "SEE ALSO",
            ] {
                let quoted = if section.contains(' ') {
                    format!("\"{section}\"")
                } else {
                    section.to_owned()
                };
                assert!(
                    text.contains(&format!(".SH {quoted}\n")),
                    "{name} has no {section}:\n{text}"
                );
            }
            let command = name.split('.').next().unwrap().replace("-", "\\-");
            let synopsis = text.split(".SH SYNOPSIS\n").nth(1).unwrap();
            let words = synopsis.lines().next().unwrap().replace(' ', "\\-");
            assert!(words.contains(&command), "{name} begins with {words}");
        }
        for page in sections::ALL {
            for other in page.see_also.iter().filter(|other| other.starts_with("xen-pmem")) {
                let file = other.replace('(', ".").replace(')', "");
                assert!(names.contains(&file), "{} refers to {other}", page.command);
            }
        }
    }

    #[test]
    fn every_example_is_a_command_line_of_its_command() {
        for page in sections::ALL {
            assert!(!page.examples.is_empty(), "{}", page.command);
            for (_, line) in page.examples {
                let line = line.split(" | ").next().unwrap();
                let words: Vec<&str> = line.split_whitespace().collect();
                let tool = crate::tools().into_iter().find(|tool| tool.get_name() == words[0]);
                let matches = tool.unwrap_or_else(|| panic!("{line}")).try_get_matches_from(&words);
                matches.unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(
                    line.starts_with(page.command),
                    "{line} is no example of {}",
                    page.command
                );
            }
        }
    }

    #[test]
    fn no_page_is_without_a_command() {
        let pages: Vec<String> = pages(crate::tools())
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let more = sections::MORE.iter().map(|section| section.command);
        for command in sections::ALL.iter().map(|page| page.command).chain(more) {
            let file = format!("{}.{SECTION}", command.replace(' ', "-"));
            assert!(pages.contains(&file), "{command}");
        }
    }
}
