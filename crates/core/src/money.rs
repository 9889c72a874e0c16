//! Represents amounts of money exactly.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// Holds an amount in billionths of a US dollar. The price of one token is tens of billionths, so whole numbers are
/// precise enough, and sums over millions of calls are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanodollars(pub u64);

impl Nanodollars {
    pub const ZERO: Self = Self(0);

    /// Converts an amount in US dollars, such as one from the configuration, and rounds to the nearest nanodollar.
    pub fn of_usd(usd: f64) -> Self {
        Self((usd * 1e9).round() as u64)
    }

    /// Returns the cost of `tokens` at a price per million tokens.
    pub fn of_tokens(tokens: u64, usd_per_million: f64) -> Self {
        Self((tokens as f64 * usd_per_million * 1e3).round() as u64)
    }

    /// Returns the number of tokens that this amount pays for, at a price per million tokens.
    pub fn tokens_at(self, usd_per_million: f64) -> u64 {
        if usd_per_million > 0.0 { (self.0 as f64 / (usd_per_million * 1e3)).floor() as u64 } else { u64::MAX }
    }

    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl Add for Nanodollars {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Nanodollars {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Nanodollars {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Nanodollars {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::add)
    }
}

/// Formats amounts of a dollar or more with two decimal places, and smaller amounts with more decimal places.
impl fmt::Display for Nanodollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("$0"),
            1..1_000 => f.write_str("<$0.000001"),
            1_000..10_000_000 => write!(f, "${:.6}", self.usd()),
            10_000_000..1_000_000_000 => write!(f, "${:.4}", self.usd()),
            _ => write!(f, "${:.2}", self.usd()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_and_sums_are_exact() {
        assert_eq!(Nanodollars::of_tokens(1, 0.02), Nanodollars(20));
        assert_eq!(Nanodollars::of_tokens(1_000_000_000, 0.13), Nanodollars::of_usd(130.0));
        assert_eq!(Nanodollars::of_tokens(3, 0.0125), Nanodollars(38), "to the nearest");
        assert_eq!((Nanodollars(1_000).tokens_at(0.02), Nanodollars(1).tokens_at(0.0)), (50, u64::MAX));
        assert_eq!([1, 2, 3].map(Nanodollars).into_iter().sum::<Nanodollars>(), Nanodollars(6));
    }

    #[test]
    fn as_people_read_it() {
        let table = [
            (0, "$0"),
            (20, "<$0.000001"),
            (1_000, "$0.000001"),
            (1_234_567, "$0.001235"),
            (12_345_678, "$0.0123"),
            (1_999_000_000, "$2.00"),
            (2_820_000_000, "$2.82"),
        ];
        for (nanos, expected) in table {
            assert_eq!(Nanodollars(nanos).to_string(), expected);
        }
    }
}
