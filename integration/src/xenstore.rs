//! XenStore as the guest's own tools show it.

use crate::poll;
use crate::vm::Vm;
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// The documented place of all reports.
pub const ROOT: &str = "/tool/xen-pmem";
/// How long an event of the watch may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Where the watch's events go.
const EVENTS: &str = "/run/xenstore-watch.log";

/// Returns [`ROOT`] and the nodes below it with their values, sorted; none if it is not there.
///
/// # Errors
///
/// If XenStore cannot be listed.
pub fn nodes(vm: &mut Vm) -> Result<Vec<(String, String)>> {
    let all = vm.run("xenstore-ls -f /tool")?;
    let mut nodes: Vec<(String, String)> = all.lines().filter_map(node).collect();
    nodes.retain(|(path, _)| path == ROOT || path.starts_with(&format!("{ROOT}/")));
    nodes.sort();
    Ok(nodes)
}

/// Parses `path = "value"`. A value too long for a line would end with `...`; none of ours is that long.
fn node(line: &str) -> Option<(String, String)> {
    let (path, value) = line.split_once(" = ")?;
    Some((path.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
}

/// Checks that [`ROOT`] and the nodes below it are exactly these.
///
/// # Errors
///
/// If they are not; with both.
pub fn ensure_exactly(vm: &mut Vm, expected: &[(String, String)]) -> Result<()> {
    let found = nodes(vm)?;
    ensure!(
        found == expected,
        "XenStore has\n{}\nnot\n{}",
        lines(&found),
        lines(expected)
    );
    Ok(())
}

fn lines(nodes: &[(String, String)]) -> String {
    nodes
        .iter()
        .map(|(path, value)| format!("  {path} = {value:?}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A watch on [`ROOT`], which notices writes that change nothing, too.
pub struct Watch;

impl Watch {
    /// Starts watching.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub fn start(vm: &mut Vm) -> Result<Self> {
        vm.spawn(&["sh", "-c", &format!("exec xenstore-watch {ROOT} > {EVENTS}")])?;
        vm.wait_for(EVENTS)?;
        let watch = Self;
        // Registering makes the first event.
        poll::until("xenstore-watch is on watch", LIMIT, || {
            Ok((watch.events(vm)? == 1).then_some(()))
        })?;
        Ok(watch)
    }

    fn events(&self, vm: &mut Vm) -> Result<usize> {
        Ok(vm
            .run(&format!("cat {EVENTS}"))
            .context("reading the watch's events")?
            .lines()
            .count())
    }

    /// Checks that nothing was written since the start, by writing something: events come in order.
    ///
    /// # Errors
    ///
    /// If something was.
    pub fn ensure_silent(self, vm: &mut Vm) -> Result<()> {
        let marker = format!("{ROOT}/end-of-watch");
        vm.run(&format!("xenstore-write {marker} 1"))?;
        let events = poll::until("xenstore-watch shows the write", LIMIT, || {
            let events = vm.run(&format!("cat {EVENTS}"))?;
            Ok(events.contains(&marker).then_some(events))
        })?;
        vm.run(&format!("xenstore-rm {marker}"))?;
        let lines: Vec<&str> = events.lines().collect();
        ensure!(
            matches!(lines.as_slice(), [_, last] if last.contains(&marker)),
            "XenStore was written: {lines:?}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read() {
        assert_eq!(
            node("/tool/xen-pmem/u/state = \"ready\""),
            Some(("/tool/xen-pmem/u/state".to_owned(), "ready".to_owned()))
        );
        assert_eq!(node("/tool = \"\""), Some(("/tool".to_owned(), String::new())));
        assert_eq!(node(""), None);
    }
}
