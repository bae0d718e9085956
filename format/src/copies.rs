//! The rule for two copies: which one is believed, and what is wrong with the other.

use crate::superblock::{NotACopy, SuperBlock, Which};

/// What reading one copy's place gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The device failed to read it.
    IoError,
    /// It is missing: there is no signature, or its place lies in a partition.
    Missing,
    /// A signature, but not a valid copy.
    Corrupt(NotACopy),
    /// A valid copy that belongs to another partition table.
    Foreign(SuperBlock),
    /// A valid copy that belongs to this partition table.
    Valid(SuperBlock),
    /// Several valid copies of this kind that belong to this partition table, all away from the fixed place, with the same sequence
    /// number and different content.
    Ambiguous(SuperBlock),
}

/// The state of one copy, in the words of `show --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Valid and current.
    Valid,
    /// Valid, but older than the other copy or of another partition table.
    Stale,
    /// A signature, but not a valid copy.
    Corrupt,
    /// There is none.
    Missing,
    /// The device failed to read it.
    IoError,
}

impl Status {
    /// Returns the word that documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Stale => "stale",
            Self::Corrupt => "corrupt",
            Self::Missing => "missing",
            Self::IoError => "io-error",
        }
    }
}

/// What two copies say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// Both are valid and say the same.
    Agree(SuperBlock),
    /// One is believed; the other is stale, corrupt, missing or unreadable, and can be healed from it.
    One(Which, SuperBlock),
    /// Both are valid, have the same sequence number and say different things: none is believed.
    Conflict,
    /// No copy is valid, and at least one was there or could not be read.
    Lost,
    /// The only valid copies belong to another partition table.
    Foreign(SuperBlock),
    /// There is no copy.
    None,
}

/// Judges two readings; `same_content` says that both copies have the same bytes, except for what names the copy itself.
///
/// 1. Both valid, same sequence, same content: both are believed.
/// 2. Both valid, different sequence: the higher one is believed, the other is stale.
/// 3. Both valid, same sequence, different content: an error, nobody can say which is right.
/// 4. One valid: it is believed, whatever became of the other.
/// 5. None valid, and one corrupt or unreadable: lost.
/// 6. Otherwise, copies of another table, or none.
///
/// Several copies of one kind that contradict each other are like rule 3, unless the other kind has a higher sequence number.
pub fn judge(primary: Reading, backup: Reading, same_content: bool) -> Belief {
    use Reading::{Ambiguous, Corrupt, Foreign, IoError, Missing, Valid};
    match (primary, backup) {
        (Ambiguous(one), Valid(other)) if one.sequence < other.sequence => Belief::One(Which::Backup, other),
        (Valid(one), Ambiguous(other)) if one.sequence > other.sequence => Belief::One(Which::Primary, one),
        (Ambiguous(_), _) | (_, Ambiguous(_)) => Belief::Conflict,
        (Valid(one), Valid(other)) if one == other && same_content => Belief::Agree(one),
        (Valid(one), Valid(other)) if one.sequence > other.sequence => Belief::One(Which::Primary, one),
        (Valid(one), Valid(other)) if one.sequence < other.sequence => Belief::One(Which::Backup, other),
        (Valid(_), Valid(_)) => Belief::Conflict,
        (Valid(one), _) => Belief::One(Which::Primary, one),
        (_, Valid(other)) => Belief::One(Which::Backup, other),
        (Corrupt(_) | IoError, _) | (_, Corrupt(_) | IoError) => Belief::Lost,
        (Foreign(found), _) | (_, Foreign(found)) => Belief::Foreign(found),
        (Missing, Missing) => Belief::None,
    }
}

/// Returns the state of the copy `which`, given the `verdict` on both.
pub fn status(which: Which, reading: Reading, verdict: Belief) -> Status {
    match reading {
        Reading::IoError => Status::IoError,
        Reading::Missing => Status::Missing,
        Reading::Corrupt(_) => Status::Corrupt,
        Reading::Foreign(_) => Status::Stale,
        Reading::Valid(_) | Reading::Ambiguous(_) => match verdict {
            Belief::One(believed, _) if believed != which => Status::Stale,
            _ => Status::Valid,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::superblock::tests::sample;

    #[test]
    fn every_pair_of_readings_has_its_verdict() {
        let old = sample();
        let new = SuperBlock {
            sequence: old.sequence + 1,
            ..old
        };
        let other = SuperBlock {
            device_size: crate::units::Bytes(old.device_size.0 * 2),
            ..old
        };
        let corrupt = Reading::Corrupt(NotACopy::NoSignature);
        use Reading::{Ambiguous, Foreign, IoError, Missing, Valid};
        for (primary, backup, verdict, statuses) in [
            (Valid(old), Valid(old), Belief::Agree(old), ["valid", "valid"]),
            (
                Valid(new),
                Valid(old),
                Belief::One(Which::Primary, new),
                ["valid", "stale"],
            ),
            (
                Valid(old),
                Valid(new),
                Belief::One(Which::Backup, new),
                ["stale", "valid"],
            ),
            (Valid(old), Valid(other), Belief::Conflict, ["valid", "valid"]),
            (
                Valid(old),
                Missing,
                Belief::One(Which::Primary, old),
                ["valid", "missing"],
            ),
            (
                corrupt,
                Valid(old),
                Belief::One(Which::Backup, old),
                ["corrupt", "valid"],
            ),
            (
                IoError,
                Valid(old),
                Belief::One(Which::Backup, old),
                ["io-error", "valid"],
            ),
            (
                Foreign(new),
                Valid(old),
                Belief::One(Which::Backup, old),
                ["stale", "valid"],
            ),
            (Foreign(old), corrupt, Belief::Lost, ["stale", "corrupt"]),
            (Foreign(old), Missing, Belief::Foreign(old), ["stale", "missing"]),
            (Missing, Foreign(old), Belief::Foreign(old), ["missing", "stale"]),
            (corrupt, Missing, Belief::Lost, ["corrupt", "missing"]),
            (Missing, IoError, Belief::Lost, ["missing", "io-error"]),
            (IoError, IoError, Belief::Lost, ["io-error", "io-error"]),
            (Missing, Missing, Belief::None, ["missing", "missing"]),
            (Ambiguous(old), Missing, Belief::Conflict, ["valid", "missing"]),
            (corrupt, Ambiguous(old), Belief::Conflict, ["corrupt", "valid"]),
            (Ambiguous(old), Valid(old), Belief::Conflict, ["valid", "valid"]),
            (Ambiguous(new), Valid(old), Belief::Conflict, ["valid", "valid"]),
            (
                Ambiguous(old),
                Valid(new),
                Belief::One(Which::Backup, new),
                ["stale", "valid"],
            ),
            (
                Valid(new),
                Ambiguous(old),
                Belief::One(Which::Primary, new),
                ["valid", "stale"],
            ),
            (Ambiguous(old), Ambiguous(new), Belief::Conflict, ["valid", "valid"]),
        ] {
            assert_eq!(judge(primary, backup, true), verdict, "{primary:?} {backup:?}");
            let found = [
                status(Which::Primary, primary, verdict).as_str(),
                status(Which::Backup, backup, verdict).as_str(),
            ];
            assert_eq!(found, statuses, "{primary:?} {backup:?}");
        }
        // Bytes that this version does not know differ.
        assert_eq!(judge(Valid(old), Valid(old), false), Belief::Conflict);
    }
}
