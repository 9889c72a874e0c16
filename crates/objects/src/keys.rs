//! Defines which object keys are valid.

use super::ObjectError;

/// Maximum length of a key, in bytes. S3 has the same limit.
pub const MAX_KEY: usize = 1024;
/// Maximum length, in bytes, of one part of a key. Slashes separate the parts. A part is also a file name, and file
/// systems allow 255 bytes for a file name. The limit is lower than 255, so that suffixes can be appended to the file
/// name.
const MAX_PART: usize = 200;

/// Checks that every part of a key consists of safe characters and does not begin with a dot. A key that passes cannot
/// point outside the store's folder or into `.tmp`. Every store except the in-memory store applies this rule, so
/// objects can be moved between stores.
pub fn check_key(key: &str) -> Result<(), ObjectError> {
    let part = |p: &str| {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"._-=+%".contains(&b);
        (1..=MAX_PART).contains(&p.len()) && !p.starts_with('.') && p.bytes().all(safe)
    };
    if key.len() <= MAX_KEY && key.split('/').all(part) { Ok(()) } else { Err(ObjectError::BadKey(key.to_owned())) }
}
