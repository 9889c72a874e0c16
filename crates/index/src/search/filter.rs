//! Restricts the rows that a search may find. A filter is evaluated before the best k rows are chosen, so a search
//! finds k rows if at least k rows match.
//!
//! Fields are `document`, `source`, `chunk`, `kind`, `language` and `page`. Any other name is a path into the
//! metadata, such as `media_type` or `findings.score`. `metadata.page` is the metadata value `page`, in contrast to
//! the field. A row's own metadata takes precedence over the metadata of its document. A list matches if one of its
//! items matches; a missing value never matches, except that `Not` holds for it.
//!
//! [`super::scalar`] says when two values are equal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::bits::Bits;
use super::facet::restrict_labels;
use super::filter_syntax::{Expr, SyntaxError};
use super::scalar::Scalar;
use crate::segment::Segment;

/// Maximum number of pages that are checked per row. No chunk spans more pages than this, but in a damaged file a
/// chunk may seem to.
const MAX_PAGES: usize = 10_000;

/// Describes a condition on a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Eq {
        field: Field,
        value: Scalar,
    },
    In {
        field: Field,
        values: Vec<Scalar>,
    },
    Prefix {
        field: Field,
        prefix: String,
    },
    /// Requires the value to lie within all given bounds. A number is compared only with numbers, and a text only
    /// with texts. Numbers are compared exactly.
    Range {
        field: Field,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gt: Option<Scalar>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gte: Option<Scalar>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lt: Option<Scalar>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lte: Option<Scalar>,
    },
}

/// Selects the value of a row that a condition tests: a column or a metadata path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Field {
    Document,
    Source,
    Chunk,
    Kind,
    Language,
    /// Pages that the row's chunk covers. A condition holds if it holds for one of the pages.
    Page,
    /// Path into the metadata, as names joined by dots.
    Metadata(String),
}

impl From<String> for Field {
    fn from(name: String) -> Self {
        match name.as_str() {
            "document" => Field::Document,
            "source" => Field::Source,
            "chunk" => Field::Chunk,
            "kind" => Field::Kind,
            "language" => Field::Language,
            "page" => Field::Page,
            other => Field::Metadata(other.strip_prefix("metadata.").unwrap_or(other).to_owned()),
        }
    }
}

impl From<Field> for String {
    fn from(field: Field) -> Self {
        field.to_string()
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Document => f.write_str("document"),
            Field::Source => f.write_str("source"),
            Field::Chunk => f.write_str("chunk"),
            Field::Kind => f.write_str("kind"),
            Field::Language => f.write_str("language"),
            Field::Page => f.write_str("page"),
            Field::Metadata(path) => write!(f, "metadata.{path}"),
        }
    }
}

/// Parses a filter as people write it, such as `page>=3`. See [`super::filter_syntax`].
impl FromStr for Filter {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Expr::parse(text)?.filter(&|one| Ok(one.filter()))
    }
}

impl From<&str> for Field {
    fn from(name: &str) -> Self {
        Field::from(name.to_owned())
    }
}

impl Filter {
    /// Requires a field to equal a value: `Filter::eq("language", "eng")`.
    pub fn eq(field: impl Into<Field>, value: impl Into<Scalar>) -> Self {
        Filter::Eq { field: field.into(), value: value.into() }
    }

    /// Requires a field to equal one of several values.
    pub fn one_of<V: Into<Scalar>>(field: impl Into<Field>, values: impl IntoIterator<Item = V>) -> Self {
        Filter::In { field: field.into(), values: values.into_iter().map(Into::into).collect() }
    }

    /// Requires a field to begin with a prefix.
    pub fn prefix(field: impl Into<Field>, prefix: impl Into<String>) -> Self {
        Filter::Prefix { field: field.into(), prefix: prefix.into() }
    }

