//! Numbers of users' data, with the digits in which they were written. They are compared without rounding.
//!
//! An `f64` holds 15 to 17 digits. Order numbers, account numbers and amounts often have more, and two neighbours would
//! become one number. A number that fits is kept as an `i64`, and every other number as its text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// Maximum number of digits or zeros that [`Number::plain`] writes out before it uses an exponent.
const PLAIN_DIGITS: i64 = 64;
/// Maximum number of digits of an exponent. The sum of such an exponent and of a length fits into an `i64`.
const EXPONENT_DIGITS: usize = 17;

/// Holds a number and its spelling. `==` compares spellings; [`Number::compare`] compares values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Number(Form);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    /// A whole number in the usual spelling, such as `-12`.
    Whole(i64),
    /// Any other spelling, such as `1.50`, `1E5` or a number with 30 digits.
    Written(Box<str>),
}

/// Holds the parts of a number: 0.d₁d₂d₃… × 10^`point`, where `d₁` is not zero. Zero has no digits.
struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    point: i64,
}

impl Number {
    /// Parses a number as JSON writes it. Returns `None` for any other text, such as `02134`, `+1`, `.5` or `inf`, and
    /// for an exponent of more than 17 digits.
    pub fn parse(text: &str) -> Option<Self> {
        Decimal::parse(text)?;
        match text.parse::<i64>() {
            Ok(whole) if text != "-0" => Some(whole.into()),
            _ => Some(Self(Form::Written(text.into()))),
        }
    }

    /// Converts a number to its plain spelling. Returns `None` for infinity and NaN.
    pub fn of_f64(number: f64) -> Option<Self> {
        number.is_finite().then(|| Self::parse(&number.to_string())).flatten().map(|n| n.plain())
    }

    /// Returns the digits as they were written.
    pub fn spelling(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Whole(n) => Cow::Owned(n.to_string()),
            Form::Written(text) => Cow::Borrowed(text),
        }
    }

    /// Returns the same value in its shortest usual spelling: `1.5` for `1.50`, and `100000` for `1E5`. Only numbers
    /// with many zeros keep an exponent.
    pub fn plain(&self) -> Self {
        let Form::Written(text) = &self.0 else { return self.clone() };
        let Some(decimal) = Decimal::parse(text) else { return self.clone() };
        let digits: String = decimal.digits().map(char::from).collect();
        let digits = digits.trim_end_matches('0');
        let (count, point) = (digits.len() as i64, decimal.point);
        let zeros = |n: i64| "0".repeat(usize::try_from(n).unwrap_or_default());
        let unsigned = match digits.split_at_checked(usize::try_from(point).unwrap_or_default()) {
            _ if count == 0 => return 0.into(),
            Some((whole, fraction)) if point > 0 && !fraction.is_empty() => format!("{whole}.{fraction}"),
            _ if (1..=PLAIN_DIGITS).contains(&point) || point == count => {
                format!("{digits}{}", zeros(point - count))
            }
            _ if (-PLAIN_DIGITS..=0).contains(&point) => format!("0.{}{digits}", zeros(-point)),
            _ => {
                let (first, rest) = digits.split_at_checked(1).unwrap_or_default();
                let dot = if rest.is_empty() { "" } else { "." };
                format!("{first}{dot}{rest}e{}", point - 1)
            }
        };
        let sign = if decimal.negative { "-" } else { "" };
        Self::parse(&format!("{sign}{unsigned}")).unwrap_or_else(|| self.clone())
    }

    /// Compares the values, exactly and without rounding.
    pub fn compare(&self, other: &Self) -> Ordering {
        if let (Form::Whole(a), Form::Whole(b)) = (&self.0, &other.0) {
            return a.cmp(b);
        }
        let (a, b) = (self.spelling(), other.spelling());
        match (Decimal::parse(&a), Decimal::parse(&b)) {
            (Some(a), Some(b)) => a.compare(&b),
            // Only texts that were parsed become numbers, so this never happens.
            _ => a.cmp(&b),
        }
    }

    /// Returns whether both numbers are written alike. The sign and the letter of an exponent do not count: `1E5` and
    /// `1e+5` are alike, because JSON readers change them.
    pub fn is_spelled_like(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let (Form::Written(a), Form::Written(b)) = (&self.0, &other.0) else { return false };
        let plain =
            |text: &str| text.bytes().filter(|b| *b != b'+').map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
        plain(a) == plain(b)
    }
}

