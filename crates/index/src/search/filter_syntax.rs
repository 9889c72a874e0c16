//! Parses the filters that people write, and prints them again.
//!
//! ```text
//! any       := all ("or" all)*
//! all       := one ("and" one)*
//! one       := "not" one | "(" any ")" | FIELD OPERATOR VALUE ("," VALUE)*
//! OPERATOR  := "=" | "!=" | "^=" | ">=" | "<=" | ">" | "<"
//! VALUE     := a word | "text with \"escapes\"" | 'text without escapes'
//! ```
//! A word may contain blanks, quotes and parentheses, so that `source=My report (2).pdf` needs no quotes. It ends at a
//! comma, at the parenthesis that closes its group, and at `and` or `or` if a condition follows. Only `=` and `!=` take
//! several values; in other conditions a comma is part of the word. A part of a field's name may be quoted as well.
//!
//! The parser does not know which fields exist. [`Expr::filter`] passes each comparison to a function that does.

mod cursor;
mod parser;
#[cfg(test)]
mod tests;

use std::fmt;

use super::filter::{Field, Filter};
use super::scalar::Scalar;

pub use parser::{MAX_BYTES, MAX_DEPTH};

/// Describes a filter as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Requires all parts; has at least two.
    All(Vec<Expr>),
    /// Requires at least one of the parts; has at least two.
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Compare(Comparison),
}

/// Describes the comparison of a field with values.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Name of the field without quotes.
    pub field: String,
    pub operator: Operator,
    /// At least one value; exactly one unless the operator is `=` or `!=`.
    pub values: Vec<Operand>,
    /// Position of the comparison in the filter, in characters, starting at 1.
    pub column: usize,
}

/// Ignores the position: two comparisons are equal if they mean the same.
impl PartialEq for Comparison {
    fn eq(&self, other: &Self) -> bool {
        (&self.field, self.operator, &self.values) == (&other.field, other.operator, &other.values)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Prefix,
    AtLeast,
    AtMost,
    Above,
    Below,
}

/// Holds a value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Value without quotes. It may mean a text, a number or a boolean.
    Word(String),
    /// Value that stood in quotes, which is always a text.
    Quoted(String),
}

/// Describes the first mistake in a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {reason}")]
pub struct SyntaxError {
    /// Position of the mistake, in characters, starting at 1.
    pub column: usize,
    /// Says what is wrong and what to write instead.
    pub reason: String,
}

impl Operator {
    /// All operators. An operator that begins like another one comes before it.
    pub const ALL: [Self; 7] =
        [Self::NotEqual, Self::Prefix, Self::AtLeast, Self::AtMost, Self::Equal, Self::Above, Self::Below];

    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Prefix => "^=",
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::Below => "<",
        }
    }

    /// Returns whether the operator compares with several values.
    pub fn takes_list(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

impl Operand {
    pub fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Quoted(text) => text,
        }
    }

    fn scalar(&self, written: fn(&str) -> Scalar) -> Scalar {
        match self {
            Self::Word(text) => written(text),
            Self::Quoted(text) => Scalar::Text(text.clone()),
        }
    }
}

impl Comparison {
    /// Returns the filter that means this comparison.
    pub fn filter(&self) -> Filter {
        let field = Field::from(self.field.as_str());
        let first = self.values.first();
        let bound = first.map(|value| value.scalar(Scalar::written_bound));
        let equal = |field| match self.values.as_slice() {
            [value] => Filter::Eq { field, value: value.scalar(Scalar::written) },
            values => Filter::In { field, values: values.iter().map(|value| value.scalar(Scalar::written)).collect() },
        };
        let (gt, gte, lt, lte) = (None, None, None, None);
        match self.operator {
            Operator::Equal => equal(field),
            Operator::NotEqual => Filter::Not(Box::new(equal(field))),
            Operator::Prefix => Filter::Prefix { field, prefix: first.map_or("", Operand::text).to_owned() },
            Operator::AtLeast => Filter::Range { field, gt, gte: bound, lt, lte },
            Operator::AtMost => Filter::Range { field, gt, gte, lt, lte: bound },
            Operator::Above => Filter::Range { field, gt: bound, gte, lt, lte },
            Operator::Below => Filter::Range { field, gt, gte, lt: bound, lte },
        }
    }
}

impl Expr {
    /// Parses a filter.
    ///
    /// # Errors
    /// Returns the first mistake with its position.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        parser::parse(text)
    }

    /// Converts the expression to a filter. `each` converts a comparison, or returns what is wrong with it.
    ///
    /// # Errors
    /// Returns the first error of `each`, with the position of the comparison.
    pub fn filter(&self, each: &dyn Fn(&Comparison) -> Result<Filter, String>) -> Result<Filter, SyntaxError> {
        let all = |parts: &[Expr]| parts.iter().map(|part| part.filter(each)).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Expr::All(parts) => Filter::All(all(parts)?),
            Expr::Any(parts) => Filter::Any(all(parts)?),
            Expr::Not(part) => Filter::Not(Box::new(part.filter(each)?)),
            Expr::Compare(one) => each(one).map_err(|reason| SyntaxError { column: one.column, reason })?,
        })
    }
}

/// Prints the filter. Parsing the printed text yields an equal expression.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Expr], word: &str, is_grouped: fn(&Expr) -> bool| {
            for (i, part) in parts.iter().enumerate() {
                if i > 0 {
                    write!(f, " {word} ")?;
                }
                match is_grouped(part) {
                    true => write!(f, "({part})")?,
                    false => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Expr::All(parts) => joined(f, parts, "and", |part| matches!(part, Expr::All(_) | Expr::Any(_))),
            // `and` binds more closely. A word outside of groups may hold a single parenthesis, so no group is added.
            Expr::Any(parts) => joined(f, parts, "or", |part| matches!(part, Expr::Any(_))),
            Expr::Not(part) => {
                f.write_str("not ")?;
                joined(f, std::slice::from_ref(part), "", |part| matches!(part, Expr::All(_) | Expr::Any(_)))
            }
            Expr::Compare(one) => write!(f, "{one}"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@' | '#' | '$');
        match !self.field.is_empty() && self.field.chars().all(plain) {
            true => f.write_str(&self.field)?,
            false => quoted(f, &self.field)?,
        }
        f.write_str(self.operator.symbol())?;
        for (i, value) in self.values.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match value {
                Operand::Word(text) => f.write_str(text)?,
                Operand::Quoted(text) => quoted(f, text)?,
            }
        }
        Ok(())
    }
}

/// Writes a text in double quotes, with escapes.
pub(super) fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
