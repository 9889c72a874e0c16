//! Selects the files to ingest from the given paths.
//!
//! If a path is a file, the file is always ingested, and its content determines its type. If a path is a folder, files
//! with a known extension or an `--include` match are ingested. Hidden entries and state folders are skipped. Symbolic
//! links are followed if they stay inside the folder and lead to something that the walk does not find by itself, such
//! as the hidden folders in which Kubernetes and git-annex keep files.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};

use futures_util::{Stream, stream};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use docweir_core::files::{has_hidden_part, is_name_of_hidden, resolve as resolve_links};
use docweir_core::ranges::out_of_range;
use docweir_stores::state::is_state_folder;

/// Number of entries that a walk reads before they are inspected.
const ENTRIES_AHEAD: usize = 256;

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
    /// Maximum share of a folder's documents that `ingest --prune` removes, in percent. If more files are gone, nothing is
    /// removed from that folder, because it may be incomplete or not mounted. Fewer than 10 documents are always removed,
    /// unless they are all of the folder. `--prune=force` removes any number.
    pub prune_percent: u64,
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
            prune_percent: 30,
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
        range("prune_percent", self.prune_percent, 0, 100);
        range("register_wait_milliseconds", self.register_wait_milliseconds, 0, 60_000);
        range("claim_batch", self.claim_batch as u64, 1, 1_000);
        range("poll_seconds", self.poll_seconds, 1, 3_600);
        found
    }
}

/// Describes a file that the walk found, a path that it could not read, or an entry that it left alone.
#[derive(Debug, PartialEq)]
pub enum WalkEntry {
    /// Absolute path of a regular file. Its last part may be a link to a hidden file ([`is_name_of_hidden`]).
    File(PathBuf),
    /// Path that could not be read, and the reason.
    Unreadable { path: PathBuf, reason: String },
    /// Entry that is not ingested. A folder counts as one entry.
    LeftAlone(Reason),
}

/// Names the reason why an entry of a folder is not ingested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The entry is a link that leads out of the folder, into an excluded folder, or nowhere.
    Link,
    Hidden,
    Excluded,
    /// The file's extension, in lower case, is not among those to ingest. Empty for a file without an extension.
    Extension(String),
    /// The file is larger than `intake.max_file_bytes`. Reported by intake, not by the walk.
    Size,
}

/// Iterates over the files under the given paths, folder by folder in order of name.
pub struct Walk {
    extensions: Vec<String>,
    include: GlobSet,
    exclude: GlobSet,
    waiting: VecDeque<Entry>,
    /// Resolved paths of the folders and files that links have led to, so that each is ingested once.
    followed: HashSet<PathBuf>,
}

enum Entry {
    Named(PathBuf),
    Folder(Folder),
}

/// Holds the remaining entries of a folder.
struct Folder {
    /// Resolved path of the folder that was given. Links are followed only inside it.
    scope: PathBuf,
    /// Resolved path of the folder itself. It differs from `scope` if a link led to it.
    root: PathBuf,
    entries: Box<walkdir::IntoIter>,
}

impl Folder {
    fn new(scope: PathBuf, root: PathBuf) -> Self {
        let entries = Box::new(walkdir::WalkDir::new(&root).sort_by_file_name().into_iter());
        Self { scope, root, entries }
    }
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
            waiting.push_back(match absolute.is_dir() {
                true => Entry::Folder(Folder::new(absolute.clone(), absolute)),
                false => Entry::Named(absolute),
            });
        }
        Ok(Self {
            extensions: options.extensions.iter().map(|e| e.to_lowercase()).collect(),
            include: glob_set(&options.include).map_err(WalkError::Glob)?,
            exclude: glob_set(&options.exclude).map_err(WalkError::Glob)?,
            waiting,
            followed: HashSet::new(),
        })
    }

    fn wanted(&self, below: &Path) -> bool {
        self.extensions.contains(&extension(below)) || self.include.is_match(below)
    }

    /// Returns what a link inside a folder leads to, or `None` if the walk finds it by itself or has found it.
    fn follow(&mut self, scope: &Path, link: &Path, below: &Path) -> Option<WalkEntry> {
        let left_alone = Some(WalkEntry::LeftAlone(Reason::Link));
        let Ok(target) = std::fs::canonicalize(link) else { return left_alone };
        let Ok(inside) = target.strip_prefix(scope) else { return left_alone };
        let (is_dir, inside) = (target.is_dir(), inside.to_owned());
        if !is_dir && !self.wanted(below) {
            return Some(WalkEntry::LeftAlone(Reason::Extension(extension(below))));
        }
        let folders = inside.ancestors().filter(|part| !part.as_os_str().is_empty());
        let mut folders = folders.map(|part| (self.exclude.is_match(part), scope.join(part)));
        if folders.any(|(excluded, path)| excluded || (path.is_dir() && is_state_folder(&path))) {
            return left_alone;
        }
        if is_dir {
            if has_hidden_part(&inside) && self.followed.insert(target.clone()) {
                self.waiting.push_back(Entry::Folder(Folder::new(scope.to_owned(), target)));
            }
            return None;
        }
        let found_anyway = !has_hidden_part(&inside) && self.wanted(&inside);
        if found_anyway || !target.is_file() || !self.followed.insert(target.clone()) {
            return None;
        }
        let keeps_its_name = is_name_of_hidden(link, &target);
        Some(WalkEntry::File(if keeps_its_name { link.to_owned() } else { target }))
    }
}

