//! `cargo xtask xen`: the hypervisor with the whole series, or with each patch in turn.

mod each;
#[cfg(test)]
mod form;

use crate::host;
use crate::progress::step;
use crate::xen::source::RELEASE;
use crate::xen::{self, source};
use anyhow::Result;

pub(crate) use each::NEEDS;

/// Which Xen to build.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build with assertions and debug output (CONFIG_DEBUG=y), which Debian's build is without
    #[arg(long)]
    debug: bool,
    /// Which of Debian's releases of the source to patch: a file in xen/sources
    #[arg(long, default_value = RELEASE)]
    release: String,
    /// If the mirror does not have that source, say so and end successfully
    #[arg(long)]
    if_available: bool,
    /// Build and boot the hypervisor after each patch of the series, and try the operations on each; without --debug, also compile each
    /// with Flask, and without pmem
    #[arg(long)]
    each: bool,
}

/// Builds hypervisor and `xl`, and prints their paths, or goes through the series patch by patch.
///
/// # Errors
///
/// As [`xen::build`]; with `each`, if one of the hypervisors does not build or boot, or has operations that it must not have yet.
pub(crate) fn run(options: &Options) -> Result<()> {
    host::install(xen::NEEDS)?;
    let source = match source::source(&options.release) {
        Err(error) if options.if_available => {
            step(&format!("left out: {error:#}"));
            return Ok(());
        }
        result => result?,
    };
    if options.each {
        return each::run(&options.release, &source, &xen::patches()?, options.debug);
    }
    println!("{}", xen::made(&options.release, &source, options.debug)?.display());
    println!("{}", xen::toolstack::made(&options.release, &source)?.display());
    Ok(())
}