    /// Requires a field to be greater than or equal to a value.
    pub fn at_least(field: impl Into<Field>, value: impl Into<Scalar>) -> Self {
        Filter::Range { field: field.into(), gt: None, gte: Some(value.into()), lt: None, lte: None }
    }

    /// Requires a field to be less than or equal to a value.
    pub fn at_most(field: impl Into<Field>, value: impl Into<Scalar>) -> Self {
        Filter::Range { field: field.into(), gt: None, gte: None, lt: None, lte: Some(value.into()) }
    }

    /// Combines several conditions, all of which must hold. Returns `None` for no condition, and a single condition
    /// unchanged.
    pub fn all(parts: impl IntoIterator<Item = Filter>) -> Option<Self> {
        let mut parts: Vec<Filter> = parts.into_iter().collect();
        match parts.len() {
            0 | 1 => parts.pop(),
            _ => Some(Filter::All(parts)),
        }
    }

    /// Keeps in `rows` only the rows that fulfil the condition.
    pub fn restrict(&self, segment: &Segment, rows: &mut Bits) {
        match self {
            Filter::All(parts) => parts.iter().for_each(|part| part.restrict(segment, rows)),
            Filter::Any(parts) => {
                let each: Vec<Bits> = parts.iter().map(|part| part.matching(segment, rows)).collect();
                rows.retain(|row| each.iter().any(|bits| bits.contains(row)));
            }
            Filter::Not(part) => {
                let matching = part.matching(segment, rows);
                rows.retain(|row| !matching.contains(row));
            }
            // Look the documents up instead of comparing all of them.
            Filter::Eq { field: Field::Document, value } => only(segment, rows, std::slice::from_ref(value)),
            Filter::In { field: Field::Document, values } => only(segment, rows, values),
            Filter::Eq { field, value } => keep(segment, rows, field, |v| v.is_found_by(value)),
            Filter::In { field, values } => keep(segment, rows, field, |v| values.iter().any(|w| v.is_found_by(w))),
            Filter::Prefix { field, prefix } => {
                keep(segment, rows, field, |v| v.spelling().starts_with(prefix.as_str()))
            }
            Filter::Range { field, gt, gte, lt, lte } => {
                let holds = |v: &Scalar, bound: &Option<Scalar>, test: fn(std::cmp::Ordering) -> bool| {
                    bound.as_ref().is_none_or(|b| v.compare(b).is_some_and(test))
                };
                keep(segment, rows, field, |v| {
                    holds(v, gt, |o| o.is_gt())
                        && holds(v, gte, |o| o.is_ge())
                        && holds(v, lt, |o| o.is_lt())
                        && holds(v, lte, |o| o.is_le())
                })
            }
        }
    }

    fn matching(&self, segment: &Segment, rows: &Bits) -> Bits {
        let mut matching = rows.clone();
        self.restrict(segment, &mut matching);
        matching
    }
}

/// Keeps in `rows` only the rows of the given documents.
fn only(segment: &Segment, rows: &mut Bits, documents: &[Scalar]) {
    let mut allowed = Bits::none(segment.len());
    for id in documents.iter().map(Scalar::spelling) {
        if let Some(at) = segment.documents().find(&id) {
            allowed.set_range(segment.documents().rows(at));
        }
    }
    rows.and_words(|word| allowed.words().get(word).copied().unwrap_or_default());
}