/// Returns the extension of a file in lower case, or an empty text.
pub fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

impl Iterator for Walk {
    type Item = WalkEntry;

    fn next(&mut self) -> Option<WalkEntry> {
        loop {
            let (scope, root, step) = match self.waiting.front_mut()? {
                Entry::Named(_) => match self.waiting.pop_front()? {
                    Entry::Named(path) => return Some(WalkEntry::File(path)),
                    Entry::Folder(_) => continue,
                },
                Entry::Folder(folder) => match folder.entries.next() {
                    None => {
                        self.waiting.pop_front();
                        continue;
                    }
                    Some(Err(e)) => {
                        let path = e.path().unwrap_or(&folder.root).to_owned();
                        let reason = e.into_io_error().map_or_else(|| "a loop of links".into(), |e| e.to_string());
                        return Some(WalkEntry::Unreadable { path, reason });
                    }
                    Some(Ok(entry)) => (folder.scope.clone(), folder.root.clone(), entry),
                },
            };
            let below = step.path().strip_prefix(&root).unwrap_or(step.path()).to_owned();
            let left_alone = match step.depth() {
                0 => None,
                _ if self.exclude.is_match(&below) => Some(Reason::Excluded),
                _ => is_hidden(&step).then_some(Reason::Hidden),
            };
            if step.file_type().is_dir() {
                let skipped = left_alone.is_some() || (step.depth() > 0 && is_state_folder(step.path()));
                if skipped && let Some(Entry::Folder(folder)) = self.waiting.front_mut() {
                    folder.entries.skip_current_dir();
                }
            }
            if let Some(reason) = left_alone {
                return Some(WalkEntry::LeftAlone(reason));
            }
            if step.path_is_symlink() && step.depth() > 0 {
                match self.follow(&scope, step.path(), &below) {
                    Some(found) => return Some(found),
                    None => continue,
                }
            }
            if !step.file_type().is_file() || self.followed.contains(step.path()) {
                continue;
            }
            return Some(match self.wanted(&below) {
                true => WalkEntry::File(step.into_path()),
                false => WalkEntry::LeftAlone(Reason::Extension(extension(&below))),
            });
        }
    }
}

/// Returns the entries of a walk as a stream. Folders are read on another thread, because a file system that hangs must
/// delay no actor. If the walk panics, the last entry is [`WalkEntry::Unreadable`]. Dropping the stream ends the walk.
pub fn on_another_thread(walk: impl Iterator<Item = WalkEntry> + Send + 'static) -> impl Stream<Item = WalkEntry> {
    let (sender, receiver) = mpsc::channel(ENTRIES_AHEAD);
    let walking = tokio::task::spawn_blocking(move || {
        for entry in walk {
            if sender.blocking_send(entry).is_err() {
                return;
            }
        }
    });
    stream::unfold((receiver, Some(walking)), |(mut receiver, mut walking)| async move {
        let entry = match receiver.recv().await {
            Some(entry) => entry,
            None => {
                let error = walking.take()?.await.err()?;
                WalkEntry::Unreadable { path: PathBuf::from("/"), reason: format!("the walk was interrupted: {error}") }
            }
        };
        Some((entry, (receiver, walking)))
    })
}

