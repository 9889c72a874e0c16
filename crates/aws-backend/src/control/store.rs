//! Implements the operations of the control store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use docweir_aws::DynamoOptions;
use docweir_aws::dynamo::{Dynamo, Expression, Item, Page, Query};
use docweir_aws::{Aws, Fault};
use docweir_core::clock::{SharedClock, timestamp};
use docweir_core::documents::{DocumentId, Sha256Hex, Stage};
use docweir_stores::control::*;
use tokio::time::Instant;

use super::decide::{Command, ControlReply};
use super::failure::told;
use super::items;
use super::items::SourceEntry;
use super::tables::{BY_AGE, BY_ID, FORGET_AT, HASH, PARKED, UNTIL, URGENT, URGENT_FOR, YES};
use super::writer::{ControlWriter, Subject};

/// Number of candidates that are read for each document to be claimed. One is not enough, because other replicas
/// claim the same candidates.
const CROWD: usize = 4;
/// Minimum time between two searches for documents of dead processes. This minimum applies only while enough other
/// documents are pending. If too few are pending, every claim searches for documents of dead processes.
const LOOK: Duration = Duration::from_secs(5);
/// Number of documents that are resumed or marked as loaded in one step.
const STEP: usize = 500;

pub struct DynamoControlStore {
    location: String,
    pub(super) dynamo: Dynamo,
    pub(super) options: DynamoOptions,
    pub(super) clock: SharedClock,
    pub(super) writer: ControlWriter,
    /// Time of the last search for documents of dead processes.
    looked_at: Mutex<Option<Instant>>,
    /// True if other replicas claimed most of the documents that the last claim tried.
    crowded: AtomicBool,
}

/// Returns the condition that a document has this status.
fn has_status(status: DocumentStatus) -> Expression {
    Expression::new("#status = :status").name("#status", "status").string(":status", rules::name(status))
}

/// Returns the time of the last change and the id of a document, from its entry in an index.
fn entry(item: &Item) -> Option<(String, DocumentId)> {
    let id = DocumentId::parse(items::text(item, HASH)?)?;
    Some((items::text(item, "updated_at")?.to_owned(), id))
}

impl DynamoControlStore {
    /// Opens the store without sending a request, so a missing table is reported by the first call.
    pub fn open(aws: &Aws, dynamo: Dynamo, options: DynamoOptions, clock: SharedClock) -> Self {
        let region = aws.region().map(|region| format!(" in {region}")).unwrap_or_default();
        let location = format!("DynamoDB table {}{region}", options.control_table);
        let writer = ControlWriter::start(dynamo.clone(), options.clone(), &location, clock.clone());
        Self { location, dynamo, options, clock, writer, looked_at: Mutex::default(), crowded: AtomicBool::new(false) }
    }

    pub(super) fn failed(&self, fault: Fault) -> ControlError {
        told(&self.location, &fault)
    }

    pub(super) async fn on(&self, id: &DocumentId, command: Command) -> Result<ControlReply, ControlError> {
        self.writer.ask(Subject::Id(id.clone()), command).await
    }

