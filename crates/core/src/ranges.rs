//! Checks options against their ranges, with one message for all of them.

use std::fmt::Display;

/// Returns the field and what is wrong with it, if `value` is not between `low` and `high`. NaN is out of every range.
pub fn out_of_range<T: PartialOrd + Display>(
    field: &'static str,
    value: T,
    low: T,
    high: T,
) -> Option<(&'static str, String)> {
    let text = format!("must be between {low} and {high}, not {value}");
    (!(low..=high).contains(&value)).then_some((field, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_belong_to_the_range_and_nan_to_none() {
        assert_eq!(out_of_range("n", 1, 1, 3), None);
        assert_eq!(out_of_range("n", 3, 1, 3), None);
        assert_eq!(out_of_range("n", 4, 1, 3), Some(("n", "must be between 1 and 3, not 4".into())));
        assert_eq!(out_of_range("x", f64::NAN, 0.0, 1.0), Some(("x", "must be between 0 and 1, not NaN".into())));
    }
}
