//! Keys in order, out of a tree of folders.

use std::io;
use std::path::Path;

use super::super::ObjectMeta;
use super::super::keys::check_key;
use super::modified;

/// Keys that begin with `prefix`, after `after`, at most `limit`, in the order of their bytes.
///
/// That is a walk of the tree in order of names, if a folder's name is taken with its slash (`a-b` comes before `a/b`).
/// Folders that can hold nothing wanted are not opened; one folder's names are in memory at a time, and its ancestors'.
pub fn list(root: &Path, prefix: &str, after: Option<&str>, limit: usize) -> io::Result<Vec<ObjectMeta>> {
    let mut found = Vec::new();
    if limit > 0 {
        walk(root, "", &Wanted { prefix, after, limit }, &mut found)?;
    }
    Ok(found)
}

struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

impl Wanted<'_> {
    /// Whether a key that begins with `folder` (which ends in a slash) can be wanted.
    fn may_hold(&self, folder: &str) -> bool {
        let in_prefix = folder.starts_with(self.prefix) || self.prefix.starts_with(folder);
        in_prefix && self.after.is_none_or(|after| folder > after || after.starts_with(folder))
    }

    fn wants(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
    }
}

/// `at` is the folder's key with its slash, empty for the root.
fn walk(root: &Path, at: &str, wanted: &Wanted<'_>, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
    let entries = match std::fs::read_dir(root.join(at)) {
        Ok(entries) => entries,
        // Removed since its parent was read.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut keys = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let key = format!("{at}{name}");
        // What no put can have written is not ours: temporary files, locks, strays.
        if check_key(&key).is_err() {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            keys.push(key + "/");
        } else if kind.is_file() && wanted.wants(&key) {
            keys.push(key);
        }
    }
    keys.sort_unstable();
    for key in keys {
        if found.len() >= wanted.limit {
            break;
        }
        if key.ends_with('/') {
            if wanted.may_hold(&key) {
                walk(root, &key, wanted, found)?;
            }
            continue;
        }
        match std::fs::symlink_metadata(root.join(&key)) {
            Ok(m) => found.push(ObjectMeta { bytes: m.len(), modified: modified(&m), key }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
