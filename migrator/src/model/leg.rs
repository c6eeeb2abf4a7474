//! One direction of a migration: leg 1 goes from the source to the target, leg 2 back, leg 3 forward again, and so on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a leg. At most one leg carries writes of the application to the cluster that serves, and at most one
/// runs behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Leg(u32);

impl Leg {
    /// From the source to the target.
    pub const FIRST: Self = Self(1);

    /// The leg with this number; the first where there is none such.
    pub fn new(number: u32) -> Self {
        Self(number.max(1))
    }

    /// Counted from 1.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The one that goes the other way once this one was switched.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one whose switch began this one; `None` before the first switch.
    pub fn before(self) -> Option<Self> {
        self.0.checked_sub(1).filter(|number| *number > 0).map(Self)
    }

    /// Whether it goes from the target back to the source.
    pub fn is_way_back(self) -> bool {
        self.0.is_multiple_of(2)
    }

    /// Earlier legs in the same direction, the latest first.
    pub fn earlier(self) -> impl Iterator<Item = Self> {
        (1..self.0).rev().filter(move |number| number % 2 == self.0 % 2).map(Self)
    }

    /// What tells this leg's records from those of the migration's other legs: the migration's name for the first, which
    /// no migration's name with a number can be.
    pub fn key(self, migration: &str) -> String {
        if self == Self::FIRST { migration.to_owned() } else { format!("{migration}/{}", self.0) }
    }
}

impl Default for Leg {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::Leg;

    #[test]
    fn directions_alternate_and_no_leg_has_the_key_of_another() {
        let second = Leg::FIRST.next();
        assert!(!Leg::FIRST.is_way_back() && second.is_way_back() && !second.next().is_way_back());
        assert_eq!((Leg::FIRST.before(), second.before()), (None, Some(Leg::FIRST)));
        assert_eq!(Leg::new(5).earlier().collect::<Vec<_>>(), [Leg::new(3), Leg::new(1)]);
        assert_eq!(Leg::new(4).earlier().collect::<Vec<_>>(), [Leg::new(2)]);
        assert_eq!((Leg::FIRST.key("m"), second.key("m")), ("m".to_owned(), "m/2".to_owned()));
        assert_eq!(Leg::new(0), Leg::FIRST);
    }
}
