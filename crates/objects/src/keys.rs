//! Which keys there are.

use super::ObjectError;

/// Longest key, as in S3, and longest part of a key: a file name less what a file system may need.
pub const MAX_KEY: usize = 1024;
const MAX_PART: usize = 200;

/// Parts of safe characters, none of which begins with a dot: no way out of a folder, none into `.tmp`. The same for
/// every store, so that what one holds can be moved to another.
pub fn check_key(key: &str) -> Result<(), ObjectError> {
    let part = |p: &str| {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"._-=+%".contains(&b);
        (1..=MAX_PART).contains(&p.len()) && !p.starts_with('.') && p.bytes().all(safe)
    };
    if key.len() <= MAX_KEY && key.split('/').all(part) { Ok(()) } else { Err(ObjectError::BadKey(key.to_owned())) }
}
