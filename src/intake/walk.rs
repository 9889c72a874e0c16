//! Selects the files to ingest from the given paths.
//!
//! If a path is a file, the file is always ingested, and its content determines its type. If a path is a folder, files
//! with a known extension or an `--include` match are ingested. Hidden entries, state folders and symbolic links in a
//! folder are skipped.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use docweir_core::ranges::out_of_range;
use docweir_stores::state::is_state_folder;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IntakeOptions {
    /// Extensions of the files that are ingested from folders, without the dot; case is ignored.
    pub extensions: Vec<String>,
    /// Globs for further files to ingest from folders. A glob is matched against the path of a file within the folder.
    pub include: Vec<String>,
    /// Globs for files and folders to skip. A file that also matches `include` is skipped. A glob is matched against
    /// the path within the given folder.
    pub exclude: Vec<String>,
    /// Maximum size of a file, in bytes. Larger files are refused and reported.
    pub max_file_bytes: u64,
    /// Maximum number of files that are registered in one write. A larger number saves writes but delays the first
    /// files.
    pub register_batch: usize,
    /// Maximum time, in milliseconds, that a file waits for other files, so that all are registered in one write. A
    /// longer wait saves writes but delays the first documents.
    pub register_wait_milliseconds: u64,
    /// Maximum number of times that one run accepts a change of a file between the registration and the reading of
    /// the file. A file that changes more often is quarantined.
    pub max_changes: u32,
    /// Maximum number of documents that are claimed in one call. A larger number saves calls but leaves fewer documents
    /// for other processes.
    pub claim_batch: usize,
    /// Interval at which a run polls the control store, in seconds. Polling finds the documents that other processes
    /// have marked for processing again or for deletion.
    pub poll_seconds: u64,
    /// Maximum number of files that are hashed at the same time.
    #[serde(skip)]
    pub hashers: usize,
}

impl Default for IntakeOptions {
    fn default() -> Self {
        Self {
            extensions: ["pdf", "md", "markdown", "txt", "text"].map(String::from).to_vec(),
            include: Vec::new(),
            exclude: Vec::new(),
            max_file_bytes: 1 << 30,
            register_batch: 256,
            register_wait_milliseconds: 100,
            max_changes: 5,
            claim_batch: 10,
            poll_seconds: 30,
            hashers: 2,
        }
    }
}

impl IntakeOptions {
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for (field, globs) in [("include", &self.include), ("exclude", &self.exclude)] {
            if let Err(e) = glob_set(globs) {
                found.push((field, format!("contains an invalid glob: {e}")));
            }
        }
        let mut range = |field, value: u64, low, high| found.extend(out_of_range(field, value, low, high));
        range("max_file_bytes", self.max_file_bytes, 1, 1 << 40);
        range("register_batch", self.register_batch as u64, 1, 10_000);
        range("max_changes", u64::from(self.max_changes), 0, 1_000);
        range("register_wait_milliseconds", self.register_wait_milliseconds, 0, 60_000);
        range("claim_batch", self.claim_batch as u64, 1, 1_000);
        range("poll_seconds", self.poll_seconds, 1, 3_600);
        found
    }
}

/// Describes a file that the walk found, or a path that the walk could not read.
#[derive(Debug, PartialEq)]
pub enum WalkEntry {
    /// Absolute path of a regular file.
    File(PathBuf),
    /// Path that could not be read, and the reason.
    Unreadable { path: PathBuf, reason: String },
}

/// Iterates over the files under the given paths, folder by folder in order of name.
pub struct Walk {
    extensions: Vec<String>,
    include: GlobSet,
    exclude: GlobSet,
    waiting: VecDeque<Entry>,
}

enum Entry {
    Named(PathBuf),
    /// Remaining entries of a folder, and the resolved path of the folder.
    Folder {
        root: PathBuf,
        entries: Box<walkdir::IntoIter>,
    },
}

/// Describes why a walk cannot start. Either a given path does not exist or cannot be read, or a glob is invalid.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error("no such file or folder: {}", .0.display())]
    Missing(PathBuf),
    #[error("cannot read {}: {reason}", .path.display())]
    Unreadable { path: PathBuf, reason: std::io::Error },
    #[error("invalid glob: {0}")]
    Glob(globset::Error),
}

impl Walk {
    /// Creates the walk. All given paths are checked before any file is read. Returns an error if one of the given
    /// paths does not exist.
    pub fn new(paths: &[PathBuf], options: &IntakeOptions) -> Result<Self, WalkError> {
        let mut waiting = VecDeque::new();
        for path in paths {
            let absolute = resolve(path)?;
            if absolute.is_dir() {
                let entries = walkdir::WalkDir::new(&absolute).sort_by_file_name().into_iter();
                waiting.push_back(Entry::Folder { root: absolute, entries: Box::new(entries) });
            } else {
                waiting.push_back(Entry::Named(absolute));
            }
        }
        Ok(Self {
            extensions: options.extensions.iter().map(|e| e.to_lowercase()).collect(),
            include: glob_set(&options.include).map_err(WalkError::Glob)?,
            exclude: glob_set(&options.exclude).map_err(WalkError::Glob)?,
            waiting,
        })
    }

