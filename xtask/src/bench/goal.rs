//! What was to be reached, and whether it is.

use super::samples::float;

/// A goal, with what was measured.
pub(super) struct Goal {
    what: String,
    measured: String,
    met: bool,
}

impl Goal {
    /// Returns the ratio of two numbers is at most so much. Of several such ratios the largest counts.
    pub(super) fn ratio(what: &str, ratios: impl IntoIterator<Item = f64>, most: f64) -> Self {
        let worst = ratios.into_iter().fold(0.0, f64::max);
        Self {
            what: what.to_owned(),
            measured: format!("{worst:.2}, goal {most:.2}"),
            met: worst <= most,
        }
    }

    /// Returns the goal that the largest of some numbers of bytes is below `limit`.
    pub(super) fn below(what: &str, bytes: impl IntoIterator<Item = u64>, limit: u64) -> Self {
        let worst = bytes.into_iter().max().unwrap_or_default();
        let mebibytes = |bytes| float(bytes) / float(1 << 20);
        Self {
            what: what.to_owned(),
            measured: format!("{:.1} MiB, goal {:.0} MiB", mebibytes(worst), mebibytes(limit)),
            met: worst < limit,
        }
    }

    /// Returns the goal that it takes at most `most` seconds.
    pub(super) fn seconds(what: &str, seconds: f64, most: f64) -> Self {
        Self {
            what: what.to_owned(),
            measured: format!("{seconds:.0} s, goal {most:.0} s"),
            met: seconds <= most,
        }
    }

    fn line(&self) -> String {
        let verdict = if self.met { "met" } else { "**not met**" };
        format!("- {}: {}: {verdict}\n", self.what, self.measured)
    }
}

/// Goals as a list.
pub(super) fn list(goals: &[Goal]) -> String {
    goals.iter().map(Goal::line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts() {
        let goals = [
            Goal::ratio("half", [0.2, 0.6], 0.5),
            Goal::below("memory", [1 << 20, 2 << 20], 8 << 20),
        ];
        assert_eq!(
            list(&goals),
            "- half: 0.60, goal 0.50: **not met**\n- memory: 2.0 MiB, goal 8 MiB: met\n"
        );
    }
}
