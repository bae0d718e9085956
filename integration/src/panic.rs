//! Signs on a console that a machine is lost.

/// What Xen and Linux write when something is broken beyond what a test could go on with.
const MARKERS: &[&str] = &[
    "Panic on CPU",
    "FATAL TRAP",
    "FATAL PAGE FAULT",
    "Assertion '",
    "Xen BUG at",
    "Domain 0 crashed",
    "Hardware Dom0 crashed",
    "Kernel panic",
    "kernel BUG at",
    "BUG: ",
    "Oops: ",
    "general protection fault",
    "watchdog: BUG",
    "rcu: INFO: rcu_sched detected stalls",
    "xen-pmem-agent: ",
];

/// Returns the first line of `console` that says that all is lost.
pub fn find(console: &str) -> Option<&str> {
    console
        .lines()
        .find(|line| MARKERS.iter().any(|marker| says(line, marker)))
}

/// Returns whether a line has the marker, except as the end of a longer word: `DEBUG: ` is not `BUG: `.
fn says(line: &str, marker: &str) -> bool {
    line.match_indices(marker).any(|(at, _)| {
        !line
            .get(..at)
            .is_some_and(|before| before.ends_with(char::is_alphanumeric))
    })
}

/// Returns the last `lines` lines of `console`.
pub fn tail(console: &str, lines: usize) -> String {
    let all: Vec<&str> = console.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_told_from_chatter() {
        let chatter = "(XEN) Xen version 4.20\n[    0.1] debug: DEBUG: fine\nsystemd[1]: all good\n";
        assert_eq!(find(chatter), None);
        for line in [
            "(XEN) Panic on CPU 0:",
            "[    1.0] Kernel panic - not syncing: Attempted to kill init!",
            "[    9.2] BUG: unable to handle page fault for address: ffffc90000000000",
            "(XEN) Domain 0 crashed: rebooting machine in 5 seconds.",
        ] {
            assert_eq!(find(&format!("{chatter}{line}\nmore\n")), Some(line));
        }
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
