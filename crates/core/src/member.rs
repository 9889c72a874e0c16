//! Names documents within documents: attachments of an e-mail or a PDF, members of a portfolio.
//!
//! The source of a member consists of the source of its container, `#member=`, and the percent-encoded name of the
//! member, such as `file:///mail/a.eml#member=invoices/2026%20%231.pdf`. The source of a member within a member has
//! two such fragments. The name is not a path on this machine and is never used to open a file.
//!
//! In a `file://` URI, a `#` in the file name is encoded as `%23`, so a plain `#` always begins a member. An `s3://`
//! URI contains the object key without encoding, so a plain `#` may also belong to the key. The field `parent` of a
//! document's record therefore states whether the document is a member. The source of a member is split at the last
//! [`MARK`], because an encoded name cannot contain [`MARK`].

use std::fmt::Write;

/// Separator between a container's source and a member's name.
pub const MARK: &str = "#member=";

/// Maximum length of the encoded name of a member, in bytes.
pub const MAX_NAME_BYTES: usize = 1_024;

/// Maximum length of the source of a member, in bytes. This also limits how deeply members can be nested.
pub const MAX_SOURCE_BYTES: usize = 4_096;

/// Explains why a member cannot be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberError {
    Unnamed,
    NameTooLong { bytes: usize },
    SourceTooLong { bytes: usize },
}

impl std::fmt::Display for MemberError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unnamed => f.write_str("a member has no name"),
            Self::NameTooLong { bytes } => {
                write!(f, "a member's encoded name has {bytes} bytes, more than {MAX_NAME_BYTES}")
            }
            Self::SourceTooLong { bytes } => {
                write!(
                    f,
                    "a member's source has {bytes} bytes, more than {MAX_SOURCE_BYTES}: the member is nested too deeply"
                )
            }
        }
    }
}

impl std::error::Error for MemberError {}

/// Returns the source of the member `name` in the document `container`. The caller must make names unique within a
/// container.
///
/// # Errors
/// Fails if the name is empty, or if the name or the source is too long.
pub fn member_source(container: &str, name: &str) -> Result<String, MemberError> {
    if name.is_empty() {
        return Err(MemberError::Unnamed);
    }
    let mut encoded = String::with_capacity(name.len());
    for &byte in name.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    if encoded.len() > MAX_NAME_BYTES {
        return Err(MemberError::NameTooLong { bytes: encoded.len() });
    }
    let source = format!("{container}{MARK}{encoded}");
    if source.len() > MAX_SOURCE_BYTES {
        return Err(MemberError::SourceTooLong { bytes: source.len() });
    }
    Ok(source)
}

/// Splits the source of a member into the source of its container and the name of the member. Returns `None` for a
/// source that [`member_source`] cannot return.
pub fn split_member(source: &str) -> Option<(&str, String)> {
    let (container, encoded) = source.rsplit_once(MARK)?;
    let mut name = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                name.push(u8::try_from(high * 16 + low).ok()?);
            }
            byte => name.push(byte),
        }
    }
    let name = String::from_utf8(name).ok()?;
    // Each name has exactly one encoding, so a differently encoded source is not a member.
    (member_source(container, &name).as_deref() == Ok(source)).then_some((container, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_named_after_its_container_and_comes_back() {
        let table = [
            ("file:///a.eml", "report.pdf", "file:///a.eml#member=report.pdf"),
            ("file:///a.eml", "x/2026 #1.pdf", "file:///a.eml#member=x/2026%20%231.pdf"),
            ("file:///a%23b.eml", "ü%2F\n", "file:///a%23b.eml#member=%C3%BC%252F%0A"),
            ("s3://bucket/a#b.eml", "c.pdf", "s3://bucket/a#b.eml#member=c.pdf"),
            ("s3://bucket/a", "#member=b", "s3://bucket/a#member=%23member%3Db"),
            ("file:///a.eml#member=b.eml", "c.pdf", "file:///a.eml#member=b.eml#member=c.pdf"),
            ("file:///a.zip", "../../etc/passwd", "file:///a.zip#member=../../etc/passwd"),
        ];
        for (container, name, expected) in table {
            let source = member_source(container, name).unwrap();
            assert_eq!(source, expected);
            assert_eq!(split_member(&source), Some((container, name.to_owned())), "{source}");
        }
    }

    #[test]
    fn what_names_no_member_is_told_apart() {
        let others =
            ["file:///a.pdf", "s3://b/a#c.pdf", "file:///a#member=", "file:///a#member=%2", "file:///a#member=%41"];
        for other in others {
            assert_eq!(split_member(other), None, "{other}");
        }
        assert_eq!(split_member("file:///a#member=a b"), None, "a name that is not encoded");
    }

    #[test]
    fn names_and_depth_are_limited() {
        let longest = "x".repeat(MAX_NAME_BYTES);
        assert!(member_source("file:///a", &longest).is_ok());
        assert_eq!(member_source("file:///a", &format!("{longest}x")), Err(MemberError::NameTooLong { bytes: 1_025 }));
        assert_eq!(member_source("file:///a", &" ".repeat(342)), Err(MemberError::NameTooLong { bytes: 1_026 }));
        assert_eq!(member_source("file:///a", ""), Err(MemberError::Unnamed));
        let mut source = "file:///a".to_owned();
        for _ in 0..3 {
            source = member_source(&source, &longest).unwrap();
        }
        assert!(matches!(member_source(&source, &longest), Err(MemberError::SourceTooLong { .. })));
    }
}
