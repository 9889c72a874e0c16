//! Defines which object keys are valid.

use super::ObjectError;

/// Longest key, in bytes, as in S3.
pub const MAX_KEY: usize = 1024;
/// Longest part of a key, in bytes. File systems allow 255; the rest is reserved for suffixes.
const MAX_PART: usize = 200;

/// Checks that a key consists of parts of safe characters, none of which begins with a dot. Such a key cannot leave
/// its folder or point into `.tmp`. The rule is the same for every store, so objects can be moved between stores.
pub fn check_key(key: &str) -> Result<(), ObjectError> {
    let part = |p: &str| {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"._-=+%".contains(&b);
        (1..=MAX_PART).contains(&p.len()) && !p.starts_with('.') && p.bytes().all(safe)
    };
    if key.len() <= MAX_KEY && key.split('/').all(part) { Ok(()) } else { Err(ObjectError::BadKey(key.to_owned())) }
}