    fn wanted(&self, below: &Path) -> bool {
        let extension = below.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| self.extensions.contains(&e)) || self.include.is_match(below)
    }
}

impl Iterator for Walk {
    type Item = WalkEntry;

    fn next(&mut self) -> Option<WalkEntry> {
        loop {
            let (root, step) = match self.waiting.front_mut()? {
                Entry::Named(_) => match self.waiting.pop_front()? {
                    Entry::Named(path) => return Some(WalkEntry::File(path)),
                    Entry::Folder { .. } => continue,
                },
                Entry::Folder { root, entries } => match entries.next() {
                    None => {
                        self.waiting.pop_front();
                        continue;
                    }
                    Some(Err(e)) => {
                        let path = e.path().unwrap_or(root).to_owned();
                        let reason = e.into_io_error().map_or_else(|| "a loop of links".into(), |e| e.to_string());
                        return Some(WalkEntry::Unreadable { path, reason });
                    }
                    Some(Ok(entry)) => (root.clone(), entry),
                },
            };
            let below = step.path().strip_prefix(&root).unwrap_or(step.path()).to_owned();
            let left_alone = step.depth() > 0 && (is_hidden(&step) || self.exclude.is_match(&below));
            if step.file_type().is_dir() {
                let skipped = left_alone || (step.depth() > 0 && is_state_folder(step.path()));
                if skipped && let Some(Entry::Folder { entries, .. }) = self.waiting.front_mut() {
                    entries.skip_current_dir();
                }
                continue;
            }
            if left_alone || !self.wanted(&below) {
                continue;
            }
            if step.path_is_symlink() {
                // A link to a file inside the folder would ingest that file twice; a link that leads out of the
                // folder is outside its scope.
                continue;
            }
            if step.file_type().is_file() {
                return Some(WalkEntry::File(step.into_path()));
            }
        }
    }
}

fn is_hidden(entry: &walkdir::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

/// Returns the absolute path, with symbolic links and `..` resolved. Two paths that lead to the same file therefore
/// give the same source.
pub fn resolve(path: &Path) -> Result<PathBuf, WalkError> {
    std::fs::canonicalize(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => WalkError::Missing(path.to_owned()),
        _ => WalkError::Unreadable { path: path.to_owned(), reason: e },
    })
}

fn glob_set(globs: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        // `*.log` matches at any depth, as in other tools; `drafts/*` matches in that folder only.
        let anywhere = if glob.contains('/') { glob.clone() } else { format!("**/{glob}") };
        set.add(GlobBuilder::new(&anywhere).literal_separator(true).build()?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn names(paths: &[PathBuf], options: &IntakeOptions, root: &Path) -> Vec<String> {
        let root = fs::canonicalize(root).unwrap();
        Walk::new(paths, options)
            .unwrap()
            .map(|found| match found {
                WalkEntry::File(path) => path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "b.pdf",
            "a.PDF",
            "notes.md",
            "image.png",
            ".hidden.pdf",
            ".git/x.txt",
            "sub/c.txt",
            "sub/deep/d.log",
            "state/format",
            "state/objects/e.pdf",
            "format/f.txt",
        ];
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::write(dir.path().join("state/format"), "docweir state 1\n").unwrap();
        let outside = tempfile::NamedTempFile::with_suffix(".pdf").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link.pdf")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        dir
    }

    #[test]
    fn a_folder_gives_known_extensions_and_leaves_hidden_state_and_links_alone() {
        let dir = tree();
        let all = names(&[dir.path().into()], &IntakeOptions::default(), dir.path());
        assert_eq!(all, ["a.PDF", "b.pdf", "format/f.txt", "notes.md", "sub/c.txt"]);
    }

    #[test]
    fn globs_add_and_take_away() {
        let dir = tree();
        let options = IntakeOptions {
            include: vec!["*.log".into()],
            exclude: vec!["sub/*.txt".into(), "b.*".into(), "format".into()],
            ..Default::default()
        };
        assert_eq!(names(&[dir.path().into()], &options, dir.path()), ["a.PDF", "notes.md", "sub/deep/d.log"]);
    }

    #[test]
    fn a_named_file_is_taken_whatever_it_is_called() {
        let dir = tree();
        let named = [dir.path().join("image.png"), dir.path().join(".hidden.pdf")];
        assert_eq!(names(&named, &IntakeOptions::default(), dir.path()), ["image.png", ".hidden.pdf"]);
    }

    #[test]
    fn a_missing_path_is_refused_before_anything_is_done() {
        let error = Walk::new(&["/no/such/folder".into()], &IntakeOptions::default()).err().unwrap();
        assert_eq!(error.to_string(), "no such file or folder: /no/such/folder");
    }
}