/// Keeps in `rows` only the rows that pass the test. A row passes if `test` returns true for at least one of its
/// values of `field`.
fn keep(segment: &Segment, rows: &mut Bits, field: &Field, test: impl Fn(&Scalar) -> bool) {
    let text = |t: &str| test(&Scalar::Text(t.to_owned()));
    match field {
        // The value is the same for all rows of a document, so test it once.
        Field::Document | Field::Source => {
            let documents = segment.documents();
            for at in 0..documents.len() {
                let value = if *field == Field::Source { documents.sources.get(at) } else { documents.id(at) };
                if !text(value) {
                    rows.clear_range(documents.rows(at));
                }
            }
        }
        Field::Chunk => rows.retain(|row| text(segment.chunk_id(row))),
        Field::Kind => restrict_labels(&segment.columns().kinds, rows, text),
        Field::Language => restrict_labels(&segment.columns().languages, rows, |l| !l.is_empty() && text(l)),
        Field::Page => rows.retain(|row| {
            let (first, last) = segment.pages(row);
            (first..=last).take(MAX_PAGES).any(|page| test(&Scalar::Number(i64::from(page).into())))
        }),
        Field::Metadata(path) => segment.facet(path).restrict(rows, test),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_conditions() {
        let parse = |text: &str| serde_json::to_string(&text.parse::<Filter>().unwrap()).unwrap();
        for (text, json) in [
            ("page>=3", r#"{"range":{"field":"page","gte":3}}"#),
            ("page < 3", r#"{"range":{"field":"page","lt":3}}"#),
            ("kind=table", r#"{"eq":{"field":"kind","value":"table"}}"#),
            ("language=eng, deu", r#"{"in":{"field":"language","values":["eng","deu"]}}"#),
            ("source^=file:///a=b/", r#"{"prefix":{"field":"source","prefix":"file:///a=b/"}}"#),
            ("tenant!=acme", r#"{"not":{"eq":{"field":"metadata.tenant","value":"acme"}}}"#),
            ("metadata.page=x", r#"{"eq":{"field":"metadata.page","value":"x"}}"#),
            ("signed=true", r#"{"eq":{"field":"metadata.signed","value":true}}"#),
            ("year='2024'", r#"{"eq":{"field":"metadata.year","value":"2024"}}"#),
            (
                "n=123456789012345678901234567890",
                r#"{"eq":{"field":"metadata.n","value":123456789012345678901234567890}}"#,
            ),
            (
                "a=1 and b=2",
                r#"{"all":[{"eq":{"field":"metadata.a","value":1}},{"eq":{"field":"metadata.b","value":2}}]}"#,
            ),
        ] {
            assert_eq!(parse(text), json, "{text}");
            let back: Filter = serde_json::from_str(json).unwrap();
            assert_eq!(back, text.parse().unwrap());
        }
        for (built, text) in [
            (Filter::eq("kind", "table"), "kind=table"),
            (Filter::one_of("language", ["eng", "deu"]), "language=eng,deu"),
            (Filter::prefix("source", "s3://b/"), "source^=s3://b/"),
            (Filter::at_least("page", 3.0), "page>=3"),
            (Filter::at_most("metadata.cost", 3.5), "cost<=3.5"),
            (Filter::eq("signed", true), "signed=true"),
        ] {
            assert_eq!(built, text.parse().unwrap());
        }
        for bad in ["", "page", "=3", "page!3"] {
            assert!(bad.parse::<Filter>().unwrap_err().reason.contains("not a filter"), "{bad}");
        }
    }

    /// Programs stored filters in this form before numbers were exact.
    #[test]
    fn the_json_of_earlier_versions_is_read() {
        let old = r#"{"all":[{"range":{"field":"page","gte":3.0,"lt":7.5}},{"eq":{"field":"year","value":2024.0}}]}"#;
        let filter: Filter = serde_json::from_str(old).unwrap();
        let page = Field::Page;
        let (gte, lt) = (Some(3.0.into()), Some(7.5.into()));
        let range = Filter::Range { field: page, gt: None, gte, lt, lte: None };
        assert_eq!(filter, Filter::All(vec![range, Filter::eq("year", 2024.0)]));
        for bad in [r#"{"eq":{"field":"year","value":[1]}}"#, r#"{"eq":{"field":"year","value":null}}"#] {
            let error = serde_json::from_str::<Filter>(bad).unwrap_err().to_string();
            assert!(error.contains("a text, a number or a boolean"), "{error}");
        }
    }
}
