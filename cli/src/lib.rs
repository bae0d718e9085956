//! What the command lines of all tools have in common, so that they print, log, fail and end alike.

pub mod exit;

use crate::exit::ExitStatus;
use clap::ArgAction;
use serde::Serialize;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;
use std::sync::OnceLock;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

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

/// Whether what was printed can have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// It was written.
    Written,
    /// The reader has closed its end.
    NobodyReads,
}

/// Why a command failed: one sentence, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened, to what, and what to do.
    pub message: String,
    /// How the program ends.
    pub status: ExitStatus,
}

impl Failure {
    /// A failure that is said in `message`.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status,
        }
    }
}

impl Failure {
    /// A failure of the ordinary kind: I/O and the like.
    pub fn failed(error: impl fmt::Display) -> Self {
        Self::new(ExitStatus::Failed, error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Flags {
    /// Sends the log to standard error, as much of it as was asked for; or, from a service, to systemd's journal with its fields,
    /// each named `XEN_PMEM_` and its name.
    pub fn start_log(self) {
        let level = match self.verbose {
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        if in_journal()
            && let Ok(journal) = tracing_journald::layer()
        {
            tracing_subscriber::registry()
                .with(journal.with_field_prefix(Some("XEN_PMEM".to_owned())))
                .with(level.max(LevelFilter::INFO))
                .init();
            return;
        }
        // A log that is there already stays.
        let _ = tracing::subscriber::set_global_default(Late {
            level,
            log: OnceLock::new(),
        });
    }

    /// Whether text for people is to be left out.
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints the document, or the text that says the same.
    ///
    /// # Errors
    ///
    /// If standard output cannot be written to; a reader that has seen enough is no failure.
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

    /// Prints one of many documents on a line of its own, at once; or the line for people that says the same.
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

/// The log on standard error, made with the first line that is logged: most runs log none, and making it would be a large part of
/// what they do.
struct Late {
    level: LevelFilter,
    log: OnceLock<Dispatch>,
}

impl Late {
    fn log(&self) -> &Dispatch {
        self.log.get_or_init(|| {
            tracing_subscriber::fmt()
                .with_max_level(self.level)
                .with_writer(io::stderr)
                .with_ansi(io::stderr().is_terminal())
                .with_target(false)
                .without_time()
                .into()
        })
    }
}

impl Subscriber for Late {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.log().new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.log().record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.log().record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.log().event(event);
    }

    fn enter(&self, span: &Id) {
        self.log().enter(span);
    }

    fn exit(&self, span: &Id) {
        self.log().exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.log().clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.log().try_close(id)
    }
}

fn unwritable(error: &dyn fmt::Display) -> Failure {
    Failure::new(ExitStatus::Failed, format!("cannot write to standard output: {error}"))
}

fn write(text: &str) -> Result<Printed, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Printed::Written),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Printed::NobodyReads),
        Err(error) => Err(unwritable(&error)),
    }
}

/// Whether standard output shows colours: a terminal that has them, unless `NO_COLOR` is set to anything but nothing (no-color.org).
pub fn has_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb
}

/// Ends a program: says why it failed, if it did.
pub fn end(program: &str, result: Result<ExitStatus, Failure>) -> ExitCode {
    match result {
        Ok(status) => status.into(),
        Err(failure) => {
            complain(program, &failure);
            failure.status.into()
        }
    }
}

/// Whether standard error is systemd's journal, which keeps more of an event than a line (`systemd.exec(5)`, `JOURNAL_STREAM`).
pub fn in_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Tells people what went wrong. That standard error itself fails is nothing that could be told.
pub fn complain(program: &str, what: &dyn fmt::Display) {
    if in_journal() {
        tracing::error!("{what}");
        return;
    }
    let _ = writeln!(io::stderr(), "{program}: {what}");
}
