//! Parses text into filters, which are the conditions that the index evaluates. `--filter` and every other place where
//! people type filters use this parser.
//!
//! The grammar is that of [`docweir_index::search::filter_syntax`]. This parser also knows the fields, to help people
//! who type filters. First, an unknown field name is an error, because it is probably misspelled; the index would take
//! the name as a path into the metadata. Second, a source may be a path, and the parser converts the path to a URI; the
//! index compares URIs only. Third, a document may be named by the id of its record. A program that builds a [`Filter`]
//! directly does not need this module.

use std::path::Path;

use docweir_core::documents::DocumentId;
use docweir_index::search::filter_syntax::{Comparison, Expr, SyntaxError};

pub use docweir_index::search::filter::{Field, Filter};
pub use docweir_index::search::scalar::Scalar;

use crate::intake::source;

/// Field names that need no `metadata.` prefix.
const FIELDS: [&str; 8] = ["document", "source", "page", "language", "kind", "chunk", "media_type", "tenant"];

/// Describes an invalid filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter `{filter}`, column {column}: {reason}")]
pub struct FilterError {
    /// Full text of the filter.
    pub filter: String,
    /// Position of the mistake in the filter, in characters, starting at 1.
    pub column: usize,
    /// Describes the invalid part of the filter and says what to write instead.
    pub reason: String,
}

/// Parses filters and combines them into one filter that requires all of them. Returns `None` for an empty list.
///
/// # Errors
/// Returns an error for the first invalid filter. A filter is invalid if its field is unknown, its value does not fit
/// the field, or its operator is missing.
pub fn parse_all<T: AsRef<str>>(filters: &[T], base: &Path) -> Result<Option<Filter>, FilterError> {
    let parts = filters.iter().map(|text| parse(text.as_ref(), base)).collect::<Result<Vec<_>, _>>()?;
    Ok(Filter::all(parts))
}

/// Parses one filter, such as `page>=2` or `kind=table and not language=eng`. A `source` that is a relative path is
/// resolved against `base`.
///
/// # Errors
/// Returns an error for an unknown field, a value that does not fit its field, or a mistake in the syntax.
pub fn parse(text: &str, base: &Path) -> Result<Filter, FilterError> {
    let parsed = Expr::parse(text).and_then(|expr| expr.filter(&|one| condition(one, base)));
    parsed.map_err(|SyntaxError { column, reason }| FilterError { filter: text.to_owned(), column, reason })
}

/// Returns whether a filter compares with several alternatives. The user may have meant one value with a comma in it.
pub fn has_list(text: &str) -> bool {
    fn inspect(expr: &Expr) -> bool {
        match expr {
            Expr::All(parts) | Expr::Any(parts) => parts.iter().any(inspect),
            Expr::Not(part) => inspect(part),
            Expr::Compare(one) => one.values.len() > 1,
        }
    }
    Expr::parse(text).is_ok_and(|expr| inspect(&expr))
}

/// Returns a filter that selects documents by path. If `path` is a folder, the filter selects all documents in this
/// folder. Otherwise, the filter selects all documents whose path begins with `path`.
pub fn under(path: &Path, base: &Path) -> Filter {
    Filter::prefix(Field::Source, uri_prefix(path, base))
}

fn condition(one: &Comparison, base: &Path) -> Result<Filter, String> {
    let name = one.field.as_str();
    if !FIELDS.contains(&name) && !name.starts_with("metadata.") {
        let near = FIELDS.iter().map(|f| (strsim::damerau_levenshtein(f, name), *f)).min();
        let hint = match near.filter(|(distance, _)| *distance <= 2) {
            Some((_, field)) => format!("did you mean `{field}`?"),
            None => format!("fields are {}", FIELDS.join(", ")),
        };
        return Err(format!("`{name}` is not a field; {hint} (for metadata, use `metadata.{name}`)"));
    }
    typed(one.filter(), base)
}

/// Checks the values against the type of the field. Converts paths to URIs, and ids of records to ids of documents.
fn typed(filter: Filter, base: &Path) -> Result<Filter, String> {
    let value = |field: &Field, value: Scalar| match (field, value) {
        (Field::Source, value) => Ok(Scalar::Text(uri(&value.spelling(), base))),
        (Field::Document, value) => Ok(Scalar::Text(document(&value.spelling()))),
        (Field::Page, Scalar::Number(n)) => Ok(Scalar::Number(n.plain())),
        (Field::Page, other) => Err(format!("`{}` is not a page number", other.spelling())),
        (Field::Metadata(_), value) => Ok(value),
        (_, value) => Ok(Scalar::Text(value.spelling().into_owned())),
    };
    Ok(match filter {
        Filter::Not(inner) => Filter::Not(Box::new(typed(*inner, base)?)),
        Filter::Eq { field, value: v } => Filter::Eq { value: value(&field, v)?, field },
        Filter::In { field, values } => {
            let values = values.into_iter().map(|v| value(&field, v)).collect::<Result<_, _>>()?;
            Filter::In { field, values }
        }
        Filter::Prefix { field: Field::Page, .. } => return Err("compare pages with =, >=, <=, > or <".into()),
        Filter::Prefix { field: Field::Source, prefix } if !prefix.contains("://") => under(Path::new(&prefix), base),
        Filter::Range { field, gt, gte, lt, lte } => {
            let bound = |b: Option<Scalar>| b.map(|v| value(&field, v)).transpose();
            let (gt, gte, lt, lte) = (bound(gt)?, bound(gte)?, bound(lt)?, bound(lte)?);
            Filter::Range { field, gt, gte, lt, lte }
        }
        other => other,
    })
}

