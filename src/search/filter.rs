//! `--filter` and `--source`, from what is typed to what the store compares.
//!
//! The store takes any name for a path into the metadata and compares sources as URIs. On the command line a name that
//! is misspelled should be an error, not an empty answer, and people think of paths.

use std::path::{Path, PathBuf};

use docweir_index::Filter;
use docweir_index::search::filter::{Field, Scalar};

use super::exit::Failure;
use crate::intake::source;

/// What may be named without `metadata.` before it.
const FIELDS: [&str; 8] = ["document", "source", "page", "language", "kind", "chunk", "media_type", "tenant"];

/// All conditions as one, or which part of which is wrong.
pub fn parse(filters: &[String], below: Option<&Path>, here: &Path) -> Result<Option<Filter>, Failure> {
    let mut parts = Vec::new();
    for text in filters {
        let filter = one(text, here).map_err(|e| Failure::usage(format!("--filter '{text}': {e}")))?;
        parts.push(filter);
    }
    parts.extend(below.map(|path| Filter::Prefix { field: Field::Source, prefix: uri_prefix(path, here) }));
    Ok(match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(Filter::All(parts)),
    })
}

fn one(text: &str, here: &Path) -> Result<Filter, String> {
    let filter: Filter = text.parse()?;
    let name = text.split(['!', '^', '>', '<', '=']).next().unwrap_or_default().trim();
    if !FIELDS.contains(&name) && !name.starts_with("metadata.") {
        let near = FIELDS.iter().map(|f| (strsim::damerau_levenshtein(f, name), *f)).min();
        let hint = match near.filter(|(distance, _)| *distance <= 2) {
            Some((_, field)) => format!("did you mean `{field}`?"),
            None => format!("fields are {}", FIELDS.join(", ")),
        };
        return Err(format!("`{name}` is no field; {hint} (any metadata: `metadata.{name}`)"));
    }
    typed(filter, here)
}

/// Checks the values against the field, and makes paths URIs.
fn typed(filter: Filter, here: &Path) -> Result<Filter, String> {
    let value = |field: &Field, value: Scalar| match (field, value) {
        (Field::Source, value) => Ok(Scalar::Text(uri(&spelled(&value), here))),
        (Field::Page, Scalar::Number(n)) => Ok(Scalar::Number(n)),
        (Field::Page, other) => Err(format!("`{}` is no page number", spelled(&other))),
        (Field::Metadata(_), value) => Ok(value),
        (_, value) => Ok(Scalar::Text(spelled(&value))),
    };
    Ok(match filter {
        Filter::Not(inner) => Filter::Not(Box::new(typed(*inner, here)?)),
        Filter::Eq { field, value: v } => Filter::Eq { value: value(&field, v)?, field },
        Filter::In { field, values } => {
            let values = values.into_iter().map(|v| value(&field, v)).collect::<Result<_, _>>()?;
            Filter::In { field, values }
        }
        Filter::Prefix { field: Field::Page, .. } => return Err("pages are compared by =, >=, <=, > and <".into()),
        Filter::Prefix { field: Field::Source, prefix } if !prefix.contains("://") => {
            Filter::Prefix { field: Field::Source, prefix: uri_prefix(Path::new(&prefix), here) }
        }
        Filter::Range { field, gt, gte, lt, lte } => {
            let bound = |b: Option<Scalar>| b.map(|v| value(&field, v)).transpose();
            let (gt, gte, lt, lte) = (bound(gt)?, bound(gte)?, bound(lt)?, bound(lte)?);
            Filter::Range { field, gt, gte, lt, lte }
        }
        other => other,
    })
}

fn spelled(value: &Scalar) -> String {
    match value {
        Scalar::Bool(b) => b.to_string(),
        Scalar::Number(n) => n.to_string(),
        Scalar::Text(t) => t.clone(),
    }
}

/// The source of a path as it is typed; what is a URI already stays one.
fn uri(text: &str, here: &Path) -> String {
    if text.contains("://") {
        return text.to_owned();
    }
    source::of_path(&absolute(Path::new(text), here))
}

/// What the sources of everything under a path begin with. A folder's end with `/`, so that `a` does not mean `ab`.
fn uri_prefix(path: &Path, here: &Path) -> String {
    let absolute = absolute(path, here);
    let folder = absolute.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if folder { source::of_folder(&absolute) } else { source::of_path(&absolute) }
}

/// As intake resolves paths where the file is there, else by the text alone.
pub fn absolute(path: &Path, here: &Path) -> PathBuf {
    let joined = here.join(path);
    if let Ok(resolved) = std::fs::canonicalize(&joined) {
        return resolved;
    }
    // The file is gone; its folder may be there, and be reached through a link.
    let parent = joined.parent().and_then(|p| std::fs::canonicalize(p).ok());
    if let (Some(parent), Some(name)) = (parent, joined.file_name()) {
        return parent.join(name);
    }
    let mut plain = PathBuf::new();
    for part in joined.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(filters: &[&str], below: Option<&str>) -> String {
        let filters: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
        let filter = parse(&filters, below.map(Path::new), Path::new("/no/such")).unwrap();
        serde_json::to_string(&filter).unwrap()
    }

    #[test]
    fn paths_become_uris_and_several_conditions_must_all_hold() {
        assert_eq!(json(&[], None), "null");
        let table = [
            ("source=a b.pdf", r#"{"eq":{"field":"source","value":"file:///no/such/a%20b.pdf"}}"#),
            ("source=/x/../y.pdf", r#"{"eq":{"field":"source","value":"file:///y.pdf"}}"#),
            ("source^=reports/", r#"{"prefix":{"field":"source","prefix":"file:///no/such/reports/"}}"#),
            ("source^=reports/20", r#"{"prefix":{"field":"source","prefix":"file:///no/such/reports/20"}}"#),
            ("source=s3://b/k", r#"{"eq":{"field":"source","value":"s3://b/k"}}"#),
            ("language=eng,deu", r#"{"in":{"field":"language","values":["eng","deu"]}}"#),
            ("page>=2", r#"{"range":{"field":"page","gte":2.0}}"#),
            ("document=20250131", r#"{"eq":{"field":"document","value":"20250131"}}"#),
            ("metadata.year=2024", r#"{"eq":{"field":"metadata.year","value":2024.0}}"#),
            ("media_type=application/pdf", r#"{"eq":{"field":"metadata.media_type","value":"application/pdf"}}"#),
        ];
        for (text, expected) in table {
            assert_eq!(json(&[text], None), expected, "{text}");
        }
        let both = json(&["kind=table"], Some("reports/"));
        assert!(both.starts_with(r#"{"all":[{"eq""#) && both.contains("such/reports/"), "{both}");
    }

    #[test]
    fn errors_name_the_bad_part() {
        let table = [
            ("langage=eng", "`langage` is no field; did you mean `language`?"),
            ("colour=red", "`colour` is no field; fields are document, source"),
            ("page>=two", "`two` is no page number"),
            ("page^=2", "pages are compared by"),
            ("eng", "is no filter"),
        ];
        for (text, expected) in table {
            let failure = parse(&[text.to_owned()], None, Path::new("/")).unwrap_err();
            let line = &failure.lines[0];
            assert!(line.starts_with(&format!("--filter '{text}': ")) && line.contains(expected), "{line}");
        }
    }

    #[test]
    fn a_file_that_is_gone_is_found_under_its_folder_s_real_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(absolute(Path::new("link/gone.pdf"), &root), root.join("real/gone.pdf"));
        assert_eq!(uri_prefix(Path::new("real"), &root), format!("{}/", source::of_path(&root.join("real"))));
    }
}
