//! Whether an endpoint does what a compare-and-swap register needs: some that speak S3's protocol accept a condition and
//! write all the same, which loses commits without a word.

use std::time::Duration;

use docweir_aws::s3::When;
use docweir_aws::{Fault, FaultKind};
use docweir_core::backoff::Backoff;
use docweir_objects::{ObjectError, ObjectStore};
use ulid::Ulid;

use super::S3Objects;
use super::failure::{not_listed, not_written};

/// What is found has to be known; each try waits twice as long as the one before.
const TRIES: u32 = 6;
const HINT: &str = "use an endpoint that enforces conditional writes, or keep the register in DynamoDB";

impl S3Objects {
    /// For start-up: puts a small object under a name of its own with conditions that hold and conditions that don't,
    /// then deletes it. An error says what was found and what to do.
    pub async fn probe(&self) -> Result<(), ObjectError> {
        let backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_millis(1_600));
        for retries in 0..TRIES - 1 {
            match self.probe_once().await {
                // A service that is busy, or makes room for a new bucket.
                Err(ObjectError::Unknown { .. } | ObjectError::Transient { .. }) => {
                    tokio::time::sleep(backoff.limit(retries)).await
                }
                known => return known,
            }
        }
        self.probe_once().await
    }

    async fn probe_once(&self) -> Result<(), ObjectError> {
        let key = format!("probe/{}", Ulid(fastrand::u128(..)));
        let result = self.probe_at(&key).await;
        // Whatever was found: what is left of it is a few bytes that nobody reads.
        if let Err(error) = self.delete(&key).await {
            tracing::warn!(%error, key, "the object that conditional writes were tried on is left");
        }
        result
    }

    async fn probe_at(&self, key: &str) -> Result<(), ObjectError> {
        let full = self.full(key)?;
        let put = async |body: &'static str, when: When| self.bucket.put(&full, body.into(), &when).await;
        let first = put("1", When::Absent).await.map_err(|fault| self.unusable(key, "If-None-Match", fault))?;
        self.refused(put("2", When::Absent).await, "wrote over an object in spite of `If-None-Match: *`")?;
        let wrong = When::Matches("\"00000000000000000000000000000000\"".into());
        self.refused(put("3", wrong).await, "wrote over an object in spite of an `If-Match` with another tag")?;
        let right = When::Matches(first.clone());
        let second = put("4", right.clone()).await.map_err(|fault| self.unusable(key, "If-Match", fault))?;
        if second == first {
            return Err(self.cannot("gave two states of an object the same tag".into()));
        }
        self.refused(put("5", right).await, "wrote over an object in spite of an `If-Match` with its former tag")
    }

    fn refused(&self, put: Result<String, Fault>, otherwise: &str) -> Result<(), ObjectError> {
        match put {
            Err(fault) if matches!(fault.kind, FaultKind::Condition | FaultKind::Conflict) => Ok(()),
            // Only ours has this name: another answer is none.
            Err(fault) => Err(not_listed("try conditional writes in", &self.location(), fault)),
            Ok(_) => Err(self.cannot(otherwise.into())),
        }
    }

    /// A write that should have been applied was not.
    fn unusable(&self, key: &str, header: &str, fault: Fault) -> ObjectError {
        match fault.kind {
            FaultKind::Condition | FaultKind::Conflict | FaultKind::Invalid => {
                self.cannot(format!("refused a write whose `{header}` held ({fault})"))
            }
            _ => not_written(key, fault, false),
        }
    }

    fn cannot(&self, found: String) -> ObjectError {
        let reason = format!("its server {found}");
        ObjectError::Storage { what: "keep a register in", key: self.location(), reason, hint: HINT }
    }
}