    async fn key_of(&self, id: &DocumentId, command: Command) -> Result<DocumentKey, ControlError> {
        match self.on(id, command).await? {
            ControlReply::Key(key) => Ok(key),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn unexpected(&self, answer: &ControlReply) -> ControlError {
        let reason = format!("an operation returned the unexpected reply {answer:?}");
        ControlError::Storage { location: self.location.clone(), reason, hint: "report this with the log" }
    }

    async fn page(&self, query: &Query) -> Result<Page, ControlError> {
        self.dynamo.query(query).await.map_err(|fault| self.failed(fault))
    }

    fn by_status(&self, index: &str, status: DocumentStatus) -> Query {
        Query {
            table: self.options.control_table.clone(),
            index: Some(index.to_owned()),
            key: has_status(status),
            ..Query::default()
        }
    }

    /// Returns the documents that may be claimed, as pairs of last-change time and document id. If `start` is `None`,
    /// the list begins with the documents that a user asked to process, and may contain documents of dead processes.
    /// Pending documents follow. The second value is the position at which the list of pending documents continues.
    /// Pass this position as `start` to the next call.
    async fn line(
        &self,
        owner: &str,
        limit: usize,
        only: Option<ClaimFilter>,
        start: Option<Item>,
    ) -> Result<(Vec<(String, DocumentId)>, Option<Item>), ControlError> {
        let wanted =
            |item: &Item| only != Some(ClaimFilter::Deletions) || items::text(item, "intent") == Some("DELETE");
        if start.is_some() {
            let (mut line, next) = self.pending_line(limit, start).await?;
            self.spread(&mut line, limit);
            return Ok((line, next));
        }
        let mut line = Vec::new();
        let mut urgent = Query {
            table: self.options.control_table.clone(),
            index: Some(URGENT.to_owned()),
            key: Expression::new(format!("{URGENT_FOR} = :yes")).string(":yes", YES),
            // Other writers may leave the mark on a record that is done.
            filter: Some(has_status(DocumentStatus::Pending)),
            limit: Some((limit * CROWD).max(50)),
            ..Query::default()
        };
        loop {
            let page = self.page(&urgent).await?;
            line.extend(page.items.iter().filter(|item| wanted(item)).filter_map(entry));
            urgent.start = page.next;
            if line.len() >= limit || urgent.start.is_none() {
                break;
            }
        }
        let (pending, next) = match only {
            None => self.pending_line(limit, None).await?,
            Some(_) => (Vec::new(), None),
        };
        // The index may not list a document yet that this process has just made pending.
        let recent = if only == Some(ClaimFilter::Commands) { Vec::new() } else { self.writer.recently_pending() };
        // If enough documents are pending, the search for those of dead processes may wait.
        let looks = only != Some(ClaimFilter::Commands) && (line.len() + pending.len() < limit || self.look_is_due());
        let left = if looks { self.left_behind(owner).await? } else { Vec::new() };
        let mut left: Vec<_> = left.iter().filter(|item| wanted(item)).filter_map(entry).collect();
        left.sort();
        // Documents that were already started take precedence over other pending ones: they are older, although their
        // last change is later.
        line.extend(left);
        let mut others = [pending, recent].concat();
        others.sort();
        self.spread(&mut others, limit);
        line.extend(others);
        let mut seen = HashSet::new();
        line.retain(|(_, id)| seen.insert(id.clone()));
        Ok((line, next))
    }

    /// Returns the documents in progress whose lease has expired, except those of `owner`.
    async fn left_behind(&self, owner: &str) -> Result<Vec<Item>, ControlError> {
        // All replicas together have only a few hundred documents in progress.
        let now = timestamp(self.clock.now());
        let ended = |item: &Item| {
            let over = items::text(item, "lease_expires_at").unwrap_or_default() <= now.as_str();
            over && items::text(item, "lease_owner") != Some(owner)
        };
        let mut in_progress = self.by_status(BY_AGE, DocumentStatus::InProgress);
        let mut left = Vec::new();
        loop {
            let page = self.page(&in_progress).await?;
            left.extend(page.items.into_iter().filter(ended));
            in_progress.start = page.next;
            if in_progress.start.is_none() {
                return Ok(left);
            }
        }
    }

    /// Lets a list begin at a random place if other replicas claim the same documents.
    fn spread(&self, line: &mut [(String, DocumentId)], limit: usize) {
        if self.crowded.load(Ordering::Relaxed) && line.len() > limit {
            line.rotate_left(fastrand::usize(..=line.len() - limit));
        }
    }

    /// Returns pending documents, the earliest first, and the position at which the list continues.
    async fn pending_line(
        &self,
        limit: usize,
        start: Option<Item>,
    ) -> Result<(Vec<(String, DocumentId)>, Option<Item>), ControlError> {
        let limit_of_page = Some((limit * CROWD).max(50));
        let query = Query { limit: limit_of_page, start, ..self.by_status(BY_AGE, DocumentStatus::Pending) };
        let page = self.page(&query).await?;
        Ok((page.items.iter().filter_map(entry).collect(), page.next))
    }

    /// Returns whether a search for documents of dead processes is due. If a search is due, records the current time
    /// as the start of this search.
    fn look_is_due(&self) -> bool {
        let mut last = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = last.is_none_or(|last| now.duration_since(last) >= LOOK);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Resumes the documents that the index of parked documents lists under the hash key `what`. Returns the number of
    /// resumed documents. If `until` is set, resumes only documents that wait for a time up to `until`.
    async fn resume_parked(&self, what: &str, until: Option<&str>, event: Option<&str>) -> Result<u64, ControlError> {
        let key = match until {
            Some(until) => Expression::new("parked_for = :for AND parked_until <= :until").string(":until", until),
            None => Expression::new("parked_for = :for"),
        };
        let mut query = Query {
            table: self.options.control_table.clone(),
            index: Some(PARKED.to_owned()),
            key: key.string(":for", what),
            filter: Some(has_status(DocumentStatus::Parked)),
            limit: Some(STEP),
            ..Query::default()
        };
        let ask = |id| (Subject::Id(id), Command::Resume { word: event.map(str::to_owned) });
        let mut resumed = 0;
        loop {
            let page = self.page(&query).await?;
            let ids = page.items.iter().filter_map(|item| DocumentId::parse(items::text(item, HASH)?));
            for answer in self.writer.ask_all(ids.map(ask).collect()).await {
                resumed += u64::from(matches!(answer?, ControlReply::Yes(true)));
            }
            // The query continues by key instead of starting again. The index lags, so it may still list resumed
            // documents.
            query.start = page.next;
            if query.start.is_none() {
                return Ok(resumed);
            }
        }
    }

    async fn entry(&self, source: &str) -> Result<Option<SourceEntry>, ControlError> {
        let found = self.dynamo.get(&self.options.state_table, items::source_key(source), true).await;
        Ok(found.map_err(|fault| self.failed(fault))?.as_ref().and_then(items::source_entry))
    }

    async fn item_of(&self, id: &DocumentId) -> Result<Option<ControlRecord>, ControlError> {
        let found = self.dynamo.get(&self.options.control_table, items::key(id), true).await;
        let now = self.clock.now().div_euclid(1_000_000);
        match found.map_err(|fault| self.failed(fault))? {
            Some(item) if !items::is_over(&item, FORGET_AT, now) => Ok(Some(self.readable(&item)?)),
            _ => Ok(None),
        }
    }

    fn readable(&self, item: &Item) -> Result<ControlRecord, ControlError> {
        let hint = "correct the item, or delete it and submit its file again";
        items::record(item).map_err(|reason| ControlError::Storage { location: self.location.clone(), reason, hint })
    }

    /// Returns the next ids of documents with a status, in ascending order.
    async fn ids(
        &self,
        status: DocumentStatus,
        source_prefix: &str,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<DocumentId>, ControlError> {
        let mut query = self.by_status(BY_ID, status);
        if let Some(after) = after {
            query.key = Expression::new("#status = :status AND document_id > :after")
                .name("#status", "status")
                .string(":status", rules::name(status))
                .string(":after", after.as_str());
        }
        let mut found = Vec::new();
        loop {
            query.limit = Some(limit.max(100));
            let page = self.page(&query).await?;
            let matches = |item: &&Item| {
                // Items of other writers may have no source in the index. They are accepted here, and the source in
                // the record is checked later.
                items::text(item, "source").is_none_or(|source| source.starts_with(source_prefix))
            };
            found.extend(page.items.iter().filter(matches).filter_map(|i| DocumentId::parse(items::text(i, HASH)?)));
            query.start = page.next;
            if found.len() >= limit || query.start.is_none() {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }
}

#[async_trait]
impl ControlStore for DynamoControlStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    async fn register(&self, documents: Vec<NewDocument>) -> Result<Vec<Registered>, ControlError> {
        let ask = |document: NewDocument| (Subject::Source(document.source.clone()), Command::Register(document));
        let answers = self.writer.ask_all(documents.into_iter().map(ask).collect()).await;
        answers
            .into_iter()
            .map(|answer| match answer? {
                ControlReply::Registered(registered) => Ok(registered),
                other => Err(self.unexpected(&other)),
            })
            .collect()
    }

    async fn claim(
        &self,
        owner: &str,
        lease: Duration,
        limit: usize,
        only: Option<ClaimFilter>,
    ) -> Result<Vec<Claim>, ControlError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut claims: Vec<Claim> = Vec::new();
        let mut start = None;
        loop {
            let (mut line, next) = self.line(owner, limit, only, start).await?;
            while claims.len() < limit && !line.is_empty() {
                let tried: Vec<_> = line.drain(..line.len().min(limit - claims.len())).collect();
                let ask = |(_, id): &(String, DocumentId)| {
                    let command = Command::Claim { owner: owner.to_owned(), lease, only };
                    (Subject::Id(id.clone()), command)
                };
                let before = claims.len();
                let answers = self.writer.ask_all(tried.iter().map(ask).collect()).await;
                let mut failure = None;
                for answer in answers {
                    match answer {
                        Ok(ControlReply::Claimed(claim)) => claims.extend(claim.map(|claim| *claim)),
                        Ok(other) => failure = Some(self.unexpected(&other)),
                        Err(error) => failure = Some(error),
                    }
                }
                if only.is_none() {
                    self.crowded.store((claims.len() - before) * 2 < tried.len(), Ordering::Relaxed);
                }
                match failure {
                    Some(error) if claims.is_empty() => return Err(error),
                    // The claims that succeeded must be returned.
                    Some(error) => {
                        tracing::warn!(%error, "some documents not claimed");
                        line.clear();
                    }
                    None => {}
                }
            }
            // Other replicas may have claimed all candidates, but further ones may still be free.
            start = next;
            if !claims.is_empty() || start.is_none() {
                break;
            }
        }
        Ok(claims)
    }

    async fn pending(&self, at_most: usize) -> Result<usize, ControlError> {
        let mut query = self.by_status(BY_AGE, DocumentStatus::Pending);
        let mut count = 0;
        loop {
            query.limit = Some(at_most - count);
            let page = self.page(&query).await?;
            count += page.items.len();
            query.start = page.next;
            if count >= at_most || query.start.is_none() {
                return Ok(count.min(at_most));
            }
        }
    }

    async fn renew(&self, claims: &[ClaimKey], lease: Duration) -> Result<Vec<ClaimKey>, ControlError> {
        let ask = |claim: &ClaimKey| (Subject::Id(claim.id.clone()), Command::Renew { claim: claim.clone(), lease });
        let answers = self.writer.ask_all(claims.iter().map(ask).collect()).await;
        let mut lost = Vec::new();
        for (claim, answer) in claims.iter().zip(answers) {
            if !matches!(answer?, ControlReply::Yes(true)) {
                lost.push(claim.clone());
            }
        }
        Ok(lost)
    }

    /// Ends no lease and returns 0. In a local store, a lock on the state folder proves that all other processes are
    /// dead. This store has no such lock, so the leases of other processes end only when they expire.
    async fn expire_leases_of_others(&self, _: &str) -> Result<u64, ControlError> {
        Ok(0)
    }

    async fn apply(&self, claim: &ClaimKey, transition: Transition) -> Result<(), ControlError> {
        self.on(&claim.id, Command::Apply { claim: claim.clone(), transition }).await.map(drop)
    }

    async fn set_children(&self, claim: &ClaimKey, children: Vec<NewDocument>) -> Result<ChildChanges, ControlError> {
        self.declare_children(claim, children).await
    }

    async fn register_changed(&self, claim: &ClaimKey, document: NewDocument) -> Result<Registered, ControlError> {
        let command = Command::RegisterChanged { claim: claim.clone(), document };
        match self.on(&claim.id, command).await? {
            ControlReply::Registered(registered) => Ok(registered),
            other => Err(self.unexpected(&other)),
        }
    }

    async fn reversion(&self, claim: &ClaimKey, fingerprint: &Sha256Hex) -> Result<Claim, ControlError> {
        let command = Command::Reversion { claim: claim.clone(), fingerprint: fingerprint.clone() };
        match self.on(&claim.id, command).await? {
            ControlReply::Claimed(Some(claim)) => Ok(*claim),
            other => Err(self.unexpected(&other)),
        }
    }

    async fn mark_loaded(&self, keys: &[DocumentKey]) -> Result<u64, ControlError> {
        let mut completed = 0;
        for step in keys.chunks(STEP) {
            let ask = |key: &DocumentKey| (Subject::Id(key.id.clone()), Command::MarkLoaded { version: key.version });
            for answer in self.writer.ask_all(step.iter().map(ask).collect()).await {
                completed += u64::from(matches!(answer?, ControlReply::Yes(true)));
            }
        }
        Ok(completed)
    }

    async fn reset(&self, id: &DocumentId, from: Option<Stage>) -> Result<DocumentKey, ControlError> {
        self.key_of(id, Command::Reset { from }).await
    }

    async fn hold(&self, id: &DocumentId, from: Option<Stage>, reason: &str) -> Result<DocumentKey, ControlError> {
        self.key_of(id, Command::Hold { from, reason: reason.to_owned() }).await
    }

    async fn request_delete(&self, id: &DocumentId) -> Result<DocumentKey, ControlError> {
        self.key_of(id, Command::Delete).await
    }

    async fn discard(&self, id: &DocumentId) -> Result<(), ControlError> {
        self.on(id, Command::Discard).await.map(drop)
    }

    async fn resume(&self, event: Option<&str>) -> Result<u64, ControlError> {
        let now = timestamp(self.clock.now());
        let mut resumed = self.resume_parked(UNTIL, Some(&now), event).await?;
        if let Some(word) = event {
            resumed += self.resume_parked(&items::on(word), None, event).await?;
        }
        Ok(resumed)
    }

    async fn record(&self, id: &DocumentId) -> Result<ControlRecord, ControlError> {
        self.item_of(id).await?.ok_or_else(|| ControlError::NotFound(id.to_string()))
    }

    async fn by_source(&self, source: &str) -> Result<Option<ControlRecord>, ControlError> {
        match self.entry(source).await?.and_then(|entry| DocumentId::parse(&entry.document)) {
            Some(id) => self.item_of(&id).await,
            None => Ok(None),
        }
    }

    async fn seen(&self, sources: &[String]) -> Result<Vec<(KnownObject, ControlRecord)>, ControlError> {
        let keys: HashSet<&String> = sources.iter().collect();
        let keys = keys.into_iter().map(|source| items::source_key(source)).collect();
        let found = self.dynamo.get_many(&self.options.state_table, keys, true).await;
        let found = found.map_err(|fault| self.failed(fault))?;
        let entries = found.iter().filter_map(items::source_entry);
        let mut seen: HashMap<DocumentId, KnownObject> =
            entries.filter_map(|entry| Some((DocumentId::parse(&entry.document)?, entry.seen?))).collect();
        let found =
            self.dynamo.get_many(&self.options.control_table, seen.keys().map(items::key).collect(), true).await;
        let now = self.clock.now().div_euclid(1_000_000);
        let found = found.map_err(|fault| self.failed(fault))?;
        // Records that cannot be parsed are omitted.
        let records = found.iter().filter(|item| !items::is_over(item, FORGET_AT, now));
        let records = records.filter_map(|item| items::record(item).ok());
        Ok(records.filter_map(|record| Some((seen.remove(&record.document_id)?, record))).collect())
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<ControlRecord>, ControlError> {
        let prefix = filter.source_prefix.as_deref().unwrap_or_default();
        let now = self.clock.now().div_euclid(1_000_000);
        let mut records: Vec<ControlRecord> = Vec::new();
        let mut after = after.cloned();
        loop {
            let mut ids = Vec::new();
            for status in
                DocumentStatus::ALL.into_iter().filter(|status| filter.status.is_none_or(|only| only == *status))
            {
                ids.extend(self.ids(status, prefix, after.as_ref(), limit).await?);
            }
            ids.sort();
            // The index lags slightly and may list a document under two statuses.
            ids.dedup();
            ids.truncate(limit - records.len());
            let Some(last) = ids.last().cloned() else { break };
            let keys = ids.iter().map(items::key).collect();
            let found = self.dynamo.get_many(&self.options.control_table, keys, false).await;
            for item in found.map_err(|fault| self.failed(fault))? {
                if items::is_over(&item, FORGET_AT, now) {
                    continue;
                }
                match items::record(&item) {
                    Ok(record) if record.source.starts_with(prefix) => {
                        let wanted = filter.status.is_none_or(|only| only == record.status);
                        records.extend(wanted.then_some(record));
                    }
                    Ok(_) => {}
                    Err(reason) => tracing::warn!(reason, "unreadable control record omitted"),
                }
            }
            after = Some(last);
            // To the caller, a page that is too short would mean that no more records follow.
            if records.len() >= limit {
                break;
            }
        }
        records.sort_by(|a, b| a.document_id.cmp(&b.document_id));
        Ok(records)
    }

    async fn counts(&self) -> Result<StatusCounts, ControlError> {
        let mut counts = StatusCounts::new();
        for status in DocumentStatus::ALL {
            let count = self.dynamo.count(&self.by_status(BY_ID, status)).await.map_err(|fault| self.failed(fault))?;
            if count > 0 {
                counts.insert(rules::name(status).to_owned(), count);
            }
        }
        Ok(counts)
    }

    async fn audit(&self, id: &DocumentId, after: Option<&str>, limit: usize) -> Result<Vec<AuditEvent>, ControlError> {
        let key = Expression::new("document_id = :id AND #at > :after")
            .name("#at", "timestamp")
            .string(":id", id.as_str())
            .string(":after", after.filter(|after| !after.is_empty()).unwrap_or("0"));
        let mut query = Query {
            table: self.options.audit_table.clone(),
            key,
            consistent: true,
            limit: Some(limit),
            ..Query::default()
        };
        let now = self.clock.now().div_euclid(1_000_000);
        let mut events = Vec::new();
        loop {
            let page = self.page(&query).await?;
            events.extend(page.items.into_iter().filter(|i| !items::is_over(i, "ttl", now)).filter_map(items::audit));
            query.start = page.next;
            if events.len() >= limit || query.start.is_none() {
                events.truncate(limit);
                return Ok(events);
            }
        }
    }

    async fn flush(&self) -> Result<(), ControlError> {
        self.writer.flush().await;
        Ok(())
    }
}
