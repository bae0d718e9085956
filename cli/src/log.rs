//! The log: on standard error, or in systemd's journal.

use std::io::{self, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Sends the log to standard error, as much of it as `verbose` asks for (0: warnings); or, from a service, to systemd's journal with
/// its fields, each named `XEN_PMEM_` and its name.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
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

/// Returns whether standard error is systemd's journal, which keeps more of an event than a line (`systemd.exec(5)`, `JOURNAL_STREAM`).
pub fn in_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
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
                // It reports a line that cannot be written with a macro that panics if that fails, too.
                .log_internal_errors(false)
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
