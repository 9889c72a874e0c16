//! Stores objects in memory and injects faults, for tests and simulations.
//!
//! A seed determines the faults, so a failing run can be replayed exactly. In the hardest case the caller gets an
//! error although the write is applied: either at once, or *later*, after the caller has continued. Every write yields
//! once before it is applied and once afterwards. A test can therefore drop the future of a write either before or
//! after the write is applied.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use docweir_core::clock::{Clock, ManualClock};

use super::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload};

/// Holds the probability of each fault, from 0 to 1. Each fault occurs independently of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Probability that a put or a delete fails without being applied.
    pub fail_before: f64,
    /// Probability that a put returns [`ObjectError::Unknown`] without being applied.
    pub lost_request: f64,
    /// Probability that a put returns [`ObjectError::Unknown`] although it was applied.
    pub lost_reply: f64,
    /// Probability that a put returns [`ObjectError::Unknown`] and is applied only during a later operation. The late
    /// put is applied only if its precondition holds at that time.
    pub late: f64,
    /// Probability that a conditional put returns [`ObjectError::Conflict`] although it was applied. This fault
    /// imitates a client library that retries automatically after a lost reply and conflicts with its own first
    /// attempt.
    pub false_conflict: f64,
    /// Probability that a read fails with a transient error.
    pub fail_read: f64,
    /// Probability that a list omits the newest object and still contains the object that was deleted last. Lists of
    /// pins (`pins/`) are exempt, because the collector depends on them and all supported stores list completed
    /// writes.
    pub stale_list: f64,
}

impl Faults {
    /// Sets the same probability for all faults.
    pub fn all(chance: f64) -> Self {
        Self {
            fail_before: chance,
            lost_request: chance,
            lost_reply: chance,
            late: chance,
            false_conflict: chance,
            fail_read: chance,
            stale_list: chance,
        }
    }
}

/// Stores objects in memory. Clones share the same objects.
#[derive(Clone)]
pub struct MemoryObjects {
    state: Arc<Mutex<State>>,
    clock: Arc<ManualClock>,
}

struct State {
    objects: BTreeMap<String, Object>,
    /// Puts that were delayed by the `late` fault.
    late: Vec<(String, Bytes, Precondition)>,
    next_tag: u64,
    faults: Faults,
    random: fastrand::Rng,
    operations: u64,
    /// A suffix, and the recorded states of all objects whose keys end with this suffix. The states are in the order
    /// of the writes. `None` means that nothing is recorded.
    recorded: Option<(&'static str, Vec<Bytes>)>,
    deleted_last: Option<(String, Object)>,
}

#[derive(Clone)]
struct Object {
    body: Bytes,
    tag: u64,
    modified: i64,
}

impl MemoryObjects {
    pub fn new(clock: Arc<ManualClock>) -> Self {
        Self::with_faults(clock, 0, Faults::default())
    }

    pub fn with_faults(clock: Arc<ManualClock>, seed: u64, faults: Faults) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            late: Vec::new(),
            next_tag: 1,
            faults,
            random: fastrand::Rng::with_seed(seed),
            operations: 0,
            recorded: None,
            deleted_last: None,
        };
        Self { state: Arc::new(Mutex::new(state)), clock }
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Applies every delayed put whose precondition still holds.
    pub fn apply_pending(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        for (key, body, when) in std::mem::take(&mut state.late) {
            let _ = state.apply(&key, body, &when, now);
        }
    }

