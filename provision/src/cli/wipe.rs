//! `wipe`: zeros a partition before it goes to another guest.

use super::{failure, inspect, unusable};
use crate::partition::Partition;
use crate::wipe::{self, Stopped};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xen_pmem_cli::exit::ExitStatus;
use xen_pmem_cli::progress::Share;
use xen_pmem_cli::{Failure, Flags};
use xen_pmem_format::units::{Bytes, PAGE};

/// What it does, and when it is needed.
const ABOUT: &str = "\
A partition that goes to another guest shows it what the former one wrote. This makes the whole partition read as zeros, from its \
start to its end, and nothing else. It can be interrupted (Ctrl-C): it says how far it got, and --from goes on there. Zeros written \
to persistent memory also clear its bad blocks. In an image the partition becomes a hole.

What is wiped is lost. A partition in use, also by a guest, is refused.";

#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT)]
pub(crate) struct Arguments {
    /// A partition (/dev/pmem0p1), or a whole device or an image
    target: PathBuf,
    /// Which partition of a whole device or an image
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Begin at this offset in the partition (bytes, or with K, M, G or T): where an interrupted run ended
    #[arg(long, value_name = "OFFSET", default_value = "0")]
    from: Bytes,
    /// Do it: without this, it is only said what would be lost
    #[arg(long)]
    yes: bool,
}

/// The document. Offsets and sizes are bytes of the partition.
#[derive(Serialize)]
struct Document {
    schema: u32,
    target: String,
    partition: u32,
    size: u64,
    from: u64,
}

pub(crate) fn run(arguments: &Arguments, flags: Flags) -> Result<ExitStatus, Failure> {
    let path = &arguments.target;
    let partition = Partition::open(path, arguments.partition, inspect).map_err(|error| unusable(path, &error))?;
    let (size, from) = (partition.size(), arguments.from);
    let what = format!("partition {} {:?} of {size}", partition.number(), partition.name());
    if from > size || !from.is_aligned(PAGE) {
        let error = format!("--from {}: it must be a multiple of 4096 and lie within {what}", from.0);
        return Err(failure(path, ExitStatus::Usage, error));
    }
    if !arguments.yes {
        let error = format!("all that is in {what} would be lost; if that may be, say --yes");
        return Err(failure(path, ExitStatus::Refused, error));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| failure(path, ExitStatus::Failed, format!("cannot wait for signals: {error}")))?;
    }
    let share = if flags.is_quiet() {
        Share::hidden()
    } else {
        Share::new("wiping", size.0, from.0)
    };
    let result = wipe::wipe(&partition, size, from, |at| {
        share.done(at.0);
        !interrupted.load(Ordering::Relaxed)
    });
    drop(share);
    result.map_err(|Stopped { at, error }| {
        let why = error.map_or("interrupted".to_owned(), |error| error.to_string());
        let error = format!(
            "{why}: {what} is wiped up to offset {:#x}, the rest is not; to go on, say --from {:#x}",
            at.0, at.0
        );
        failure(path, ExitStatus::Failed, error)
    })?;
    let document = Document {
        schema: crate::document::SCHEMA,
        target: path.display().to_string(),
        partition: partition.number(),
        size: size.0,
        from: from.0,
    };
    flags.print(&document, || format!("{}: {what} is wiped\n", document.target))?;
    Ok(ExitStatus::Done)
}
