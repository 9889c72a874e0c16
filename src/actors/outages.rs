//! Tracks outages: times in which a store or a service of Docweir does not answer. Work waits meanwhile, and no document
//! is blamed.
//!
//! An outage is announced when it has lasted for some seconds. It is over as soon as a job succeeds. A file in the state
//! folder names the outage to other commands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use docweir_core::clock::{SharedClock, UnixMicros};
use docweir_core::error::StageError;
use serde::{Deserialize, Serialize};

use crate::actors::outcomes::Claims;
use crate::messages::event::{Event, EventSink};

/// Duration from which an outage is announced, in microseconds. Shorter interruptions are normal.
const ANNOUNCED_AFTER: UnixMicros = 5_000_000;
/// Name of the control store in the list of outages.
const CONTROL_STORE: &str = "control store";
/// Name of the file in the state folder.
const FILE: &str = "outage.json";

/// Describes an outage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// What does not answer, such as `object store`.
    pub what: String,
    /// Message of the last failed call.
    pub cause: String,
    /// Time of the first failed call, in Unix microseconds.
    pub since: UnixMicros,
    /// Number of documents that wait.
    pub waiting: usize,
}

/// Holds the content of the file in the state folder.
#[derive(Serialize, Deserialize)]
struct Page {
    process: u32,
    outages: Vec<Outage>,
}

/// Tracks the outages that this process sees.
pub struct Outages {
    current: Mutex<BTreeMap<String, Entry>>,
    claims: Arc<Claims>,
    events: Arc<dyn EventSink>,
    clock: SharedClock,
    /// State folder of this machine.
    folder: PathBuf,
}

struct Entry {
    outage: Outage,
    announced: bool,
}

impl Outages {
    pub fn new(claims: Arc<Claims>, events: Arc<dyn EventSink>, clock: SharedClock, folder: PathBuf) -> Self {
        Self { current: Mutex::default(), claims, events, clock, folder }
    }

    /// Records a call that failed because a store or service is unavailable.
    pub fn report(&self, error: &StageError) {
        let (now, waiting) = (self.clock.now(), self.claims.len());
        // The code of an error of a store is the name of the store.
        let what = error.code.replace('_', " ");
        let mut current = self.lock();
        let entry = current.entry(what.clone()).or_insert_with(|| Entry {
            outage: Outage { what, cause: String::new(), since: now, waiting },
            announced: false,
        });
        (entry.outage.cause, entry.outage.waiting) = (error.to_string(), waiting);
        if !entry.announced && now - entry.outage.since >= ANNOUNCED_AFTER {
            entry.announced = true;
            let text = format!("{}; work waits until it is available again", entry.outage.line());
            tracing::warn!(what = entry.outage.what, cause = entry.outage.cause, "outage");
            self.events.emit(Event::Notice { text });
        }
        if entry.announced {
            self.publish(&current);
        }
    }

    /// Records that all stores and services work.
    pub fn over(&self) {
        self.end(|_| true);
    }

    /// Records that the control store works.
    pub fn control_store_works(&self) {
        self.end(|what| what == CONTROL_STORE);
    }

    fn end(&self, ends: impl Fn(&str) -> bool) {
        let mut current = self.lock();
        let ended: BTreeMap<String, Entry> = current.extract_if(.., |what, _| ends(what)).collect();
        let announced = || ended.values().filter(|entry| entry.announced);
        if announced().next().is_none() {
            return;
        }
        self.publish(&current);
        for entry in announced() {
            let seconds = (self.clock.now() - entry.outage.since) / 1_000_000;
            tracing::info!(what = entry.outage.what, seconds, "outage is over");
            self.events
                .emit(Event::Notice { text: format!("{} available again after {seconds} s", entry.outage.what) });
        }
    }

    /// Returns the announced outages.
    pub fn list(&self) -> Vec<Outage> {
        self.lock().values().filter(|entry| entry.announced).map(|entry| entry.outage.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file, or removes it if there is no outage. A failure is ignored, because the file is information only,
    /// and the disk may be the cause of the outage.
    fn publish(&self, current: &BTreeMap<String, Entry>) {
        let path = self.folder.join(FILE);
        let outages: Vec<Outage> =
            current.values().filter(|entry| entry.announced).map(|entry| entry.outage.clone()).collect();
        if outages.is_empty() {
            let _ = std::fs::remove_file(path);
            return;
        }
        let page = Page { process: std::process::id(), outages };
        let part = self.folder.join(format!("{FILE}.{}", page.process));
        let written = std::fs::write(&part, serde_json::to_vec(&page).unwrap_or_default());
        let _ = written.and_then(|()| std::fs::rename(&part, path));
    }
}

impl Drop for Outages {
    fn drop(&mut self) {
        if !self.list().is_empty() {
            self.publish(&BTreeMap::new());
        }
    }
}

impl Outage {
    /// Returns a line for people: what is unavailable, and why.
    pub fn line(&self) -> String {
        format!("{} unavailable: {}", self.what, self.cause)
    }
}

/// Reads the outages that a running process sees. Returns an empty list if no process runs.
pub fn published(folder: &std::path::Path) -> Vec<Outage> {
    const MAX_BYTES: u64 = 1 << 20;
    let read = docweir_core::files::open_regular(&folder.join(FILE))
        .and_then(|file| std::io::read_to_string(std::io::Read::take(file, MAX_BYTES)));
    let page = read.ok().and_then(|text| serde_json::from_str::<Page>(&text).ok());
    let runs = |page: &Page| {
        let process = i32::try_from(page.process).ok().and_then(rustix::process::Pid::from_raw);
        process.is_some_and(|id| rustix::process::test_kill_process(id).is_ok())
    };
    page.filter(runs).map(|page| page.outages).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use docweir_core::clock::ManualClock;

    #[derive(Default)]
    struct Notices(Mutex<Vec<String>>);

    impl EventSink for Notices {
        fn emit(&self, event: Event) {
            if let Event::Notice { text } = event {
                self.0.lock().unwrap().push(text);
            }
        }
    }

    #[test]
    fn an_outage_is_announced_once_and_a_hiccup_is_not() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(0)));
        let notices = Arc::new(Notices::default());
        let outages = Outages::new(Arc::default(), notices.clone(), clock.clone(), dir.path().into());
        let error = StageError::unavailable("object_store", "connection refused");
        let told = || std::mem::take(&mut *notices.0.lock().unwrap());
        outages.report(&error);
        clock.advance(std::time::Duration::from_secs(4));
        outages.report(&error);
        assert_eq!((outages.list().len(), published(dir.path()).len()), (0, 0));
        outages.over();
        assert_eq!(told(), [""; 0]);
        outages.report(&error);
        clock.advance(std::time::Duration::from_secs(60));
        outages.report(&error);
        outages.report(&error);
        assert_eq!(told(), ["object store unavailable: connection refused; work waits until it is available again"]);
        assert_eq!(published(dir.path()), outages.list());
        assert_eq!(outages.list()[0].since, 4_000_000);
        outages.over();
        assert_eq!(told(), ["object store available again after 60 s"]);
        assert_eq!((outages.list().len(), published(dir.path()).len()), (0, 0));
    }
}
