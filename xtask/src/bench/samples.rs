//! Times of the same thing, taken again and again.

use anyhow::{Context as _, Result};

/// Nanoseconds, sorted.
#[derive(Clone, Debug)]
pub(super) struct Samples(Vec<u64>);

impl Samples {
    /// # Errors
    ///
    /// If the list is empty.
    pub(super) fn new(mut nanoseconds: Vec<u64>) -> Result<Self> {
        nanoseconds.sort_unstable();
        nanoseconds.first().context("nothing was measured")?;
        Ok(Self(nanoseconds))
    }

    /// Returns the quartile with this number.
    fn quartile(&self, quarter: usize) -> f64 {
        let index = (self.0.len() * quarter / 4).min(self.0.len() - 1);
        float(self.0.get(index).copied().unwrap_or_default())
    }

    pub(super) fn median(&self) -> f64 {
        self.quartile(2)
    }

    /// Returns half the distance between the quartiles.
    fn spread(&self) -> f64 {
        (self.quartile(3) - self.quartile(1)) / 2.0
    }

    /// Returns the median and the spread, in a unit that fits.
    pub(super) fn shown(&self) -> String {
        let (unit, digits, nanoseconds) = unit(self.median());
        format!(
            "{:.digits$} ± {:.digits$} {unit}",
            self.median() / nanoseconds,
            self.spread() / nanoseconds
        )
    }

    /// Returns the shortest and the longest.
    pub(super) fn range(&self) -> String {
        let at = |sample: Option<&u64>| time(float(sample.copied().unwrap_or_default()));
        format!("{} to {}", at(self.0.first()), at(self.0.last()))
    }
}

/// Returns a time in a unit that fits.
pub(super) fn time(nanoseconds: f64) -> String {
    let (unit, digits, of) = unit(nanoseconds);
    format!("{:.digits$} {unit}", nanoseconds / of)
}

/// Returns a unit that fits, how many digits after the point, and how many nanoseconds it is.
fn unit(nanoseconds: f64) -> (&'static str, usize, f64) {
    let (unit, of) = match nanoseconds {
        _ if nanoseconds < 1e6 => ("µs", 1e3),
        _ if nanoseconds < 1e9 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    (unit, if nanoseconds / of < 100.0 { 2 } else { 0 }, of)
}

/// A count for arithmetic.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is measured has fewer digits than a float holds"
)]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_half_the_distance_of_the_quartiles() {
        let samples = Samples::new(vec![5_000_000, 1_000_000, 2_000_000, 4_000_000, 3_000_000]).unwrap();
        assert_eq!(samples.shown(), "3.00 ± 1.00 ms");
        assert_eq!(samples.range(), "1.00 ms to 5.00 ms");
        assert_eq!(Samples::new(vec![1500]).unwrap().shown(), "1.50 ± 0.00 µs");
        assert!(Samples::new(Vec::new()).is_err());
        assert_eq!(time(123_456_789.0), "123 ms");
    }
}
