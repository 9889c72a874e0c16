//! Tells an object that alone cannot be read from a bucket that cannot be read.
//!
//! Expired credentials, a wrong clock, a disabled key or an outage make all objects unreadable for a while. No object is
//! to blame, so its readers wait. A single object may be unreadable for good, for example because a policy denies it. To
//! tell the two apart, [`JudgedOriginals`] reads a byte of a second object of the same bucket, the witness.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::error::{ErrorClass, StageError};
use tokio::time::Instant;

use super::originals::{LOCAL_DISK, Listed, ONE_OBJECT, Original, Originals};
use super::source;

/// Maximum number of unreadable objects that are remembered.
const REMEMBERED: usize = 10_000;
/// Maximum number of unreadable objects that are tried as a witness.
const TRIED: usize = 3;
/// Maximum number of objects of a folder that are tried as a witness, including those that are archived.
const LISTED: usize = 20;

/// Opens originals, and judges the failures of objects in buckets.
pub struct JudgedOriginals {
    inner: Arc<dyn Originals>,
    /// Time after which an object that alone cannot be read is given up.
    alone: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Failures of each object that cannot be read while others can.
    failing: HashMap<String, Failing>,
    /// Last object of each bucket that was read.
    witnesses: HashMap<String, String>,
}

/// Holds the times of the first and the last failure of an object.
struct Failing {
    first: Instant,
    last: Instant,
}

impl JudgedOriginals {
    /// Judges the failures of `inner`. An object that cannot be read for `alone`, although others can, is given up.
    pub fn new(inner: Arc<dyn Originals>, alone: Duration) -> Self {
        Self { inner, alone, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self, source: &str) {
        if let Some((bucket, _)) = source::to_object(source) {
            let mut state = self.state();
            state.failing.remove(source);
            state.witnesses.insert(bucket.to_owned(), source.to_owned());
        }
    }

    fn forget(&self, source: &str) {
        self.state().failing.remove(source);
    }

    /// Records a failure of the object, and returns for how long the object has been unreadable. After a time without
    /// failures, the time starts again.
    fn failing(&self, source: &str) -> Duration {
        let (alone, now) = (self.alone, Instant::now());
        let mut state = self.state();
        if state.failing.len() >= REMEMBERED {
            state.failing.retain(|_, failing| failing.last.elapsed() <= alone);
        }
        if state.failing.len() >= REMEMBERED && !state.failing.contains_key(source) {
            return Duration::ZERO;
        }
        let failing = state.failing.entry(source.to_owned()).or_insert(Failing { first: now, last: now });
        if now - failing.last > alone {
            failing.first = now;
        }
        failing.last = now;
        now - failing.first
    }

    /// Returns whether another object of the bucket can be read now.
    async fn others_work(&self, source: &str) -> bool {
        let Some((bucket, key)) = source::to_object(source) else { return false };
        let known = self.state().witnesses.get(bucket).filter(|witness| *witness != source).cloned();
        if let Some(witness) = known {
            match self.inner.probe(&witness).await {
                Ok(()) => return true,
                Err(error) if error.class != ErrorClass::Permanent => return false,
                // The witness was deleted or archived, so another one is needed.
                Err(_) => {
                    self.state().witnesses.remove(bucket);
                }
            }
        }
        let mut places = vec![String::new()];
        if let Some((folder, _)) = key.rsplit_once('/') {
            places.insert(0, format!("{folder}/"));
        }
        let mut failed = 0;
        for place in places {
            let listed = self.inner.list(&format!("s3://{bucket}/{place}"), None).await.unwrap_or_default();
            let is_new =
                |object: &&Listed| object.source != source && !self.state().failing.contains_key(&object.source);
            let candidates: Vec<String> = listed.iter().filter(is_new).take(LISTED).map(|o| o.source.clone()).collect();
            for candidate in candidates {
                match self.inner.probe(&candidate).await {
                    Ok(()) => {
                        self.state().witnesses.insert(bucket.to_owned(), candidate);
                        return true;
                    }
                    // An archived object, for example, says nothing about the others.
                    Err(error) if error.class == ErrorClass::Permanent => {}
                    Err(_) => failed += 1,
                }
                if failed >= TRIED {
                    return false;
                }
            }
            if failed > 0 {
                return false;
            }
        }
        false
    }

    async fn judged(&self, source: &str, error: StageError) -> StageError {
        if error.class != ErrorClass::Unavailable || error.code == LOCAL_DISK || source::to_object(source).is_none() {
            return error;
        }
        // During an outage of the bucket, the time of no object runs.
        if !self.others_work(source).await {
            self.forget(source);
            return error;
        }
        let failing = self.failing(source);
        if failing < self.alone {
            return error.with_code(ONE_OBJECT);
        }
        let text = format!(
            "{error}; this object has been unreadable for {} s, while other objects of the bucket can be read",
            failing.as_secs()
        );
        StageError::permanent("unreadable", text)
    }
}

#[async_trait]
impl Originals for JudgedOriginals {
    async fn open(&self, source: &str) -> Result<Original, StageError> {
        match self.inner.open(source).await {
            Ok(original) => {
                self.succeeded(source);
                Ok(original)
            }
            Err(error) => Err(self.judged(source, error).await),
        }
    }

