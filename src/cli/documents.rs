//! Finds a document by its id, by the path of its file, or by its source URI.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

use docweir_core::documents::DocumentId;
use docweir_stores::control::{ControlError, ControlRecord, ControlStore, RecordFilter};

use crate::exit::Failure;
use crate::intake::source;

/// Maximum number of control records per page.
const PAGE: usize = 1_000;

/// Returns the control record of the document that `name` identifies. `name` is an id, a path or a source URI.
pub async fn find(control: &dyn ControlStore, name: &OsStr, here: &Path) -> Result<ControlRecord, Failure> {
    if let Some(id) = name.to_str().and_then(DocumentId::parse) {
        match control.record(&id).await {
            Err(ControlError::NotFound(_)) => {}
            found => return Ok(found?),
        }
    }
    let uri = match name.to_str().filter(|n| n.contains("://")) {
        Some(uri) => uri.to_owned(),
        None => source::of_path(&source::absolute(Path::new(name), here)),
    };
    if let Some(record) = control.by_source(&uri).await? {
        return Ok(record);
    }
    let shown = super::output::printable(&name.to_string_lossy());
    Err(Failure::no(match here.join(name).is_file() {
        true => format!("`{shown}` is not in the index; run `docweir ingest {shown}` to add it"),
        false => {
            format!("document `{shown}` not found; pass an id or the path of a file (`docweir status --all` lists all)")
        }
    }))
}

/// Returns the common prefix of the sources below a folder or bucket prefix that `name` identifies. Returns `None` for an
/// empty name and for a URI without a bucket or path, because an unset variable of a script must not select everything.
pub fn folder(name: &OsStr, here: &Path) -> Option<String> {
    let text = name.to_string_lossy();
    let rest = text.split_once("://").map_or(text.as_ref(), |(_, rest)| rest);
    if rest.trim().is_empty() || (rest.len() < text.len() && rest.trim_matches('/').is_empty()) {
        return None;
    }
    Some(match name.to_str().filter(|n| n.contains("://")) {
        Some(uri) if uri.ends_with('/') => uri.to_owned(),
        Some(uri) => format!("{uri}/"),
        None => source::of_folder(&source::absolute(Path::new(name), here)),
    })
}

/// Returns all documents that a document contains, directly or through other documents.
pub async fn contained(control: &dyn ControlStore, record: &ControlRecord) -> Result<Vec<ControlRecord>, Failure> {
    let mut seen = HashSet::from([record.document_id.clone()]);
    let mut next: Vec<DocumentId> = record.children.clone();
    let mut found = Vec::new();
    while let Some(id) = next.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        match control.record(&id).await {
            Ok(child) => {
                next.extend(child.children.iter().cloned());
                found.push(child);
            }
            // The child is listed but not registered yet.
            Err(ControlError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Calls `each` with every record that matches the filter, one page at a time.
pub async fn each(
    control: &dyn ControlStore,
    filter: &RecordFilter,
    mut each: impl FnMut(ControlRecord),
) -> Result<(), Failure> {
    let mut after: Option<DocumentId> = None;
    loop {
        let page = control.list(filter, after.as_ref(), PAGE).await?;
        let full = page.len() == PAGE;
        after = page.last().map(|r| r.document_id.clone());
        page.into_iter().for_each(&mut each);
        if !full {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_content_selects_no_folder() {
        let table = [
            ("", None),
            (" ", None),
            ("s3://", None),
            ("s3:///", None),
            ("file://", None),
            ("file:///", None),
            ("s3://b", Some("s3://b/")),
            ("s3://b/in/", Some("s3://b/in/")),
            ("gone/deep", Some("file:///here/gone/deep/")),
            ("/no/such", Some("file:///no/such/")),
        ];
        for (name, expected) in table {
            assert_eq!(folder(OsStr::new(name), Path::new("/here")).as_deref(), expected, "{name}");
        }
    }
}
