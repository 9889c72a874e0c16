//! Tests whether an endpoint enforces conditional writes. The compare-and-swap of manifests needs such writes. If a
//! server accepts a condition but ignores it, commits are lost silently.

use std::time::Duration;

use docweir_aws::s3::When;
use docweir_aws::{Fault, FaultKind};
use docweir_core::backoff::Backoff;
use docweir_objects::{ObjectError, ObjectStore};
use ulid::Ulid;

use super::S3Objects;
use super::failure::{not_listed, not_written};

/// Number of attempts to get a definite result. The wait between attempts doubles each time.
const TRIES: u32 = 6;
const HINT: &str = "use an endpoint that enforces conditional writes, or set `buckets.register = \"dynamodb\"`";

impl S3Objects {
    /// Tests conditional writes on a small temporary object, both with conditions that hold and with conditions that do
    /// not hold. This test runs at start-up. The error says what the server did wrong and how to change the
    /// configuration.
    pub async fn probe(&self) -> Result<(), ObjectError> {
        let backoff = Backoff::doubling(Duration::from_millis(100), Duration::from_millis(1_600));
        for retries in 0..TRIES - 1 {
            match self.probe_once().await {
                // The service is busy, or is still setting up a new bucket.
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
        // The result is valid even if the object is not deleted. The object has only a few bytes, and no code reads
        // it.
        if let Err(error) = self.delete(&key).await {
            tracing::warn!(%error, key, "object of the conditional-write test not deleted");
        }
        result
    }

    async fn probe_at(&self, key: &str) -> Result<(), ObjectError> {
        let full = self.full(key)?;
        let put = async |body: &'static str, when: When| self.bucket.put(&full, body.into(), &when).await;
        let first = put("1", When::Absent).await.map_err(|fault| self.unusable(key, "If-None-Match", fault))?;
        self.refused(put("2", When::Absent).await, "overwrote an object despite `If-None-Match: *`")?;
        let wrong = When::Matches("\"00000000000000000000000000000000\"".into());
        self.refused(put("3", wrong).await, "overwrote an object despite an `If-Match` with another tag")?;
        let right = When::Matches(first.clone());
        let second = put("4", right.clone()).await.map_err(|fault| self.unusable(key, "If-Match", fault))?;
        if second == first {
            return Err(self.cannot("gave two versions of an object the same tag".into()));
        }
        self.refused(put("5", right).await, "overwrote an object despite an `If-Match` with its previous tag")
    }

    fn refused(&self, put: Result<String, Fault>, otherwise: &str) -> Result<(), ObjectError> {
        match put {
            Err(fault) if matches!(fault.kind, FaultKind::Condition | FaultKind::Conflict) => Ok(()),
            // The object's name is unique, so no other error can come from a concurrent writer.
            Err(fault) => Err(not_listed("test conditional writes in", &self.location(), fault)),
            Ok(_) => Err(self.cannot(otherwise.into())),
        }
    }

    /// Returns the error for a write that should have been applied but was not.
    fn unusable(&self, key: &str, header: &str, fault: Fault) -> ObjectError {
        match fault.kind {
            FaultKind::Condition | FaultKind::Conflict | FaultKind::Invalid => {
                self.cannot(format!("rejected a write whose `{header}` condition held ({fault})"))
            }
            _ => not_written(key, fault, false),
        }
    }

    fn cannot(&self, found: String) -> ObjectError {
        let reason = format!("the server {found}");
        ObjectError::Storage { what: "keep manifests in", key: self.location(), reason, hint: HINT }
    }
}