/// Returns the id of the document with this id, or of the record with this id. The ids of some records, such as ids with
/// blanks, cannot be ids of documents.
fn document(id: &str) -> String {
    match DocumentId::parse(id) {
        Some(_) => id.to_owned(),
        None => docweir_records::document_id(id).to_string(),
    }
}

/// Returns the source URI of a path; a URI is returned unchanged.
fn uri(text: &str, base: &Path) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    source::of_path(&source::absolute(Path::new(text), base))
}

/// Returns the prefix of all sources under a path. The prefix of a folder ends with `/`, so that `a` does not match
/// `ab`.
fn uri_prefix(path: &Path, base: &Path) -> String {
    let absolute = source::absolute(path, base);
    let folder = absolute.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if folder { source::of_folder(&absolute) } else { source::of_path(&absolute) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(filter: &Filter) -> String {
        serde_json::to_string(filter).unwrap()
    }

    #[test]
    fn paths_become_uris_and_several_conditions_must_all_hold() {
        let base = Path::new("/no/such");
        assert_eq!(parse_all::<&str>(&[], base), Ok(None));
        let table = [
            ("source=a b.pdf", r#"{"eq":{"field":"source","value":"file:///no/such/a%20b.pdf"}}"#),
            ("source=/x/../y.pdf", r#"{"eq":{"field":"source","value":"file:///y.pdf"}}"#),
            ("source^=reports/", r#"{"prefix":{"field":"source","prefix":"file:///no/such/reports/"}}"#),
            ("source^=reports/20", r#"{"prefix":{"field":"source","prefix":"file:///no/such/reports/20"}}"#),
            ("source=s3://b/k", r#"{"eq":{"field":"source","value":"s3://b/k"}}"#),
            ("language=eng,deu", r#"{"in":{"field":"language","values":["eng","deu"]}}"#),
            ("page>=2", r#"{"range":{"field":"page","gte":2}}"#),
            ("document=20250131", r#"{"eq":{"field":"document","value":"20250131"}}"#),
            ("document=007", r#"{"eq":{"field":"document","value":"007"}}"#),
            ("document=1E5", r#"{"eq":{"field":"document","value":"1E5"}}"#),
            ("metadata.year=2024", r#"{"eq":{"field":"metadata.year","value":2024}}"#),
            ("metadata.zip=00501", r#"{"eq":{"field":"metadata.zip","value":"00501"}}"#),
            (
                "source=a/b, c & d 100%.md",
                r#"{"in":{"field":"source","values":["file:///no/such/a/b","file:///no/such/c%20%26%20d%20100%25.md"]}}"#,
            ),
            (
                "source=\"a/b, c & d 100%.md\"",
                r#"{"eq":{"field":"source","value":"file:///no/such/a/b%2C%20c%20%26%20d%20100%25.md"}}"#,
            ),
            ("source^='a, b/'", r#"{"prefix":{"field":"source","prefix":"file:///no/such/a%2C%20b/"}}"#),
            (
                "kind=table or page=2",
                r#"{"any":[{"eq":{"field":"kind","value":"table"}},{"eq":{"field":"page","value":2}}]}"#,
            ),
            ("media_type=application/pdf", r#"{"eq":{"field":"metadata.media_type","value":"application/pdf"}}"#),
        ];
        for (text, expected) in table {
            assert_eq!(json(&parse_all(&[text], base).unwrap().unwrap()), expected, "{text}");
        }
        let both = Filter::all([parse("kind=table", base).unwrap(), under(Path::new("reports/"), base)]);
        let both = json(&both.unwrap());
        assert!(both.starts_with(r#"{"all":[{"eq""#) && both.contains("such/reports/"), "{both}");
    }

    #[test]
    fn errors_name_the_bad_part() {
        let table = [
            ("langage=eng", 1, "`langage` is not a field; did you mean `language`?"),
            ("colour=red", 1, "`colour` is not a field; fields are document, source"),
            ("kind=text and page>=two", 15, "`two` is not a page number"),
            ("page^=2", 1, "compare pages with"),
            ("eng", 1, "is not a filter"),
            ("source=\"a", 8, "this quote is not closed"),
        ];
        for (text, column, expected) in table {
            let error = parse_all(&["kind=table", text], Path::new("/")).unwrap_err();
            assert_eq!((error.filter.as_str(), error.column), (text, column));
            assert!(error.reason.contains(expected), "{error}");
            assert!(error.to_string().starts_with(&format!("filter `{text}`, column {column}: ")), "{error}");
        }
    }

    #[test]
    fn records_are_found_by_ids_that_no_document_can_have() {
        let base = Path::new("/");
        for (id, expected) in [("A-7", "A-7"), ("\"6 \"", docweir_records::document_id("6 ").as_str())] {
            let filter = parse(&format!("document={id}"), base).unwrap();
            assert_eq!(filter, Filter::eq("document", expected), "{id}");
        }
        let hashed = docweir_records::document_id("Größe 42").to_string();
        assert_eq!(parse(&format!("document={hashed}"), base).unwrap(), Filter::eq("document", hashed.as_str()));
    }

    #[test]
    fn several_alternatives_are_noticed() {
        for (text, expected) in [
            ("a=b,c", true),
            ("x=1 or not (a=b, c)", true),
            ("a=\"b,c\"", false),
            ("a^=b,c", false),
            ("nonsense", false),
        ] {
            assert_eq!(has_list(text), expected, "{text}");
        }
    }

    #[test]
    fn a_folder_s_prefix_ends_with_a_slash() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        assert_eq!(uri_prefix(Path::new("real"), &root), format!("{}/", source::of_path(&root.join("real"))));
    }
}
