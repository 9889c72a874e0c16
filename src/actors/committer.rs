//! Gathers documents into commits. Without such groups, ten thousand documents would need ten thousand manifests.
//! Each process has only one committer. Several committers could use the sequence numbers of commits out of order.
//!
//! A commit is made when the group is large enough, when its first document has waited long enough, or when no other
//! claimed document can join the group. A single document therefore does not wait for documents that will never come.

use std::sync::Arc;
use std::time::Duration;

use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_core::model::ModelIdentity;
use docweir_core::ranges::out_of_range;
use docweir_index::VectorError;
use docweir_stores::control::{ClaimKey, ControlStore};
use docweir_target::{Capabilities, TargetWriter};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::actors::outcomes::{Claims, control};
use crate::messages::commit::{Commit, Committed};
use crate::supervisors::service::Inbox;

/// Limits the size of a commit. All documents of a commit become visible in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommitOptions {
    /// Maximum number of documents in one commit. Also limits the number of documents that wait for a commit. With a
    /// larger number, fewer commits are needed, but a failed commit repeats more documents.
    pub max_documents: usize,
    /// Maximum memory, in bytes, of the rows in one commit. A single document may exceed this limit.
    pub max_bytes: usize,
    /// Maximum time, in milliseconds, that a document waits for other documents to join its commit. With a longer
    /// wait, fewer commits are needed, but documents become visible later.
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
        let mut range = |field, value: u64, low, high| found.extend(out_of_range(field, value, low, high));
        range("max_documents", self.max_documents as u64, 1, 10_000);
        range("max_bytes", self.max_bytes as u64, 1 << 16, 1 << 30);
        range("max_wait_milliseconds", self.max_wait_milliseconds, 0, 60_000);
        found
    }
}

/// Writes groups of documents to the target, one commit per group.
pub struct Committer {
    pub writer: Box<dyn TargetWriter>,
    pub model: ModelIdentity,
    pub options: CommitOptions,
    /// Limits on one write to the target. The target refuses the whole group if the group exceeds a limit.
    pub target: Capabilities,
    /// Claims of this process. If all claimed documents already wait for the commit, no other document can join the
    /// group.
    pub claims: Arc<Claims>,
    pub control: Arc<dyn ControlStore>,
    /// Duration for which a claim is renewed before its document is committed.
    pub lease: Duration,
    /// Request that did not fit into the previous group.
    pub carried: Option<Commit>,
}

impl Committer {
    /// Writes commits until every sender is dropped. If a commit fails, an error is sent for each of its documents,
    /// and the pool retries these documents.
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
            // A worker may have stopped waiting because of a deadline or a drain. Its next attempt finds the document
            // loaded.
            let _ = answer.send(outcome.clone());
        }
    }

    /// First fixes the version on which the commit is based. Then returns the requests whose claims are still valid.
    /// [`TargetWriter::begin`] explains why this order matters.
    async fn still_wanted(&mut self, group: Vec<Commit>) -> Result<Vec<Commit>, (Vec<Commit>, StageError)> {
        if let Err(error) = self.writer.begin().await {
            return Err((group, error));
        }
        let claims: Vec<ClaimKey> = group.iter().map(|c| c.claim.clone()).collect();
        // An outage is not waited out here: each document's attempt has a deadline, and its pool waits instead.
        let lost = match self.control.renew(&claims, self.lease).await {
            Ok(lost) => lost,
            Err(error) => return Err((group, control(error))),
        };
        let (gone, held): (Vec<_>, Vec<_>) = group.into_iter().partition(|c| lost.contains(&c.claim));
        for commit in gone {
            // The pool drops the document without an error, because the process with the newer claim reports the
            // outcome.
            let error = StageError::transient("claim_lost", "the claim on the document is no longer valid");
            let _ = commit.answer.send(Err(error));
        }
        Ok(held)
    }
}

/// Converts an error of the vector store to an error of a stage.
pub fn store(error: &VectorError) -> StageError {
    StageError::new(error.class(), error.code(), error.to_string())
}
