//! Registers the objects at a URI of a bucket.
//!
//! An object that cannot be read at the moment is put off, and the objects after it are read first. While the whole bucket
//! cannot be read, reading pauses, and goes on by itself.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::path::Path;
use std::time::Duration;

use docweir_core::backoff::Backoff;
use docweir_core::error::{ErrorClass, StageError};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::intake::{INTAKE, Inspection, Intake, LookError};
use crate::actors::outcomes::control;
use crate::actors::retry_while_busy::retry_while_unavailable;
use crate::intake::left_alone::LeftAlone;
use crate::intake::originals::{Listed, ONE_OBJECT, is_quarantined};
use crate::intake::source;
use crate::intake::walk::{Reason, extension};

/// Maximum number of objects that are put off before the listing goes on.
const MAX_PUT_OFF: usize = 1_000;
/// Waits between two attempts to read from a bucket.
const WAITS: Backoff = Backoff::doubling(Duration::from_millis(200), Duration::from_secs(30));

/// Tracks whether objects can be read.
struct Reading<'a> {
    intake: &'a Intake,
    left_alone: &'a RefCell<LeftAlone>,
    /// Number of failures since an object was last read. Failures that only one object sees do not count.
    failures: Cell<u32>,
    failing_since: Cell<Option<Instant>>,
    /// Objects to read again later.
    put_off: RefCell<Vec<Listed>>,
    /// Error of an outage that lasted too long.
    ended: RefCell<Option<StageError>>,
}

impl Intake {
    /// Registers the objects at a URI. An unreadable object is reported, and the other objects are still registered. Counts
    /// the objects that are not ingested in `left_alone`.
    pub(super) async fn objects(&self, uri: &str, left_alone: &RefCell<LeftAlone>) -> Result<u64, StageError> {
        let reading = Reading {
            intake: self,
            left_alone,
            failures: Cell::new(0),
            failing_since: Cell::new(None),
            put_off: RefCell::default(),
            ended: RefCell::default(),
        };
        let (mut files, mut after) = (0, None::<String>);
        loop {
            let list = async || {
                let listed = self.originals.list(uri, after.as_deref()).await;
                let outage = listed.as_ref().err().filter(|error| error.class == ErrorClass::Unavailable);
                outage.inspect(|error| self.outages.report(INTAKE, error));
                listed
            };
            let page = retry_while_unavailable(&self.retry, list).await?;
            let is_last = page.is_empty();
            after = page.last().map(|object| object.source.clone());
            let (wanted, others): (Vec<_>, Vec<_>) =
                page.into_iter().partition(|object| self.is_wanted(uri, &object.source));
            let keys = others.iter().filter_map(|object| source::to_object(&object.source)).map(|(_, key)| key);
            // A key that ends with a slash stands for a folder.
            for key in keys.filter(|key| !is_quarantined(key) && !key.ends_with('/')) {
                left_alone.borrow_mut().add(Reason::Extension(extension(Path::new(key))));
            }
            files += reading.read(wanted).await?;
            let most = if is_last { 0 } else { MAX_PUT_OFF };
            let mut passes = 0;
            while reading.put_off.borrow().len() > most {
                sleep(WAITS.limit(passes)).await;
                passes += 1;
                let again = reading.put_off.take();
                files += reading.read(again).await?;
            }
            if is_last {
                return Ok(files);
            }
        }
    }
}

impl Reading<'_> {
    /// Reads and registers objects. Puts off those that cannot be read at the moment. Returns the number of others.
    async fn read(&self, objects: Vec<Listed>) -> Result<u64, StageError> {
        // If the lookup fails, no object counts as known, and all objects are read.
        let mut known = self.intake.known(&objects).await.unwrap_or_default();
        let objects = objects.into_iter().map(|object| (known.remove(&object.source), object));
        let looked_at = stream::iter(objects)
            .map(|(known, object)| async move {
                match known {
                    Some((id, status)) => Some((object.source, Ok(Inspection::Known(id, status)))),
                    None => self.look(object).await,
                }
            })
            .buffer_unordered(self.intake.options.hashers)
            .filter_map(ready);
        let files = self.intake.take_in(looked_at, |_| {}, self.left_alone).await.map_err(control)?.0;
        match self.ended.take() {
            Some(error) => Err(error),
            None => Ok(files),
        }
    }

    /// Reads one object. Returns `None` if it is put off.
    async fn look(&self, object: Listed) -> Option<(String, Result<Inspection, LookError>)> {
        if self.failures.get() > 0 {
            sleep(WAITS.limit(self.failures.get())).await;
        }
        if self.ended.borrow().is_some() {
            return None;
        }
        let began = Instant::now();
        let error = match self.intake.look_at_object(&object).await {
            Ok(summary) => {
                self.failures.set(0);
                self.failing_since.set(None);
                self.intake.outages.works(INTAKE, began);
                return Some((object.source, Ok(Inspection::New(summary))));
            }
            Err(error) => error,
        };
        if !matches!(error.class, ErrorClass::Unavailable | ErrorClass::Throttled) {
            return Some((object.source, Err(LookError::of(&error))));
        }
        tracing::warn!(source = object.source, %error, "object put off");
        if error.code != ONE_OBJECT {
            self.failures.set(self.failures.get() + 1);
            let since = self.failing_since.get().unwrap_or(began);
            self.failing_since.set(Some(since));
            self.intake.outages.report(INTAKE, &error);
            if since.elapsed() >= Duration::from_secs(self.intake.retry.outage_seconds) {
                *self.ended.borrow_mut() = Some(error);
            }
        }
        self.put_off.borrow_mut().push(object);
        None
    }
}