    pub fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }

    /// Starts recording every state of the objects whose keys end with `suffix`.
    pub fn record(&self, suffix: &'static str) {
        self.state().recorded = Some((suffix, Vec::new()));
    }

    /// Returns the states that were recorded since the previous call.
    pub fn take_recorded(&self) -> Vec<Bytes> {
        self.state().recorded.as_mut().map(|(_, states)| std::mem::take(states)).unwrap_or_default()
    }

    /// Returns the current content of an object without injecting faults.
    pub fn peek(&self, key: &str) -> Option<Bytes> {
        self.state().objects.get(key).map(|o| o.body.clone())
    }

    /// Returns the number of operations so far, including failed operations.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Changes an object's bytes without a put, as a damaged disk would. Returns whether the object exists.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        let Some(object) = state.objects.get_mut(key) else { return false };
        let mut body = object.body.to_vec();
        change(&mut body);
        object.body = body.into();
        true
    }

    /// Returns all keys in order.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs the steps that begin each operation. First, one delayed put may be applied. Then the operation itself
    /// may fail. `chance` selects the probability of this failure from the configured [`Faults`].
    async fn begin(&self, what: &'static str, key: &str, chance: impl Fn(&Faults) -> f64) -> Result<(), ObjectError> {
        Wait::default().await;
        let now = self.clock.now();
        let mut state = self.state();
        state.operations += 1;
        if !state.late.is_empty() && state.random.bool() {
            let under_way = state.late.len();
            let index = state.random.usize(..under_way);
            let (late_key, body, when) = state.late.swap_remove(index);
            let _ = state.apply(&late_key, body, &when, now);
        }
        let chance = chance(&state.faults);
        if state.hit(chance) {
            return Err(ObjectError::Transient { what, key: key.to_owned(), reason: "an injected fault".into() });
        }
        Ok(())
    }
}

impl State {
    fn hit(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.random.f64() < chance
    }

    fn apply(&mut self, key: &str, body: Bytes, when: &Precondition, now: i64) -> Result<Tag, ObjectError> {
        let held = self.objects.get(key).map(|o| tag(o.tag));
        let holds = match when {
            Precondition::None => true,
            Precondition::Absent => held.is_none(),
            Precondition::Matches(tag) => held.as_ref() == Some(tag),
        };
        if !holds {
            return Err(ObjectError::Conflict(key.to_owned()));
        }
        let number = self.next_tag;
        self.next_tag += 1;
        if let Some((suffix, states)) = &mut self.recorded
            && key.ends_with(*suffix)
        {
            states.push(body.clone());
        }
        self.objects.insert(key.to_owned(), Object { body, tag: number, modified: now });
        Ok(tag(number))
    }

    fn object(&self, key: &str) -> Result<&Object, ObjectError> {
        self.objects.get(key).ok_or_else(|| ObjectError::NotFound(key.to_owned()))
    }
}

fn tag(number: u64) -> Tag {
    Tag(format!("\"{number}\""))
}

fn meta(key: &str, object: &Object) -> ObjectMeta {
    ObjectMeta { key: key.to_owned(), bytes: object.body.len() as u64, modified: object.modified }
}

#[async_trait]
impl ObjectStore for MemoryObjects {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn put(&self, key: &str, body: Bytes, when: Precondition, _: Durability) -> Result<Tag, ObjectError> {
        self.begin("write", key, |f| f.fail_before).await?;
        let result = {
            let now = self.clock.now();
            let mut state = self.state();
            let faults = state.faults;
            let unknown = |reason: &str| ObjectError::Unknown { key: key.to_owned(), reason: reason.to_owned() };
            if state.hit(faults.lost_request) {
                Err(unknown("the request was lost"))
            } else if state.hit(faults.late) {
                state.late.push((key.to_owned(), body, when));
                Err(unknown("the request was delayed"))
            } else {
                let conditional = when != Precondition::None;
                let applied = state.apply(key, body, &when, now);
                if applied.is_ok() && state.hit(faults.lost_reply) {
                    Err(unknown("the reply was lost"))
                } else if applied.is_ok() && conditional && state.hit(faults.false_conflict) {
                    Err(ObjectError::Conflict(key.to_owned()))
                } else {
                    applied
                }
            }
        };
        Wait::default().await;
        result
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        Ok(Box::new(MemoryUpload { store: self.clone(), key: key.to_owned(), body: Vec::new() }))
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        self.begin("read", key, |f| f.fail_read).await?;
        let result = self.state().object(key).map(|o| (o.body.clone(), tag(o.tag)));
        Wait::default().await;
        result
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        self.begin("read", key, |f| f.fail_read).await?;
        let body = self.state().object(key)?.body.clone();
        let size = body.len() as u64;
        let (from, to) = (offset.min(size), offset.saturating_add(length).min(size));
        Ok(body.slice(from as usize..to as usize))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.begin("inspect", key, |f| f.fail_read).await?;
        self.state().object(key).map(|o| meta(key, o))
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.begin("delete", key, |f| f.fail_before).await?;
        {
            let mut state = self.state();
            if let Some(object) = state.objects.remove(key) {
                state.deleted_last = Some((key.to_owned(), object));
            }
        }
        Wait::default().await;
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.begin("list", prefix, |f| f.fail_read).await?;
        let mut state = self.state();
        let chance = if prefix.ends_with("pins/") { 0.0 } else { state.faults.stale_list };
        let stale = state.hit(chance);
        let found = state.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let mut listed: Vec<ObjectMeta> = found.map(|(key, o)| meta(key, o)).collect();
        if stale {
            let newest = state.objects.iter().max_by_key(|(_, o)| o.tag).map(|(key, _)| key.clone());
            listed.retain(|o| newest.as_ref() != Some(&o.key));
            if let Some((key, object)) = state.deleted_last.as_ref().filter(|(key, _)| key.starts_with(prefix)) {
                listed.retain(|o| o.key != *key);
                listed.push(meta(key, object));
                listed.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        listed.retain(|o| after.is_none_or(|a| o.key.as_str() > a));
        listed.truncate(limit);
        Ok(listed)
    }

    fn local_path(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

struct MemoryUpload {
    store: MemoryObjects,
    key: String,
    body: Vec<u8>,
}

impl Write for MemoryUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.body.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn finish(self: Box<Self>) -> Result<(), ObjectError> {
        let Self { store, key, body } = *self;
        store.put(&key, body.into(), Precondition::None, Durability::Durable).await.map(drop)
    }
}

/// Yields to the other tasks once.
#[derive(Default)]
struct Wait(bool);

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Candidate, check};