fn is_hidden(entry: &walkdir::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

/// Returns the absolute path, with `..` and symbolic links resolved ([`resolve_links`]). Two paths that lead to the same
/// file therefore give the same source.
pub fn resolve(path: &Path) -> Result<PathBuf, WalkError> {
    resolve_links(path).map_err(|e| match e.kind() {
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
    use futures_util::{FutureExt, StreamExt};
    use std::fs;

    fn names(paths: &[PathBuf], options: &IntakeOptions, root: &Path) -> Vec<String> {
        let root = fs::canonicalize(root).unwrap();
        Walk::new(paths, options)
            .unwrap()
            .filter_map(|found| match found {
                WalkEntry::File(path) => Some(path.strip_prefix(&root).unwrap().to_string_lossy().into_owned()),
                WalkEntry::LeftAlone(_) => None,
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
    fn what_is_left_alone_is_told_with_the_reason() {
        let dir = tree();
        let options = IntakeOptions { exclude: vec!["sub".into()], ..Default::default() };
        let reasons: Vec<Reason> = Walk::new(&[dir.path().into()], &options)
            .unwrap()
            .filter_map(|found| match found {
                WalkEntry::LeftAlone(reason) => Some(reason),
                _ => None,
            })
            .collect();
        let png = Reason::Extension("png".into());
        let expected = [Reason::Hidden, Reason::Hidden, png, Reason::Link, Reason::Link, Reason::Excluded];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn links_that_stay_inside_are_followed_to_what_is_not_found_otherwise() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "map/..2026_01/a.txt",
            "map/..2026_01/b.md",
            "map/..2026_01/c.png",
            "plain.txt",
            "notes.rst",
            "sub/d.txt",
            ".store/e.txt",
            ".store/deep/f.txt",
            "drafts/g.txt",
            "h/state/objects/i.txt",
        ];
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        fs::write(dir.path().join("h/state/format"), "docweir state 1\n").unwrap();
        let links = [
            ("map/..data", "..2026_01"),
            ("map/a.txt", "..data/a.txt"),
            ("map/b.md", "..data/b.md"),
            ("map/c.png", "..data/c.png"),
            ("again.txt", "plain.txt"),
            ("notes.txt", "notes.rst"),
            ("sub/to-hidden.txt", "../.store/e.txt"),
            ("deep.txt", ".store/deep/f.txt"),
            ("map/again.txt", "a.txt"),
            ("published", ".store/deep"),
            ("published-too", ".store/deep"),
            ("loop", "."),
            ("sub/up", ".."),
            ("draft.txt", "drafts/g.txt"),
            ("i.txt", "h/state/objects/i.txt"),
            ("dangling.txt", "nowhere.txt"),
        ];
        for (link, target) in links {
            symlink(target, dir.path().join(link)).unwrap();
        }
        let options = IntakeOptions { exclude: vec!["drafts".into()], ..Default::default() };
        let mut all = names(&[dir.path().into()], &options, dir.path());
        all.sort();
        let expected = [".store/e.txt", "deep.txt", "map/a.txt", "map/b.md", "notes.rst", "plain.txt", "sub/d.txt"];
        assert_eq!(all, expected);
        for file in Walk::new(&[dir.path().into()], &options).unwrap() {
            if let WalkEntry::File(path) = file {
                docweir_core::files::open_resolved(&path).unwrap();
            }
        }
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

    #[tokio::test]
    async fn a_folder_that_hangs_delays_no_other_task() {
        let (release, released) = std::sync::mpsc::channel();
        let hanging = std::iter::once_with(move || {
            released.recv_timeout(std::time::Duration::from_secs(60)).expect("the walk holds the thread of the test");
            WalkEntry::File("/a".into())
        });
        let mut entries = std::pin::pin!(on_another_thread(hanging));
        assert!(entries.next().now_or_never().is_none());
        release.send(()).unwrap();
        assert_eq!(entries.next().await, Some(WalkEntry::File("/a".into())));
        assert_eq!(entries.next().await, None);
    }

    #[tokio::test]
    async fn a_walk_that_panics_is_never_taken_for_complete() {
        let panics = (0..2).map(|n| if n == 0 { WalkEntry::File("/a".into()) } else { panic!("the walk panics") });
        let entries: Vec<WalkEntry> = on_another_thread(panics).collect().await;
        assert!(matches!(&entries[..], [WalkEntry::File(_), WalkEntry::Unreadable { .. }]), "{entries:?}");
    }

    #[tokio::test]
    async fn a_walk_ends_when_nobody_reads_it() {
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let endless = std::iter::repeat_with(move || {
            let _held = &ended;
            WalkEntry::LeftAlone(Reason::Hidden)
        });
        drop(on_another_thread(endless));
        // The sender is dropped together with the walk.
        end.await.unwrap_err();
    }
}
