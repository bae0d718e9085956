//! The flags that every command takes, and what they decide.

use crate::failure::Failure;
use crate::log;
use crate::output::{Printed, unwritable, write};
use clap::ArgAction;
use serde::Serialize;

/// The flags that every command takes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Print a JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but errors (and JSON documents)
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say on standard error what is done; twice: in detail
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

impl Flags {
    /// Starts the log, with as much of it as was asked for.
    pub fn start_log(self) {
        log::start(self.verbose);
    }

    /// Returns whether to leave out text for people.
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints the document, or the text that says the same.
    ///
    /// # Errors
    ///
    /// If standard output cannot be written to. A reader that closes it early is not a failure.
    pub fn print(self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string_pretty(document).map_err(|error| unwritable(&error))? + "\n"
        } else if self.quiet {
            return Ok(());
        } else {
            text()
        };
        write(&text).map(|_| ())
    }

    /// Prints one of many documents on its own line, at once; or the line for people with the same content.
    ///
    /// # Errors
    ///
    /// If standard output cannot be written to.
    pub fn print_line(self, document: &impl Serialize, text: impl FnOnce() -> String) -> Result<Printed, Failure> {
        let line = if self.json {
            serde_json::to_string(document).map_err(|error| unwritable(&error))?
        } else if self.quiet {
            return Ok(Printed::Written);
        } else {
            text()
        };
        write(&(line + "\n"))
    }
}