    fn store(faults: Faults) -> MemoryObjects {
        MemoryObjects::with_faults(Arc::new(ManualClock::at(5)), 1, faults)
    }

    async fn put(s: &MemoryObjects, key: &str, body: &'static str, when: Precondition) -> Result<Tag, ObjectError> {
        s.put(key, Bytes::from_static(body.as_bytes()), when, Durability::Durable).await
    }

    #[tokio::test]
    async fn it_keeps_the_promises_of_every_store() {
        let objects = Arc::new(store(Faults::default()));
        let at = objects.put("k", Bytes::new(), Precondition::None, Durability::Durable).await;
        assert!(at.is_ok());
        assert_eq!(objects.head("k").await.unwrap(), ObjectMeta { key: "k".into(), bytes: 0, modified: 5 });
        objects.delete("k").await.unwrap();
        check(&Candidate { objects, in_byte_order: true, checks_keys: false, large: 1 << 20 }).await;
    }

    #[tokio::test]
    async fn each_fault_does_what_it_says() {
        let one = |set: fn(&mut Faults)| {
            let mut faults = Faults::default();
            set(&mut faults);
            store(faults)
        };
        let s = one(|f| f.fail_before = 1.0);
        assert!(matches!(put(&s, "k", "x", Precondition::None).await, Err(ObjectError::Transient { .. })));
        assert!(s.keys().is_empty());
        let s = one(|f| f.lost_request = 1.0);
        assert!(matches!(put(&s, "k", "x", Precondition::None).await, Err(ObjectError::Unknown { .. })));
        assert!(s.keys().is_empty());
        let s = one(|f| f.lost_reply = 1.0);
        assert!(matches!(put(&s, "k", "x", Precondition::None).await, Err(ObjectError::Unknown { .. })));
        assert_eq!(s.keys(), ["k"]);
        let s = one(|f| f.false_conflict = 1.0);
        assert!(matches!(put(&s, "k", "x", Precondition::Absent).await, Err(ObjectError::Conflict(_))));
        assert_eq!(s.keys(), ["k"]);
        let s = one(|f| f.late = 1.0);
        assert!(matches!(put(&s, "k", "x", Precondition::Absent).await, Err(ObjectError::Unknown { .. })));
        assert!(s.keys().is_empty());
        s.apply_pending();
        assert_eq!(s.keys(), ["k"]);
        let s = one(|f| f.fail_read = 1.0);
        assert!(matches!(s.get("k").await, Err(ObjectError::Transient { .. })));
    }
}
