//! Checks that the values of options are within their ranges. All options share the same error message.

use std::fmt::Display;

/// Returns the field and an error message if `value` is not between `low` and `high`, both included. NaN is outside
/// every range.
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