impl From<i64> for Number {
    fn from(whole: i64) -> Self {
        Self(Form::Whole(whole))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelling())
    }
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if !digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let exponent = match exponent {
            None => 0,
            Some(text) => {
                let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
                let short = digits(unsigned) && unsigned.trim_start_matches('0').len() <= EXPONENT_DIGITS;
                let size: i64 = if short { unsigned.parse().ok()? } else { return None };
                if text.starts_with('-') { -size } else { size }
            }
        };
        let (whole, all) = (whole.trim_start_matches('0'), fraction.len());
        let fraction = if whole.is_empty() { fraction.trim_start_matches('0') } else { fraction };
        let point = exponent + if whole.is_empty() { -((all - fraction.len()) as i64) } else { whole.len() as i64 };
        let zero = whole.is_empty() && fraction.is_empty();
        Some(if zero {
            Self { negative: false, whole: "", fraction: "", point: 0 }
        } else {
            Self { negative, whole, fraction, point }
        })
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    /// Returns -1, 0 or 1.
    fn sign(&self) -> i8 {
        match (self.digits().next(), self.negative) {
            (None, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let signs = self.sign().cmp(&other.sign());
        if signs.is_ne() {
            return signs;
        }
        let length = |d: &Self| d.whole.len() + d.fraction.len();
        let longest = length(self).max(length(other));
        let padded = |d: &Self| d.digits().chain(std::iter::repeat(b'0')).take(longest).collect::<Vec<_>>();
        let sizes = self.point.cmp(&other.point).then_with(|| padded(self).cmp(&padded(other)));
        if self.negative { sizes.reverse() } else { sizes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn only_the_numbers_of_json_are_numbers() {
        for text in ["0", "-0", "7", "-12", "1.50", "0.5", "1E5", "1e+5", "2e-3", "9007199254740993", "1e00000005"] {
            assert_eq!(number(text).spelling(), text);
        }
        let long = "1e100000000000000000000";
        for text in
            ["", "-", "02134", "-01", "+49", ".5", "5.", "1e", "1e+", "inf", "NaN", "1_0", " 1", "1 ", "٣", long]
        {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn values_are_compared_to_the_last_digit() {
        let ascending = [
            "-1e400",
            "-123456789012345678901234567890.5",
            "-1.1",
            "-1",
            "-1e-400",
            "0",
            "1e-99999999999999999",
            "0.1",
            "0.10000000000000000001",
            "1.1",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "123456789012345678901234567890",
            "123456789012345678901234567891",
            "1e99999999999999999",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(number(a).compare(&number(b)), i.cmp(&j), "{a} and {b}");
            }
        }
        for (a, b) in
            [("0", "-0.0"), ("1.1", "1.10"), ("1E5", "100000"), ("0.05", "5e-2"), ("12e-1", "1.2"), ("0", "0e9")]
        {
            assert_eq!(number(a).compare(&number(b)), Ordering::Equal, "{a} and {b}");
        }
    }

    #[test]
    fn the_plain_spelling_is_the_usual_one() {
        for (text, plain) in [
            ("1.50", "1.5"),
            ("3.0", "3"),
            ("-0", "0"),
            ("0.000", "0"),
            ("1E5", "100000"),
            ("-2.50e1", "-25"),
            ("123e-5", "0.00123"),
            ("100", "100"),
            ("1.25e1", "12.5"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1e400", "1e400"),
            ("12E-400", "1.2e-399"),
        ] {
            assert_eq!(number(text).plain().spelling(), plain, "{text}");
        }
        assert_eq!(Number::of_f64(3.0).unwrap(), 3.into());
        assert_eq!(Number::of_f64(-0.25).unwrap(), number("-0.25"));
        assert_eq!(Number::of_f64(f64::NAN), None);
    }

    #[test]
    fn spellings_are_alike_whatever_the_exponent_s_letter() {
        for (a, b, alike) in
            [("1E5", "1e+5", true), ("1e5", "100000", false), ("1.10", "1.1", false), ("1.10", "1.10", true)]
        {
            assert_eq!(number(a).is_spelled_like(&number(b)), alike, "{a} and {b}");
        }
    }

    proptest! {
        /// Compares with whole numbers of a fixed scale, which need no decimal arithmetic.
        #[test]
        fn decimals_compare_like_whole_numbers_of_one_scale(
            a in -2_000_000_000_000_i128..2_000_000_000_000, b in -2_000_000_000_000_i128..2_000_000_000_000,
            shift in -3_i32..4, zeros in 0_usize..3,
        ) {
            // a × 10^-6, once with a point and once with an exponent.
            let pointed = |n: i128| {
                let sign = if n < 0 { "-" } else { "" };
                format!("{sign}{}.{:06}{}", n.abs() / 1_000_000, n.abs() % 1_000_000, "0".repeat(zeros))
            };
            let scaled = |n: i128| match shift {
                0.. => format!("{n}{}e-{}", if n == 0 { String::new() } else { "0".repeat(shift as usize) }, 6 + shift),
                _ => format!("{n}E-6"),
            };
            for (x, y) in [(pointed(a), scaled(b)), (scaled(a), pointed(b)), (pointed(a), pointed(b))] {
                prop_assert_eq!(number(&x).compare(&number(&y)), a.cmp(&b), "{} and {}", x, y);
            }
            let plain = number(&scaled(a)).plain();
            prop_assert_eq!(plain.compare(&number(&pointed(a))), Ordering::Equal);
            prop_assert_eq!(plain.plain(), plain);
        }

        #[test]
        fn any_text_is_a_number_or_not(text in "\\PC{0,12}|-?[0-9.eE+-]{0,40}") {
            if let Some(number) = Number::parse(&text) {
                prop_assert_eq!(number.spelling(), text.as_str());
                prop_assert_eq!(number.plain().compare(&number), Ordering::Equal);
                prop_assert!(serde_json::from_str::<serde_json::Number>(&text).is_ok(), "{}", text);
            }
        }
    }
}
