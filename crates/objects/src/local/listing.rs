//! Lists the keys in a tree of folders, in order.

use std::io;
use std::path::Path;

use super::super::ObjectMeta;
use super::super::keys::check_key;
use super::modified;

/// Returns at most `limit` keys that begin with `prefix` and sort after `after`, in byte order.
///
/// The tree is walked in the order of the keys. A folder is sorted by its name with a trailing slash, so `a-b` comes
/// before `a/b`. The walk begins in the deepest folder that `prefix` names, so that its cost does not depend on the number
/// of keys outside this folder. Below it, folders that cannot contain a matching key are not opened. Only the names in
/// the current folder and in its ancestors are held in memory.
pub fn list(root: &Path, prefix: &str, after: Option<&str>, limit: usize) -> io::Result<Vec<ObjectMeta>> {
    let mut found = Vec::new();
    let folder = prefix.rfind('/').map_or("", |end| prefix.get(..=end).unwrap_or_default());
    // A folder whose name no put can have written contains no keys.
    if limit > 0 && (folder.is_empty() || check_key(folder.trim_end_matches('/')).is_ok()) {
        walk(root, folder, &Wanted { prefix, after, limit }, &mut found)?;
    }
    Ok(found)
}

struct Wanted<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

impl Wanted<'_> {
    /// Returns whether `folder`, which ends with a slash, can contain a matching key.
    fn may_hold(&self, folder: &str) -> bool {
        let in_prefix = folder.starts_with(self.prefix) || self.prefix.starts_with(folder);
        in_prefix && self.after.is_none_or(|after| folder > after || after.starts_with(folder))
    }

    fn wants(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && self.after.is_none_or(|after| key > after)
    }
}

/// Adds the matching keys in the folder `at` to `found`. `at` ends with a slash; the root is the empty string.
fn walk(root: &Path, at: &str, wanted: &Wanted<'_>, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
    let entries = match std::fs::read_dir(root.join(at)) {
        Ok(entries) => entries,
        // The folder was removed after its parent was read, or the prefix names no folder.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut keys = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let key = format!("{at}{name}");
        // Skip files that no put can have written: temporary files, locks, foreign files.
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
