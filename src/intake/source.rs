//! Converts between paths and source URIs such as `file:///papers/a%20b.pdf`.
//!
//! Every path can be converted to a URI, because all bytes other than unreserved characters are percent-encoded. A
//! file name that is not UTF-8 is therefore kept exactly in the control store, in JSON and on the terminal.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use docweir_core::display::printable_line;
use docweir_core::files::resolve;
use docweir_core::member::split_member;

const SCHEME: &str = "file://";

/// Returns the URI of an absolute path.
pub fn of_path(path: &Path) -> String {
    let mut uri = String::from(SCHEME);
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}

/// Returns the common prefix of the URIs of all files in a folder.
pub fn of_folder(path: &Path) -> String {
    let mut uri = of_path(path);
    if !uri.ends_with('/') {
        uri.push('/');
    }
    uri
}

/// Returns the path of a `file://` URI. Returns `None` if the URI has another scheme, is not encoded correctly, or
/// names a member of a file (`docweir_core::member`). A `#` in a URI always starts the name of a member, because
/// [`of_path`] encodes each `#` in a file name.
pub fn to_path(uri: &str) -> Option<PathBuf> {
    if uri.contains('#') {
        return None;
    }
    let mut bytes = Vec::new();
    let mut rest = uri.strip_prefix(SCHEME)?.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| char::from(b?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

/// Returns the bucket and key of an `s3://` URI. Keys are not encoded.
pub fn to_object(uri: &str) -> Option<(&str, &str)> {
    let (bucket, key) = uri.strip_prefix("s3://")?.split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then_some((bucket, key))
}

/// Returns the name of the file, object or member that a source URI names, or `None` if the URI has no such name.
pub fn file_name(uri: &str) -> Option<String> {
    if let Some((_, member)) = split_member(uri) {
        return member.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
    }
    match to_path(uri) {
        Some(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
        None => to_object(uri)?.1.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned),
    }
}

/// Returns a source in readable form. A path is shown without a scheme. A path below `here` is shown relative to
/// `here`. The name of a member follows the document that contains the member. Control characters are replaced.
pub fn display(uri: &str, here: &Path) -> String {
    if let Some((container, member)) = split_member(uri) {
        return format!("{} > {}", display(container, here), printable_line(&member));
    }
    match to_path(uri) {
        Some(path) => printable_line(&path.strip_prefix(here).unwrap_or(&path).to_string_lossy()),
        None => printable_line(uri),
    }
}

/// Returns the absolute form of a path. A relative path is resolved against `here`. Symbolic links are resolved
/// ([`resolve`]) as far as the path exists.
pub fn absolute(path: &Path, here: &Path) -> PathBuf {
    let joined = here.join(path);
    if let Ok(resolved) = resolve(&joined) {
        return resolved;
    }
    // The file does not exist, but one of its folders may exist behind a link.
    for folder in joined.ancestors().skip(1) {
        if let (Ok(resolved), Ok(rest)) = (std::fs::canonicalize(folder), joined.strip_prefix(folder)) {
            return without_dots(&resolved.join(rest));
        }
    }
    without_dots(&joined)
}

/// Removes `.` and `..` from a path, without a look at the file system.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
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
    use docweir_core::member::member_source;
    use proptest::prelude::*;

    #[test]
    fn a_uri_is_plain_ascii_and_readable() {
        assert_eq!(of_path(Path::new("/a b/ü.pdf")), "file:///a%20b/%C3%BC.pdf");
        assert_eq!(of_folder(Path::new("/papers")), "file:///papers/");
        assert_eq!(display("file:///home/me/a%20b.pdf", Path::new("/home/me")), "a b.pdf");
        assert_eq!(display("file:///x/%1B%5B2J.pdf", Path::new("/")), "x/\u{fffd}[2J.pdf");
        assert_eq!(to_path("s3://bucket/key"), None);
        assert_eq!(to_object("s3://bucket/a b/c%.pdf"), Some(("bucket", "a b/c%.pdf")));
        assert_eq!((to_object("s3://bucket/"), to_object("file:///a")), (None, None));
        assert_eq!(file_name("s3://bucket/a b/c%.pdf").as_deref(), Some("c%.pdf"));
        assert_eq!(file_name("file:///a%20b/c%20d.pdf").as_deref(), Some("c d.pdf"));
        assert_eq!(to_path("file:///a%2"), None);
    }

    #[test]
    fn a_number_sign_in_a_name_is_encoded_and_one_in_a_uri_begins_a_member() {
        let uri = of_path(Path::new("/a#member=b.pdf"));
        assert_eq!(uri, "file:///a%23member%3Db.pdf");
        assert_eq!(to_path(&uri).as_deref(), Some(Path::new("/a#member=b.pdf")));
        assert_eq!(split_member(&uri), None);
        let member = member_source("file:///mail/a.eml", "x/b c.pdf").unwrap();
        assert_eq!((to_path(&member), file_name(&member).as_deref()), (None, Some("b c.pdf")));
        assert_eq!(display(&member, Path::new("/mail")), "a.eml > x/b c.pdf");
        let member = member_source("s3://b/a.eml", "\u{1b}[2J.pdf").unwrap();
        assert_eq!(display(&member, Path::new("/")), "s3://b/a.eml > \u{fffd}[2J.pdf");
    }

    #[test]
    fn a_file_that_is_gone_is_found_under_its_folder_s_real_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(absolute(Path::new("link/gone.pdf"), &root), root.join("real/gone.pdf"));
        assert_eq!(absolute(Path::new("link/no/../a/gone.pdf"), &root), root.join("real/a/gone.pdf"));
        assert_eq!(absolute(Path::new("../no/such"), &root), root.parent().unwrap().join("no/such"));
    }

    proptest! {
        #[test]
        fn every_path_comes_back(bytes in proptest::collection::vec(1u8.., 0..40)) {
            let path = PathBuf::from(OsString::from_vec([b"/".as_slice(), &bytes].concat()));
            prop_assert_eq!(to_path(&of_path(&path)).map(|p| p.into_os_string()), Some(path.into_os_string()));
        }
    }
}
