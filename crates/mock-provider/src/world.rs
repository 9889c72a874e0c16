//! Holds the state that all requests and batches share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::charges::{Charge, text_hash};
use crate::comprehend::CallRates;
use crate::error::MockProviderError;
use crate::faults::Faults;
use crate::ledger::{Event, Ledger};
use crate::options::{Model, Options, nano};
use crate::problem::Problem;
use crate::rates::Buckets;
use crate::vectors::{Mix, Source, hash};

pub struct World {
    pub options: Options,
    pub vectors: Source,
    /// Notifies waiting tasks when a batch is cancelled, so that the tasks need not poll.
    pub changed: watch::Sender<()>,
    ledger: Mutex<Ledger>,
    faults: Mutex<Faults>,
    rates: Mutex<Buckets>,
    call_rates: Mutex<CallRates>,
    working: AtomicUsize,
    began: Instant,
    files: PathBuf,
    /// Temporary data folder, which is deleted with the mock provider.
    _temporary: Option<tempfile::TempDir>,
}

impl World {
    pub fn open(mut options: Options) -> Result<Self, MockProviderError> {
        let temporary = match options.data {
            Some(_) => None,
            None => Some(
                tempfile::tempdir()
                    .map_err(|source| MockProviderError::Data { path: "(a temporary folder)".into(), source })?,
            ),
        };
        let folder = match (&options.data, &temporary) {
            (Some(folder), _) => folder.clone(),
            (None, Some(temporary)) => temporary.path().to_path_buf(),
            (None, None) => PathBuf::new(),
        };
        let files = folder.join("files");
        std::fs::create_dir_all(&files).map_err(|source| MockProviderError::Data { path: files.clone(), source })?;
        let faults = std::mem::take(&mut options.faults);
        Ok(Self {
            vectors: Source::open(options.model_folder.as_deref())?,
            changed: watch::Sender::new(()),
            ledger: Mutex::new(Ledger::open(&folder.join("journal.jsonl"))?),
            faults: Mutex::new(Faults::new(options.seed, faults).map_err(MockProviderError::Faults)?),
            rates: Mutex::new(Buckets::new(options.rates.clone())),
            call_rates: Mutex::new(CallRates::new(options.comprehend.requests_per_second)),
            working: AtomicUsize::new(0),
            began: Instant::now(),
            files,
            _temporary: temporary,
            options,
        })
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn rates(&self) -> MutexGuard<'_, Buckets> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn call_rates(&self) -> MutexGuard<'_, CallRates> {
        self.call_rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn record(&self, events: Vec<Event>) -> Result<(), Problem> {
        self.ledger().write(events).map_err(|error| Problem::internal("write its journal", error))
    }

    /// Returns the time since the start of the mock provider. The rate limits use this time.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn model(&self, name: &str) -> Option<&Model> {
        self.options.models.iter().find(|model| model.name == name)
    }

    pub fn file_path(&self, id: &str) -> PathBuf {
        self.files.join(id)
    }

    /// Creates an id from a prefix and a name. Different names have different ids. With the same seed, a repeated run
    /// creates the same ids.
    pub fn id(&self, prefix: &str, name: &str) -> String {
        let mut random = Mix(self.options.seed ^ hash(prefix.as_bytes()) ^ hash(name.as_bytes()).rotate_left(17));
        format!("{prefix}{:016x}{:08x}", random.next(), random.next() >> 32)
    }

    pub fn refuse_when_spent(&self) -> Result<(), Problem> {
        match self.options.quota_usd {
            Some(dollars) if self.ledger().spent() >= nano(dollars) => Err(Problem::quota()),
            _ => Ok(()),
        }
    }

    /// Occupies one of the slots for concurrent requests until the returned value is dropped. Fails if no slot is
    /// free.
    pub fn place(&self) -> Result<Place<'_>, Problem> {
        let place = Place(&self.working);
        let before = self.working.fetch_add(1, Ordering::AcqRel);
        match self.options.limits.concurrent_requests {
            Some(most) if before >= most => {
                Err(Problem::new(429, "Too many concurrent requests, please try again later.")
                    .kind("requests")
                    .code("rate_limit_exceeded")
                    .retry_after(Some(Duration::from_secs(1))))
            }
            _ => Ok(place),
        }
    }

    /// Returns the charge for a request with these texts.
    pub fn charge(&self, key: &str, model: &Model, texts: &[String], tokens: u64, custom_id: Option<&str>) -> Charge {
        let batch = custom_id.is_some();
        let hashed = if self.options.charges_by_text { texts } else { &[] };
        Charge {
            batch,
            key: key.into(),
            model: model.name.clone(),
            inputs: texts.len() as u64,
            tokens,
            nanodollars: model.cost(tokens, 0, batch),
            custom_id: custom_id.map(Into::into),
            texts: hashed.iter().map(|text| text_hash(text)).collect(),
        }
    }
}

pub struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
