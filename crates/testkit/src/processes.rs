//! Provides a small disk and killable processes for the tests of the stores.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Mounts a small separate disk that a test can fill. Mounting requires privileges.
pub struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts a disk with a size of `bytes`. If mounting is not permitted, prints a message and returns `None`.
    pub fn new(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mount.is_ok_and(|o| o.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("skipped: mounting a small disk is not permitted");
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

/// Runs a test of the current test program in a child process. `module` is the `module_path!()` of the test, and
/// `name` is the name of its function. The test gets the working folder from [`folder_of_child`].
pub fn child(module: &str, name: &str, folder: &Path) -> Child {
    let (_crate, path) = module.split_once("::").unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{path}::{name}"), "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns the working folder that [`child`] passed to this process. Returns `None` in an ordinary test run; the test
/// then has nothing to do.
pub fn folder_of_child() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}
