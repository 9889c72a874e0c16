//! Tracks outages: times in which a store or a service of Docweir does not answer. Work waits meanwhile, and no document
//! is blamed.
//!
//! An outage is announced when it has lasted for some seconds. It is over when the part of the process that reported it
//! succeeds in an attempt that began later. A file in the state folder names the outage to other commands.

use std::collections::BTreeMap;
use std::io::{Read, read_to_string};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use docweir_core::clock::{SharedClock, UnixMicros};
use docweir_core::error::StageError;
use docweir_core::files::open_regular;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::actors::outcomes::Claims;
use crate::messages::event::{Event, EventSink};

/// Duration from which an outage is announced, in microseconds. Shorter interruptions are normal.
const ANNOUNCED_AFTER: UnixMicros = 5_000_000;
/// Part of the process that claims documents and renews the claims.
pub const CLAIMS: &str = "claims";
/// Name of the file in the state folder.
const FILE: &str = "outage.json";

/// Describes an outage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// Name of the store or service that does not answer, such as `object store`.
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

type Entries = BTreeMap<(String, &'static str), Entry>;

/// Tracks the outages that this process sees. An outage belongs to the part of the process that reports it (a stage, or
/// `claims`), because only that part finds out that it is over.
pub struct Outages {
    current: Mutex<Entries>,
    claims: Arc<Claims>,
    events: Arc<dyn EventSink>,
    clock: SharedClock,
    /// State folder of this machine.
    folder: PathBuf,
}

struct Entry {
    outage: Outage,
    announced: bool,
    first: Instant,
    last: Instant,
}

impl Outages {
    pub fn new(claims: Arc<Claims>, events: Arc<dyn EventSink>, clock: SharedClock, folder: PathBuf) -> Self {
        Self { current: Mutex::default(), claims, events, clock, folder }
    }

    /// Records a call of a part of the process that failed because a store or service is unavailable.
    pub fn report(&self, part: &'static str, error: &StageError) {
        let (now, waiting, time) = (self.clock.now(), self.claims.len(), Instant::now());
        let what = name(&error.code);
        let mut current = self.lock();
        let told = current.values().any(|entry| entry.announced && entry.outage.what == what);
        let entry = current.entry((what.clone(), part)).or_insert_with(|| Entry {
            outage: Outage { what, cause: String::new(), since: now, waiting },
            announced: false,
            first: time,
            last: time,
        });
        (entry.outage.cause, entry.outage.waiting, entry.last) = (error.to_string(), waiting, time);
        if !entry.announced && now - entry.outage.since >= ANNOUNCED_AFTER {
            entry.announced = true;
            if !told {
                let text = format!("{}; work waits until it is available again", entry.outage.line());
                tracing::warn!(what = entry.outage.what, cause = entry.outage.cause, "outage");
                self.events.emit(Event::Notice { text });
            }
        }
        if entry.announced {
            self.publish(&current);
        }
    }

    /// Records that a part of the process used its stores and services with success, in an attempt that began at this
    /// time. Outages that were reported later are not over.
    pub fn works(&self, part: &str, began: Instant) {
        let mut current = self.lock();
        let ends = |key: &(String, &'static str), entry: &mut Entry| key.1 == part && entry.last < began;
        let ended: Vec<Entry> = current.extract_if(.., ends).map(|(_, entry)| entry).collect();
        let ended = ended.into_iter().filter(|entry| entry.announced);
        for entry in ended {
            if current.values().any(|other| other.announced && other.outage.what == entry.outage.what) {
                continue;
            }
            let seconds = (self.clock.now() - entry.outage.since) / 1_000_000;
            tracing::info!(what = entry.outage.what, seconds, "outage is over");
            self.events
                .emit(Event::Notice { text: format!("{} available again after {seconds} s", entry.outage.what) });
            self.publish(&current);
        }
    }

    /// Returns for how long a part of the process has not been able to work. Returns `None` if it works.
    pub fn lasts(&self, part: &str) -> Option<Duration> {
        let current = self.lock();
        current.iter().filter(|(key, _)| key.1 == part).map(|(_, entry)| entry.first.elapsed()).max()
    }

    /// Returns the announced outages, one for each store or service.
    pub fn list(&self) -> Vec<Outage> {
        announced(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file, or removes it if there is no outage. A failure is ignored, because the file is information only,
    /// and the disk may be the cause of the outage.
    fn publish(&self, current: &Entries) {
        let path = self.folder.join(FILE);
        let outages = announced(current);
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

/// Returns the name of the store or service that an error is about. The code of an error of a store is the name of the
/// store.
fn name(code: &str) -> String {
    match code {
        "insufficient_quota" => "provider".into(),
        code if code.starts_with("provider_") => "provider".into(),
        code => code.replace('_', " "),
    }
}

fn announced(current: &Entries) -> Vec<Outage> {
    let mut outages: Vec<Outage> = Vec::new();
    for entry in current.values().filter(|entry| entry.announced) {
        match outages.iter_mut().find(|outage| outage.what == entry.outage.what) {
            Some(outage) => outage.since = outage.since.min(entry.outage.since),
            None => outages.push(entry.outage.clone()),
        }
    }
    outages
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
pub fn published(folder: &Path) -> Vec<Outage> {
    const MAX_BYTES: u64 = 1 << 20;
    let read = open_regular(&folder.join(FILE)).and_then(|file| read_to_string(file.take(MAX_BYTES)));
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

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_announced_once_and_a_hiccup_is_not() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::at(0)));
        let notices = Arc::new(Notices::default());
        let outages = Outages::new(Arc::default(), notices.clone(), clock.clone(), dir.path().into());
        let error = StageError::unavailable("object_store", "connection refused");
        let told = || std::mem::take(&mut *notices.0.lock().unwrap());
        let wait = async |seconds| {
            clock.advance(Duration::from_secs(seconds));
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        };
        outages.report("chunk", &error);
        wait(4).await;
        outages.report("chunk", &error);
        assert_eq!((outages.list().len(), published(dir.path()).len()), (0, 0));
        wait(1).await;
        outages.works("chunk", Instant::now());
        assert_eq!((told(), outages.lasts("chunk")), (Vec::new(), None));
        outages.report("chunk", &error);
        wait(10).await;
        let began = Instant::now();
        wait(50).await;
        outages.report("chunk", &error);
        outages.report("embed", &error);
        outages.report("chunk", &error);
        assert_eq!(told(), ["object store unavailable: connection refused; work waits until it is available again"]);
        assert_eq!(published(dir.path()), outages.list());
        assert_eq!((outages.list().len(), outages.list()[0].since), (1, 5_000_000));
        assert_eq!(outages.lasts("chunk"), Some(Duration::from_secs(60)));
        outages.works("chunk", began);
        outages.works("load", Instant::now());
        assert_eq!((told(), outages.list().len()), (Vec::new(), 1), "neither shows that chunking works");
        wait(1).await;
        outages.works("chunk", Instant::now());
        assert_eq!(told(), ["object store available again after 61 s"]);
        assert_eq!((outages.list().len(), published(dir.path()).len()), (0, 0));
    }
}
