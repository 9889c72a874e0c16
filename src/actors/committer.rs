//! The one committer of a process: gathers documents into commits, so that ten thousand documents are not ten
//! thousand manifests, and sequence numbers cannot land out of order.
//!
//! A commit is made when it is large enough, when the first document in it has waited long enough, or when nothing
//! else is on its way: a single document does not wait for company that will not come.

use std::sync::Arc;
use std::time::Duration;

use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_core::model::ModelIdentity;
use docweir_index::VectorError;
use docweir_stores::control::{ClaimKey, ControlStore};
use docweir_target::{Capabilities, TargetWriter};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::actors::outcomes::{Claims, control};
use crate::actors::retry_while_busy::retry_while_busy;
use crate::messages::commit::{Commit, Committed};
use crate::supervisors::RetryOptions;
use crate::supervisors::service::Inbox;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommitOptions {
    /// Documents in one commit at most. Also how many documents may wait for one.
    pub max_documents: usize,
    /// Memory of the rows in one commit, in bytes; one document may be larger.
    pub max_bytes: usize,
    /// Longest time that a document waits for others to share its commit, in milliseconds.
    pub max_wait_milliseconds: u64,
}

impl Default for CommitOptions {
    fn default() -> Self {
        Self { max_documents: 512, max_bytes: 32 << 20, max_wait_milliseconds: 1_000 }
    }
}

impl CommitOptions {
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        range("max_documents", self.max_documents as u64, 1, 10_000);
        range("max_bytes", self.max_bytes as u64, 1 << 16, 1 << 30);
        range("max_wait_milliseconds", self.max_wait_milliseconds, 0, 60_000);
        found
    }
}

pub struct Committer {
    pub writer: Box<dyn TargetWriter>,
    pub model: ModelIdentity,
    pub options: CommitOptions,
    /// What the target takes in one write: a group beyond it would be refused as a whole.
    pub target: Capabilities,
    /// How many documents are on their way: when all of them wait here, nobody else will come.
    pub claims: Arc<Claims>,
    pub control: Arc<dyn ControlStore>,
    pub retry: RetryOptions,
    /// How long a claim is valid.
    pub lease: Duration,
    /// Came when the group before it was full.
    pub carried: Option<Commit>,
}

impl Committer {
    /// Commits until every sender is gone. Documents whose commit failed are told so and tried again by their pool.
    pub async fn run(&mut self, inbox: &Inbox<Commit>) {
        loop {
            let first = match self.carried.take() {
                Some(carried) => carried,
                None => match inbox.receive().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let group = self.gather(first, inbox).await;
            self.commit(group).await;
        }
    }

    async fn gather(&mut self, first: Commit, inbox: &Inbox<Commit>) -> Vec<Commit> {
        let until = Instant::now() + Duration::from_millis(self.options.max_wait_milliseconds);
        let mut on_their_way = self.claims.watch();
        let most = self.options.max_documents.min(usize::try_from(self.target.max_documents).unwrap_or(usize::MAX));
        let (mut bytes, mut rows) = (first.bytes as u64, first.write.rows().len() as u64);
        let mut group = vec![first];
        while group.len() < most && bytes < self.options.max_bytes as u64 {
            let next = match inbox.try_receive() {
                Some(next) => next,
                None if group.len() >= *on_their_way.borrow_and_update() => break,
                None => tokio::select! {
                    next = inbox.receive() => match next {
                        Some(next) => next,
                        None => break,
                    },
                    _ = on_their_way.changed() => continue,
                    () = sleep_until(until) => break,
                },
            };
            bytes += next.bytes as u64;
            rows += next.write.rows().len() as u64;
            if bytes > self.target.max_bytes || rows > self.target.max_rows {
                self.carried = Some(next);
                break;
            }
            group.push(next);
        }
        group
    }

    async fn commit(&mut self, group: Vec<Commit>) {
        failpoint::reach("commit.begun", "");
        let (answers, outcome) = match self.still_wanted(group).await {
            Ok(group) if group.is_empty() => return,
            Ok(group) => {
                let (writes, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|c| (c.write, c.answer)).unzip();
                let written = self.writer.write(writes, &self.model).await;
                (answers, written.map(|written| Committed { manifest_version: written.version }))
            }
            Err((group, error)) => (group.into_iter().map(|c| c.answer).collect(), Err(error)),
        };
        failpoint::reach("commit.swapped", "");
        for answer in answers {
            // A pool that no longer waits (deadline, drain) finds the document loaded when it asks again.
            let _ = answer.send(outcome.clone());
        }
    }

    /// Fixes the base of the commit, and returns those of the group whose claims hold once it is known:
    /// [`TargetWriter::begin`] says why in this order.
    async fn still_wanted(&mut self, group: Vec<Commit>) -> Result<Vec<Commit>, (Vec<Commit>, StageError)> {
        if let Err(error) = self.writer.begin().await {
            return Err((group, error));
        }
        let claims: Vec<ClaimKey> = group.iter().map(|c| c.claim.clone()).collect();
        let lost = match retry_while_busy(&self.retry, || self.control.renew(&claims, self.lease)).await {
            Ok(lost) => lost,
            Err(error) => return Err((group, control(error))),
        };
        let (gone, held): (Vec<_>, Vec<_>) = group.into_iter().partition(|c| lost.contains(&c.claim));
        for commit in gone {
            // The pool drops it in silence: whoever holds the document now answers for it.
            let error = StageError::transient("claim_lost", "the claim on the document is no longer valid");
            let _ = commit.answer.send(Err(error));
        }
        Ok(held)
    }
}

/// How a store's failure counts for a document.
pub fn store(error: &VectorError) -> StageError {
    StageError::new(error.class(), error.code(), error.to_string())
}