    async fn look(&self, source: &str) -> Result<Option<Listed>, StageError> {
        match self.inner.look(source).await {
            Ok(None) => {
                self.forget(source);
                Ok(None)
            }
            Ok(found) => Ok(found),
            Err(error) => Err(self.judged(source, error).await),
        }
    }

    async fn list(&self, uri: &str, after: Option<&str>) -> Result<Vec<Listed>, StageError> {
        self.inner.list(uri, after).await
    }

    async fn probe(&self, source: &str) -> Result<(), StageError> {
        self.inner.probe(source).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Holds the keys of a bucket, and those that cannot be read.
    #[derive(Default)]
    struct Bucket {
        keys: BTreeSet<String>,
        denied: Mutex<BTreeSet<String>>,
        /// Keys whose objects were deleted or archived.
        gone: Mutex<BTreeSet<String>>,
    }

    #[async_trait]
    impl Originals for Bucket {
        async fn open(&self, source: &str) -> Result<Original, StageError> {
            self.probe(source).await?;
            Ok(Original { file: tempfile::tempfile().unwrap(), tag: None })
        }

        async fn look(&self, source: &str) -> Result<Option<Listed>, StageError> {
            let gone = self.gone.lock().unwrap().contains(source);
            let listed = Listed { source: source.to_owned(), bytes: 1, tag: "x".into() };
            Ok((!gone).then_some(listed))
        }

        async fn probe(&self, source: &str) -> Result<(), StageError> {
            if self.gone.lock().unwrap().contains(source) {
                return Err(StageError::permanent("unreadable", "gone"));
            }
            let denied = self.denied.lock().unwrap().contains(source);
            if denied { Err(StageError::unavailable("source_bucket", "denied")) } else { Ok(()) }
        }

        async fn list(&self, uri: &str, _: Option<&str>) -> Result<Vec<Listed>, StageError> {
            let listed = |source: &String| Listed { source: source.clone(), bytes: 1, tag: "x".into() };
            Ok(self.keys.iter().filter(|key| key.starts_with(uri)).map(listed).collect())
        }
    }

    fn originals(denied: &[&str]) -> (Arc<Bucket>, JudgedOriginals) {
        let bucket = Bucket {
            keys: ["a", "b", "c", "d"].map(|key| format!("s3://papers/in/{key}")).into(),
            denied: Mutex::new(denied.iter().map(|key| format!("s3://papers/in/{key}")).collect()),
            ..Bucket::default()
        };
        let bucket = Arc::new(bucket);
        (bucket.clone(), JudgedOriginals::new(bucket, Duration::from_secs(600)))
    }

    async fn error(originals: &JudgedOriginals, key: &str) -> (ErrorClass, String) {
        let error = originals.open(&format!("s3://papers/in/{key}")).await.err().unwrap();
        (error.class, error.code)
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_alone_is_denied_is_given_up_after_a_while() {
        let (bucket, originals) = originals(&["a"]);
        let waits = (ErrorClass::Unavailable, ONE_OBJECT.to_owned());
        assert_eq!(error(&originals, "a").await, waits, "another object is found by a listing");
        tokio::time::sleep(Duration::from_secs(599)).await;
        assert_eq!(error(&originals, "a").await, waits);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let given_up = (ErrorClass::Permanent, "unreadable".to_owned());
        assert_eq!(error(&originals, "a").await, given_up);
        assert_eq!(error(&originals, "a").await, given_up, "a second delivery does not wait again");
        bucket.denied.lock().unwrap().clear();
        originals.open("s3://papers/in/a").await.unwrap();
        bucket.denied.lock().unwrap().insert("s3://papers/in/a".into());
        assert_eq!(error(&originals, "a").await, waits, "the time counts from the next failure");
    }

    #[tokio::test(start_paused = true)]
    async fn while_all_objects_are_denied_none_is_to_blame() {
        let (bucket, originals) = originals(&["a", "b", "c", "d"]);
        let outage = (ErrorClass::Unavailable, "source_bucket".to_owned());
        for _ in 0..10 {
            assert_eq!((error(&originals, "a").await, error(&originals, "b").await), (outage.clone(), outage.clone()));
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        bucket.denied.lock().unwrap().clear();
        originals.open("s3://papers/in/c").await.unwrap();
        bucket.denied.lock().unwrap().insert("s3://papers/in/c".into());
        bucket.denied.lock().unwrap().insert("s3://papers/in/a".into());
        assert_eq!(error(&originals, "a").await, outage, "the witness cannot be read either");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_the_bucket_does_not_count_against_an_object() {
        let (bucket, originals) = originals(&["a"]);
        let waits = (ErrorClass::Unavailable, ONE_OBJECT.to_owned());
        assert_eq!(error(&originals, "a").await, waits);
        let all = bucket.keys.clone();
        let only = std::mem::replace(&mut *bucket.denied.lock().unwrap(), all);
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(300)).await;
            assert_eq!(error(&originals, "a").await, (ErrorClass::Unavailable, "source_bucket".to_owned()));
        }
        *bucket.denied.lock().unwrap() = only;
        assert_eq!(error(&originals, "a").await, waits, "the time starts after the outage");
        tokio::time::sleep(Duration::from_secs(601)).await;
        assert_eq!(error(&originals, "a").await, waits, "nobody read the object for a while");
        tokio::time::sleep(Duration::from_secs(600)).await;
        bucket.gone.lock().unwrap().insert("s3://papers/in/a".into());
        assert_eq!(originals.look("s3://papers/in/a").await.unwrap(), None);
        bucket.gone.lock().unwrap().clear();
        assert_eq!(error(&originals, "a").await, waits, "the object is a new one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_witness_that_is_gone_is_replaced() {
        let (bucket, originals) = originals(&["a"]);
        let waits = (ErrorClass::Unavailable, ONE_OBJECT.to_owned());
        originals.open("s3://papers/in/b").await.unwrap();
        bucket.gone.lock().unwrap().extend(["b", "c"].map(|key| format!("s3://papers/in/{key}")));
        assert_eq!(error(&originals, "a").await, waits);
        assert_eq!(originals.state().witnesses["papers"], "s3://papers/in/d");
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_alone_in_its_folder_finds_a_witness_elsewhere() {
        let (bucket, originals) = originals(&["folder/alone"]);
        assert!(!bucket.keys.contains("s3://papers/in/folder/alone"));
        assert_eq!(error(&originals, "folder/alone").await, (ErrorClass::Unavailable, ONE_OBJECT.to_owned()));
    }
}
