//! Means of the stores' tests: a small disk, and processes that can be killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A small disk of its own, for filling. Needs the right to mount.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, and a word about it, where mounting is not allowed.
    pub fn new(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mount.is_ok_and(|o| o.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("skipped: no right to mount a small disk");
        None
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn make_read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

const FOLDER: &str = "DOCWEIR_TEST_FOLDER";

/// Runs the test `name` of the module `module` (its `module_path!()`) of this very test program as a process of its
/// own, with a folder to work in. The test looks for it with [`folder_of_child`].
pub fn child(module: &str, name: &str, folder: &Path) -> Child {
    let (_crate, path) = module.split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{path}::{name}"), "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The folder that [`child`] was given; `None` in a common run of the tests, where there is nothing to do.
pub fn folder_of_child() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}
