//! Grants leases. A lease has one holder at a time, and only the holder does the work that the lease covers.
//!
//! A lease is one small object that is replaced by conditional puts. A lease prevents duplicate work but does not
//! protect data, because a suspended holder can continue after its lease has expired. The epoch protects the data.
//! Every new holder gets a higher epoch, and writes with an older epoch are refused. Each machine judges the expiry by
//! its own clock. A wrong clock causes duplicate work, but no data loss.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use docweir_core::clock::SharedClock;
use serde::{Deserialize, Serialize};

use crate::{Durability, ObjectError, ObjectStore, Precondition, Tag};

/// Holds the content of the lease object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Holder of the lease; empty after a release.
    pub holder: String,
    pub epoch: u64,
    /// Expiry time, in Unix milliseconds.
    pub expires_at_ms: i64,
    /// Number of heartbeats since the lease was acquired.
    pub beat: u64,
}

/// Represents a lease that the caller has acquired. The tag identifies the state that the caller last wrote to the
/// lease object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub record: LeaseRecord,
    tag: Tag,
}

/// Reads and writes the object of one lease.
pub struct LeaseRegister {
    objects: Arc<dyn ObjectStore>,
    key: String,
    clock: SharedClock,
}

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another holder has taken over the lease. Stop working.
    #[error("lease `{0}` was taken over by another holder")]
    Lost(String),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl LeaseRegister {
    pub fn new(objects: Arc<dyn ObjectStore>, key: String, clock: SharedClock) -> Self {
        Self { objects, key, clock }
    }

    /// Returns the current record, or `None` if the lease was never acquired.
    pub async fn read(&self) -> Result<Option<LeaseRecord>, LeaseError> {
        Ok(self.load().await?.map(|lease| lease.record))
    }

    /// Acquires the lease if it is free or has expired. Returns `None` if another holder has the lease. The new epoch
    /// is higher than `at_least` and higher than the last epoch in the lease object. Pass the manifest's epoch as
    /// `at_least`, because the last epoch is lost if the lease object was deleted.
    pub async fn acquire(&self, holder: &str, ttl: Duration, at_least: u64) -> Result<Option<Lease>, LeaseError> {
        let held = self.load().await?;
        let now = self.now_ms();
        if let Some(lease) = &held
            && !lease.record.holder.is_empty()
            && lease.record.expires_at_ms > now
        {
            return Ok(None);
        }
        let epoch = held.as_ref().map_or(0, |lease| lease.record.epoch).max(at_least) + 1;
        let record =
            LeaseRecord { holder: holder.to_owned(), epoch, expires_at_ms: now.saturating_add(millis(ttl)), beat: 0 };
        let when = held.map_or(Precondition::Absent, |lease| Precondition::Matches(lease.tag));
        match self.put(record.clone(), when).await {
            Ok(lease) => Ok(Some(lease)),
            Err(LeaseError::Object(e)) if unsure(&e) => Ok(self.load().await?.filter(|lease| lease.record == record)),
            Err(e) => Err(e),
        }
    }

    /// Extends the lease until `ttl` from now and counts a heartbeat. After [`LeaseError::Lost`] the lease cannot be
    /// renewed. After any other error, a retry can succeed.
    pub async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LeaseError> {
        let record = LeaseRecord {
            expires_at_ms: self.now_ms().saturating_add(millis(ttl)),
            beat: lease.record.beat + 1,
            ..lease.record.clone()
        };
        self.replace(lease, record).await
    }

    /// Releases the lease, so that the next holder does not have to wait until the lease expires.
    pub async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        let record = LeaseRecord { holder: String::new(), expires_at_ms: 0, ..lease.record.clone() };
        self.replace(lease, record).await.map(drop)
    }

    /// Replaces the record if the caller still holds the lease.
    async fn replace(&self, lease: &Lease, record: LeaseRecord) -> Result<Lease, LeaseError> {
        match self.put(record.clone(), Precondition::Matches(lease.tag.clone())).await {
            Err(LeaseError::Object(e)) if unsure(&e) => match self.load().await? {
                Some(held) if held.record == record => Ok(held),
                // The request was lost: the old record is unchanged, and the caller may retry.
                Some(held) if held == *lease => Err(LeaseError::Object(e)),
                _ => Err(LeaseError::Lost(self.key.clone())),
            },
            other => other,
        }
    }

    async fn load(&self) -> Result<Option<Lease>, LeaseError> {
        match self.objects.get(&self.key).await {
            // The lease protects no data, so an unreadable record counts as expired. The next holder replaces the
            // record on condition of its tag.
            Ok((body, tag)) => Ok(Some(Lease { record: serde_json::from_slice(&body).unwrap_or_default(), tag })),
            Err(ObjectError::NotFound(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn put(&self, record: LeaseRecord, when: Precondition) -> Result<Lease, LeaseError> {
        // Serialising strings and numbers cannot fail.
        let body = Bytes::from(serde_json::to_vec(&record).unwrap_or_default());
        let tag = self.objects.put(&self.key, body, when, Durability::Durable).await?;
        Ok(Lease { record, tag })
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().div_euclid(1000)
    }
}

/// Returns whether the caller must read the record again after a failed put. This is necessary after errors that leave
/// two possibilities: the put was applied in spite of the error, or another writer was faster.
fn unsure(error: &ObjectError) -> bool {
    matches!(
        error,
        ObjectError::Conflict(_)
            | ObjectError::NotFound(_)
            | ObjectError::Unknown { .. }
            | ObjectError::Transient { .. }
    )
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use docweir_core::clock::ManualClock;

    use super::*;
    use crate::memory::{Faults, MemoryObjects};

    const TTL: Duration = Duration::from_secs(300);

    fn register() -> (Arc<ManualClock>, Arc<MemoryObjects>, LeaseRegister) {
        let clock = Arc::new(ManualClock::at(1_000_000_000));
        let objects = Arc::new(MemoryObjects::new(clock.clone()));
        let register = LeaseRegister::new(objects.clone(), "vectors/chunks/LEASE".into(), clock.clone());
        (clock, objects, register)
    }

    #[tokio::test]
    async fn one_holder_at_a_time_and_an_epoch_that_grows() {
        let (clock, _, register) = register();
        let first = register.acquire("a", TTL, 4).await.unwrap().unwrap();
        assert_eq!(first.record.epoch, 5);
        assert_eq!(register.acquire("b", TTL, 0).await.unwrap(), None);
        clock.advance(Duration::from_secs(200));
        let renewed = register.renew(&first, TTL).await.unwrap();
        assert_eq!((renewed.record.beat, renewed.record.epoch), (1, 5));
        clock.advance(Duration::from_secs(200));
        assert_eq!(register.acquire("b", TTL, 0).await.unwrap(), None, "renewed");
        register.release(&renewed).await.unwrap();
        let second = register.acquire("b", TTL, 0).await.unwrap().unwrap();
        assert_eq!(second.record.epoch, 6);
    }

    /// Tests that a late heartbeat of an expired holder cannot overwrite the record of the new holder.
    #[tokio::test]
    async fn r02_an_expired_holder_does_not_write_over_the_next_one() {
        let (clock, _, register) = register();
        let first = register.acquire("a", TTL, 0).await.unwrap().unwrap();
        clock.advance(TTL);
        let second = register.acquire("b", TTL, 0).await.unwrap().unwrap();
        assert!(matches!(register.renew(&first, TTL).await, Err(LeaseError::Lost(_))));
        assert!(matches!(register.release(&first).await, Err(LeaseError::Lost(_))));
        assert_eq!(register.read().await.unwrap(), Some(second.record));
    }

    #[tokio::test]
    async fn what_can_t_be_read_is_over() {
        let (_, objects, register) = register();
        register.acquire("a", TTL, 0).await.unwrap().unwrap();
        assert!(objects.tamper("vectors/chunks/LEASE", |body| body.truncate(7)));
        assert_eq!(register.acquire("b", TTL, 6).await.unwrap().unwrap().record.epoch, 7);
    }

    #[tokio::test]
    async fn a_lost_reply_is_looked_into() {
        let (_, objects, register) = register();
        objects.set_faults(Faults { lost_reply: 1.0, ..Faults::default() });
        let lease = register.acquire("a", TTL, 0).await.unwrap().unwrap();
        let lease = register.renew(&lease, TTL).await.unwrap();
        objects.set_faults(Faults { lost_request: 1.0, ..Faults::default() });
        assert!(matches!(register.renew(&lease, TTL).await, Err(LeaseError::Object(_))), "may be tried again");
        objects.set_faults(Faults::default());
        register.renew(&lease, TTL).await.unwrap();
    }
}
