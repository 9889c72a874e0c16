//! Writes control records in one task per process, which combines several documents in a transaction.
//!
//! Commands wait in a bounded queue. The task takes the waiting commands and reads their documents in one call. It
//! then decides the commands, and writes as many documents as fit into a transaction, each with its audit entries. If
//! sixteen workers send one command each, the task thus needs only two calls: one read and one transaction. Each
//! document is written on condition that it is unchanged since it was read. If another replica or a person has changed
//! a document, that document is read and decided again on its own. Other documents are not delayed.
//!
//! If the reply to a transaction is lost, the transaction may have been applied. To find out, the task reads the
//! transaction's documents again and compares write ids. Each document contains the id of the write that was applied
//! to it last.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use docweir_aws::DynamoOptions;
use docweir_aws::dynamo::{Cancelled, Dynamo, Expression, Item, Write};
use docweir_aws::{Fault, FaultKind};
use docweir_core::backoff::Backoff;
use docweir_core::clock::{SharedClock, UnixMicros, parse_timestamp, timestamp};
use docweir_core::documents::DocumentId;
use docweir_stores::control::rules::{self, Effects};
use docweir_stores::control::stamps::Stamps;
use docweir_stores::control::{AuditEvent, ClaimKey, ControlError, ControlRecord, DocumentStatus, KnownObject};
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::daily::Daily;
use super::decide::{Command, ControlReply, Current, Decided, decide};
use super::failure::told;
use super::fence;
use super::items::{self, SourceEntry, WRITE_ID, string};
use super::pending::{Document, Prepared, already_applied, answer, documents, packed, unreadable};
use super::recent::Recent;
use super::tables::{FORGET_AT, HASH};

/// Largest clock difference that is corrected. If this process's clock is behind the last writer's clock by less than
/// this value, a write gets a timestamp just after the last write. If the difference is larger, a write gets the time
/// of this process's clock.
const MAX_SKEW: UnixMicros = 10 * 60 * 1_000_000;
/// Wait times between the attempts of a write.
const BACKOFF: Backoff = Backoff::doubling(Duration::from_millis(10), Duration::from_millis(640)).with_jitter(0.5, 1.5);
/// Maximum time spent on finding out whether a write was applied. DynamoDB remembers the write's idempotency token
/// for this long.
const LONGEST: Duration = Duration::from_secs(600);
const DAY_SECONDS: i64 = 86_400;

/// Identifies the document that a command applies to, by its id or its source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Id(DocumentId),
    Source(String),
}

type Reply = oneshot::Sender<Result<ControlReply, ControlError>>;

pub struct Job {
    pub subject: Subject,
    pub command: Command,
    pub reply: Reply,
}

/// Sends commands to the task that writes control records.
#[derive(Clone)]
pub struct ControlWriter {
    location: Arc<str>,
    jobs: mpsc::Sender<Message>,
    recent: Arc<Recent>,
}

enum Message {
    Job(Box<Job>),
    /// Asks the task to write the collected daily metrics now.
    Flush(oneshot::Sender<()>),
}

impl ControlWriter {
    pub fn start(dynamo: Dynamo, options: DynamoOptions, location: &str, clock: SharedClock) -> Self {
        let (jobs, queue) = mpsc::channel(options.queue_operations.max(1));
        let location: Arc<str> = location.into();
        let daily = Daily::new(dynamo.clone(), options.metrics_table.clone());
        let recent = Arc::new(Recent::default());
        let task = Task {
            recent: recent.clone(),
            dynamo,
            options,
            location: location.clone(),
            clock,
            stamps: Stamps::default(),
            daily,
            last: 0,
            uncertain: Vec::new(),
        };
        tokio::spawn(task.run(queue));
        Self { location, jobs, recent }
    }

    /// Returns the documents that this process made pending recently. An index may not contain them yet.
    pub fn recently_pending(&self) -> Vec<(String, DocumentId)> {
        self.recent.list()
    }

    /// Executes a command and returns when its result is durable.
    pub async fn ask(&self, subject: Subject, command: Command) -> Result<ControlReply, ControlError> {
        let (reply, answer) = oneshot::channel();
        let job = Message::Job(Box::new(Job { subject, command, reply }));
        self.jobs.send(job).await.map_err(|_| self.ended())?;
        answer.await.map_err(|_| self.ended())?
    }

    /// Executes several commands as [`ControlWriter::ask`] does. The answers are in the order of the commands.
    pub async fn ask_all(&self, asked: Vec<(Subject, Command)>) -> Vec<Result<ControlReply, ControlError>> {
        join_all(asked.into_iter().map(|(subject, command)| self.ask(subject, command))).await
    }

    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        if self.jobs.send(Message::Flush(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    fn ended(&self) -> ControlError {
        ControlError::Storage {
            location: self.location.to_string(),
            reason: "the writer has stopped; see the log".into(),
            hint: "restart docweir, and report this with the log",
        }
    }
}

/// Holds a document as it was read.
struct Read {
    found: Current,
    /// Item that was read, with all its attributes.
    item: Item,
    /// Source whose entry must be written, because the entry is missing or names a deleted document.
    source: Option<SourceItem>,
    /// Tag and content hash of the source's object, as stored in the source's entry.
    seen: Option<KnownObject>,
}

/// Holds a source, and the document id in the stored entry of this source.
struct SourceItem {
    source: String,
    /// Id of the document that the entry names now; `None` if the source has no entry. The named document may no
    /// longer exist.
    named: Option<String>,
}

struct Task {
    recent: Arc<Recent>,
    dynamo: Dynamo,
    options: DynamoOptions,
    location: Arc<str>,
    clock: SharedClock,
    stamps: Stamps,
    daily: Daily,
    /// Timestamp of the last write of this process.
    last: UnixMicros,
    /// Documents whose last write may have been applied. They are tried again between other commands, so that the other
    /// commands do not wait for them.
    uncertain: Vec<Document>,
}

impl Task {
    async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let put_off = Duration::from_secs(self.options.metrics_seconds);
        let pace = Duration::from_millis(self.options.pace_milliseconds);
        let mut begins = Instant::now();
        loop {
            let idle = if self.uncertain.is_empty() { put_off } else { put_off.min(BACKOFF.cap) };
            let first = match timeout(idle, queue.recv()).await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) if !self.uncertain.is_empty() => {
                    self.work(Vec::new()).await;
                    continue;
                }
                Err(_) => {
                    self.daily.write(self.clock.now()).await;
                    continue;
                }
            };
            let mut jobs = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Job(job) => jobs.push(*job),
                    Message::Flush(reply) => {
                        self.work(std::mem::take(&mut jobs)).await;
                        self.resolve().await;
                        self.daily.write(self.clock.now()).await;
                        let _ = reply.send(());
                    }
                }
                if jobs.len() < self.options.batch_operations {
                    // Commands that are already waiting are taken even if the time is over.
                    next = timeout_at(begins, queue.recv()).await.unwrap_or_default();
                }
            }
            begins = Instant::now() + pace;
            self.work(jobs).await;
            if self.daily.is_due(self.clock.now(), put_off) {
                self.daily.write(self.clock.now()).await;
            }
        }
        self.resolve().await;
        self.daily.write(self.clock.now()).await;
    }

    /// Waits until no write has an unknown outcome.
    async fn resolve(&mut self) {
        while !self.uncertain.is_empty() {
            self.work(Vec::new()).await;
            sleep(BACKOFF.cap).await;
        }
    }

    /// Executes all commands and replies to each, except to those whose writes have an unknown outcome after some
    /// attempts. These are kept, and each call makes one more attempt.
    async fn work(&mut self, jobs: Vec<Job>) {
        let mut open = std::mem::take(&mut self.uncertain);
        open.extend(documents(jobs));
        let mut tries: u32 = 0;
        let began = Instant::now();
        while !open.is_empty() {
            // Documents that may already be written come first, because further commands on them depend on the
            // result.
            open.sort_by_key(|document| document.uncertain.is_empty());
            let (again, fault) = self.round(open).await;
            open = again;
            let Some(fault) = fault else { continue };
            tries += 1;
            // If a write may have been applied, its document is kept until the service can no longer apply the write.
            // Further commands on the document must not overtake it, so it takes part in every round.
            let is_kept = |d: &Document| !d.uncertain.is_empty() && d.began.elapsed() <= LONGEST;
            if tries >= self.options.attempts || open.iter().all(|d| is_kept(d) && d.began < began) {
                let (kept, given_up): (Vec<_>, Vec<_>) = open.into_iter().partition(is_kept);
                self.uncertain = kept;
                if !given_up.is_empty() {
                    tracing::warn!(%fault, documents = given_up.len(), "control store not written; commands failed");
                }
                for job in given_up.into_iter().flat_map(|document: Document| document.jobs) {
                    let _ = job.reply.send(Err(ControlError::Busy(format!("{} ({fault})", self.location))));
                }
                return;
            }
            sleep(BACKOFF.wait(tries, fastrand::f64())).await;
        }
    }

    /// Makes one attempt to read the documents, to decide the outcome of each command, and to write the results. Returns
    /// the documents that need another attempt, and the fault if a call failed.
    async fn round(&mut self, documents: Vec<Document>) -> (Vec<Document>, Option<Fault>) {
        let (mut reads, valid) = match self.read(&documents).await {
            Ok(read) => read,
            Err(fault) if fault.kind.can_pass() => return (documents, Some(fault)),
            Err(fault) => {
                // It stays unknown whether an earlier write was applied, so its document is kept.
                let (kept, failed): (Vec<_>, Vec<_>) = documents.into_iter().partition(|d| !d.uncertain.is_empty());
                self.fail(failed, &fault);
                let fault = (!kept.is_empty()).then_some(fault);
                return (kept, fault);
            }
        };
        let now = self.clock.now();
        let (mut again, mut prepared, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        let mut seen_subjects = HashSet::new();
        for document in documents {
            let Some(read) = reads.remove(&document.subject) else {
                match seen_subjects.contains(&document.subject) {
                    true => again.push(document),
                    false => unreadable(document),
                }
                continue;
            };
            seen_subjects.insert(document.subject.clone());
            // Each document is written once per round, although commands may name its id as well as its source.
            if !seen.insert(id_of(&read.found)) {
                again.push(document);
                continue;
            }
            let document = match already_applied(document, &read.item) {
                Ok((document, applied)) => {
                    self.done(document, applied);
                    continue;
                }
                Err(document) => document,
            };
            if let Some(claim) = document.under.clone().filter(|claim| !valid.contains(&**claim)) {
                let fenced = document.jobs.iter().map(|_| Err(ControlError::Fenced((*claim).clone()))).collect();
                answer(document, fenced);
                continue;
            }
            let ready = self.prepare(&document, read, now);
            if ready.writes.is_empty() {
                answer(document, ready.answers);
            } else {
                prepared.push((document, ready));
            }
        }
        let parts = packed(prepared);
        let (dynamo, table) = (&self.dynamo, &self.options.control_table);
        let written = join_all(parts.into_iter().map(|part| async move {
            let mut writes: Vec<Write> = part.iter().flat_map(|(_, p)| p.writes.iter().cloned()).collect();
            // All documents of a part depend on the same claim. The check of the claim comes last, because reasons
            // are reported by position.
            writes.extend(part.first().and_then(|(d, _)| d.under.as_deref()).map(|claim| fence::check(table, claim)));
            let outcome = dynamo.transact(&super::new_token(), writes).await;
            (part, outcome)
        }));
        let mut failed = None;
        for (part, outcome) in written.await {
            match outcome {
                Ok(()) => {
                    for (document, done) in part {
                        self.done(document, done);
                    }
                }
                Err(cancelled) => {
                    failed = Some(cancelled.fault.clone());
                    again.extend(self.not_written(part, &cancelled));
                }
            }
        }
        (again, failed)
    }

    /// Replies to the commands on a document after the document was written, and collects the metrics of these
    /// commands.
    fn done(&mut self, document: Document, prepared: Prepared) {
        if let Some((id, pending_since)) = &prepared.left {
            self.recent.note(id, pending_since.as_deref());
        }
        self.daily.add(prepared.metrics);
        answer(document, prepared.answers);
    }

    /// Handles a failed transaction, and returns those of its documents that must be tried again. The transaction was
    /// not applied, or its outcome is unknown.
    fn not_written(&self, part: Vec<(Document, Prepared)>, cancelled: &Cancelled) -> Vec<Document> {
        let kind = cancelled.fault.kind;
        // The fault belongs to the last attempt. An earlier attempt may have been applied without a reply.
        let keep = |(mut document, prepared): (Document, Prepared)| {
            document.uncertain.push(prepared);
            document
        };
        if kind.can_pass() || kind == FaultKind::Condition {
            return part.into_iter().map(keep).collect();
        }
        // The service does not say which document is invalid, so each is tried on its own.
        if cancelled.reasons.is_empty() && part.len() > 1 {
            let alone = |(document, _)| Document { alone: true, ..document };
            return part.into_iter().map(alone).collect();
        }
        // The invalid documents fail, and the other documents of the transaction are tried again.
        let mut reasons = cancelled.reasons.iter();
        let (mut again, mut bad) = (Vec::new(), Vec::new());
        let whole = cancelled.reasons.is_empty();
        for (document, prepared) in part {
            let mine = reasons.by_ref().take(prepared.writes.len());
            let refused = mine.fold(whole, |bad, reason| bad || *reason == Some(FaultKind::Invalid));
            // It stays unknown whether an earlier write of the document was applied.
            let keeps = kind == FaultKind::Denied && !document.uncertain.is_empty();
            if refused && !keeps { bad.push(document) } else { again.push(document) }
        }
        self.fail(bad, &cancelled.fault);
        again
    }

    fn fail(&self, documents: Vec<Document>, fault: &Fault) {
        for job in documents.into_iter().flat_map(|document| document.jobs) {
            let _ = job.reply.send(Err(told(&self.location, fault)));
        }
    }

    /// Reads the documents of the commands, and determines which claims on parent documents are valid. Omits
    /// documents whose items cannot be parsed.
    async fn read(&self, documents: &[Document]) -> Result<(HashMap<Subject, Read>, HashSet<ClaimKey>), Fault> {
        let now_seconds = self.clock.now().div_euclid(1_000_000);
        let sources: HashSet<String> = documents
            .iter()
            .filter_map(|document| match &document.subject {
                Subject::Source(source) => Some(source.clone()),
                Subject::Id(_) => None,
            })
            .collect();
        let named = self.names(&sources).await?;
        let name_of = |source: &str| named.get(source).map(|entry| entry.document.clone());
        let ids: HashSet<DocumentId> = documents
            .iter()
            .filter_map(|document| match &document.subject {
                Subject::Id(id) => Some(id.clone()),
                Subject::Source(source) => name_of(source).and_then(|id| DocumentId::parse(&id)),
            })
            .collect();
        let parents: HashSet<DocumentId> =
            documents.iter().filter_map(|d| Some(d.under.as_ref()?.id.clone())).collect();
        let mut records = HashMap::new();
        let keys = ids.union(&parents).map(items::key).collect();
        for item in self.dynamo.get_many(&self.options.control_table, keys, true).await? {
            if items::is_over(&item, FORGET_AT, now_seconds) {
                continue;
            }
            if let Some(id) = items::text(&item, HASH).map(str::to_owned) {
                records.insert(id, item);
            }
        }
        let foreign_records = self.unnamed(&records).await?;
        let mut reads = HashMap::new();
        for document in documents {
            let (id, source) = match &document.subject {
                Subject::Id(id) => (Some(id.to_string()), None),
                Subject::Source(source) => (name_of(source), Some(source)),
            };
            let item = id.as_ref().and_then(|id| records.get(id));
            let read = match item.map(items::record) {
                Some(Ok(record)) => {
                    let item = item.cloned().unwrap_or_default();
                    let unnamed = foreign_records.contains(&record.source);
                    let seen = source.and_then(|source| named.get(source)).and_then(|entry| entry.seen.clone());
                    let source = unnamed.then(|| SourceItem { source: record.source.clone(), named: None });
                    Read { found: Current::Record(Box::new(record)), item, source, seen }
                }
                Some(Err(reason)) => {
                    tracing::warn!(reason, location = %self.location, "unreadable control record");
                    continue;
                }
                None => {
                    let nothing = match &document.subject {
                        Subject::Id(id) => id.clone(),
                        Subject::Source(_) => DocumentId::mint(self.clock.now(), fastrand::u32(..)),
                    };
                    let source = source.map(|source| SourceItem { source: source.clone(), named: id.clone() });
                    Read { found: Current::Nothing(nothing), item: Item::new(), source, seen: None }
                }
            };
            reads.insert(document.subject.clone(), read);
        }
        let is_valid = |claim: &&ClaimKey| {
            let parent = records.get(claim.id.as_str()).and_then(|item| items::record(item).ok());
            rules::check_claim(parent.as_ref(), claim).is_ok()
        };
        let valid = documents.iter().filter_map(|d| d.under.as_deref()).filter(is_valid).cloned().collect();
        Ok((reads, valid))
    }

    /// Returns the sources that have no entry yet and belong to records that another system created. Docweir's own
    /// records have an entry from the start.
    async fn unnamed(&self, records: &HashMap<String, Item>) -> Result<HashSet<String>, Fault> {
        let foreign_records = records.values().filter(|item| !item.contains_key(WRITE_ID));
        let mut sources: HashSet<String> =
            foreign_records.filter_map(|item| Some(items::record(item).ok()?.source)).collect();
        let named = self.names(&sources).await?;
        sources.retain(|source| !named.contains_key(source));
        Ok(sources)
    }

    /// Looks up which documents these sources belong to. Returns the entry of each source, and omits sources that have
    /// no entry.
    async fn names(&self, sources: &HashSet<String>) -> Result<HashMap<String, SourceEntry>, Fault> {
        let keys: Vec<Item> = sources.iter().map(|source| items::source_key(source)).collect();
        let found = self.dynamo.get_many(&self.options.state_table, keys, true).await?;
        let entry = |item: &Item| Some((items::text(item, "source")?.to_owned(), items::source_entry(item)?));
        Ok(found.iter().filter_map(entry).collect())
    }

    /// Decides the commands on a document one after the other, and collects the resulting writes.
    fn prepare(&mut self, document: &Document, read: Read, now: UnixMicros) -> Prepared {
        let mut prepared = Prepared { write_id: super::new_token(), ..Prepared::default() };
        let mut found = read.found;
        let was = match &found {
            Current::Record(record) => Some(record.status),
            Current::Nothing(_) => None,
        };
        let (mut effects, mut changed) = (Effects::default(), false);
        for job in &document.jobs {
            match decide(&job.command, &found, self.options.max_retries, now) {
                Ok(Decided { record, effects: more, answer }) => {
                    prepared.answers.push(Ok(answer));
                    if let (Some(record), Some(more)) = (record, more) {
                        found = Current::Record(record);
                        effects.events.extend(more.events);
                        effects.metrics.extend(more.metrics);
                        changed = true;
                    }
                }
                Err(refusal) => prepared.answers.push(Err(refusal)),
            }
        }
        // A refused registration says nothing about the object.
        let mut accepted = document.jobs.iter().zip(&prepared.answers).rev().filter(|(_, answer)| answer.is_ok());
        let seen = accepted.find_map(|(job, _)| items::seen(&job.command));
        // The object's tag or content hash is updated even if nothing else about its source changes.
        if let (Some(seen), Current::Record(record), None) = (&seen, &found, &read.source)
            && read.seen.as_ref() != Some(seen)
        {
            let entry = SourceItem { source: record.source.clone(), named: Some(record.document_id.to_string()) };
            prepared.writes.push(self.source_write(entry, record, Some(seen)));
        }
        if let (true, Current::Record(mut record)) = (changed, found) {
            // A new document has no audit entries yet.
            let last = was.and_then(|_| parse_timestamp(&record.updated_at));
            let at = self.moment(now, last);
            prepared.writes.extend(self.writes(&mut record, effects.events, was, read.item, &prepared.write_id, at));
            prepared.writes.extend(read.source.map(|source| self.source_write(source, &record, seen.as_ref())));
            prepared.metrics = effects.metrics;
            let pending = (record.status == DocumentStatus::Pending).then(|| record.updated_at.clone());
            prepared.left = Some((record.document_id.clone(), pending));
        }
        prepared
    }

    /// Returns the timestamp of a write. No two writes of this process have the same microsecond, so that older
    /// documents are claimed first. If the clock of the last writer was slightly ahead, the timestamp is set just
    /// after the last write, so that the audit entries stay in order.
    fn moment(&mut self, now: UnixMicros, last: Option<UnixMicros>) -> UnixMicros {
        let mut at = now;
        for before in [Some(self.last), last].into_iter().flatten() {
            if before >= at && before - at < MAX_SKEW {
                at = before + 1;
            }
        }
        self.last = at;
        at
    }

    fn writes(
        &mut self,
        record: &mut ControlRecord,
        events: Vec<AuditEvent>,
        was: Option<DocumentStatus>,
        before: Item,
        write_id: &str,
        at: UnixMicros,
    ) -> Vec<Write> {
        let seconds = at.div_euclid(1_000_000);
        if !events.is_empty() {
            record.updated_at = timestamp(at);
            record.ttl = seconds + i64::from(self.options.record_days) * DAY_SECONDS;
        }
        let condition = unchanged(&before, was);
        let item = items::item(record, before, write_id);
        let table = self.options.control_table.clone();
        let mut writes = vec![Write::Put { table, item, condition: Some(condition) }];
        let expires = seconds + i64::from(self.options.audit_days) * DAY_SECONDS;
        for mut event in events {
            event.timestamp = self.stamps.next(at);
            let table = self.options.audit_table.clone();
            writes.push(Write::Put { table, item: items::audit_item(&event, expires), condition: None });
        }
        writes
    }

    /// Returns a write that maps a source to this document by storing an entry. The write fails if another process has
    /// registered the source since the entry was read.
    fn source_write(&self, source: SourceItem, record: &ControlRecord, seen: Option<&KnownObject>) -> Write {
        let condition = match source.named {
            None => Expression::new("attribute_not_exists(pk)"),
            Some(id) => Expression::new("document_id = :named").string(":named", id),
        };
        let item = items::source_item(source.source, &record.document_id, seen);
        Write::Put { table: self.options.state_table.clone(), item, condition: Some(condition) }
    }
}

/// Returns the condition that an item is unchanged since it was read. The condition also covers status and retry
/// count, because people who edit items by hand do not change the write id.
fn unchanged(before: &Item, was: Option<DocumentStatus>) -> Expression {
    let Some(status) = was else { return Expression::new("attribute_not_exists(document_id)") };
    let mut text = "#status = :status".to_owned();
    let mut condition_values = vec![(":status", string(rules::name(status)))];
    for (attribute, placeholder) in [(WRITE_ID, ":write"), ("retry_count", ":count")] {
        match before.get(attribute) {
            Some(value) => {
                text.push_str(&format!(" AND {attribute} = {placeholder}"));
                condition_values.push((placeholder, value.clone()));
            }
            None => text.push_str(&format!(" AND attribute_not_exists({attribute})")),
        }
    }
    let condition = Expression::new(text).name("#status", "status");
    condition_values.into_iter().fold(condition, |condition, (placeholder, value)| condition.value(placeholder, value))
}

fn id_of(found: &Current) -> DocumentId {
    match found {
        Current::Record(record) => record.document_id.clone(),
        Current::Nothing(id) => id.clone(),
    }
}
