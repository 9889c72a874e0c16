//! Stores control records in one SQLite file, which any SQLite tool can open, read and (carefully) edit.
//!
//! The rules decide how records change; this module only stores the changes. Every operation reads the record, applies
//! a rule, and writes the record with its audit entries and daily metrics in one transaction. Other processes may
//! write at the same time (`docweir retry`, a person with a shell). The next operation sees their changes, because
//! nothing is cached between operations.

mod failure;
mod operations;
mod options;
mod readers;
mod rows;
mod schema;

mod unit;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::clock::{SharedClock, timestamp};
use rusqlite::params;

pub use options::SqliteControlOptions;

use self::failure::OpError;
use self::operations::{apply, claim, durability, key, register, register_changed, relocate, set_children, signed};
use self::readers::Readers;
use self::unit::Changed;
use self::writer::{CommitDurability, SqliteWriter};
use super::rules;
use super::*;
use crate::sqlite::{Failure, open_reader, open_writer};

/// Maximum number of records that one transaction changes. An operation on more records uses several transactions.
const STEP: usize = 500;

pub struct SqliteControlStore {
    location: String,
    /// `None` if this process may only read.
    writer: Option<SqliteWriter>,
    readers: Readers,
}

impl SqliteControlStore {
    /// Opens the store in the file at `path` and creates the file if it is missing. The folder must exist.
    pub async fn open(path: &Path, options: SqliteControlOptions, clock: SharedClock) -> Result<Self, ControlError> {
        Self::open_file(path, options, clock, false).await
    }

    /// Opens the store like [`open`](Self::open). If this process may not write, opens the file for reading, and every
    /// later write fails.
    pub async fn open_to_read(
        path: &Path,
        options: SqliteControlOptions,
        clock: SharedClock,
    ) -> Result<Self, ControlError> {
        Self::open_file(path, options, clock, true).await
    }

    async fn open_file(
        path: &Path,
        options: SqliteControlOptions,
        clock: SharedClock,
        may_only_read: bool,
    ) -> Result<Self, ControlError> {
        let path = path.to_owned();
        let location = path.display().to_string();
        let opening = options.opening();
        let opened = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || match open_writer(&path, &schema::SCHEMA, &opening) {
                Err(failure) if may_only_read && failure.denied && path.exists() => {
                    open_reader(&path, &schema::SCHEMA, opening.busy).map(|_| None)
                }
                opened => opened.map(Some),
            })
            .await
        };
        let connection = opened.map_err(|e| Failure::new(&location, e.to_string(), "try again"))??;
        let writer = connection.map(|c| SqliteWriter::start(c, location.clone(), &options, clock)).transpose()?;
        let readers = Readers::new(path, location.clone(), options.busy_timeout(), options.read_connections);
        Ok(Self { location, writer, readers })
    }

    fn writer(&self) -> Result<&SqliteWriter, ControlError> {
        self.writer.as_ref().ok_or_else(|| Failure::read_only(&self.location).into())
    }

    /// Claims documents in one transaction. If `may_mint` is false, documents that need a new version are not claimed.
    /// Returns the claims and the number of documents that were skipped for this reason. Each claim comes with the
    /// time of the document's last change. The caller can sort the claims by this time.
    async fn claim_step(
        &self,
        owner: &str,
        lease: Duration,
        limit: usize,
        only: Option<ClaimFilter>,
        may_mint: bool,
    ) -> Result<(Vec<(String, Claim)>, usize), ControlError> {
        let owner = owner.to_owned();
        let durability = if may_mint { CommitDurability::PowerLoss } else { CommitDurability::Process };
        self.writer()?.write(durability, move |unit| claim(unit, &owner, lease, limit, only, may_mint)).await
    }

    /// Applies `change` to the record of one document and stores the effects.
    async fn change<T, F>(&self, id: &DocumentId, change: F) -> Result<T, ControlError>
    where
        T: Send + 'static,
        F: FnOnce(&mut ControlRecord) -> Result<(Option<rules::Effects>, T), ControlError> + Send + 'static,
    {
        let id = id.clone();
        self.writer()?
            .write(CommitDurability::PowerLoss, move |unit| {
                let mut record = unit.existing(&id)?;
                let (effects, answer) = change(&mut record)?;
                if let Some(effects) = effects {
                    unit.save(&mut record, Changed::All, effects)?;
                }
                Ok(answer)
            })
            .await
    }
}

#[async_trait]
impl ControlStore for SqliteControlStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    async fn register(&self, documents: Vec<NewDocument>) -> Result<Vec<Registered>, ControlError> {
        self.writer()?
            .write(CommitDurability::PowerLoss, move |unit| documents.into_iter().map(|d| register(unit, d)).collect())
            .await
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
        let (mut claims, need_version) = self.claim_step(owner, lease, limit, only, false).await?;
        if need_version > 0 {
            // Those documents stay first in the queue, so the second step finds them again.
            let left = limit.saturating_sub(claims.len());
            match self.claim_step(owner, lease, left.min(need_version), only, true).await {
                Ok((more, _)) => claims.extend(more),
                // The claims of the first step are held, so they must be returned.
                Err(error) if claims.is_empty() => return Err(error),
                Err(error) => tracing::warn!(%error, "can't claim documents that were reset by hand"),
            }
            claims.sort_by(|a, b| a.0.cmp(&b.0));
        }
        Ok(claims.into_iter().map(|(_, claim)| claim).collect())
    }

    async fn pending(&self, at_most: usize) -> Result<usize, ControlError> {
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        self.readers
            .read(move |connection| {
                let sql = "SELECT count(*) FROM (SELECT 1 FROM document_processing_control WHERE status = 'PENDING' LIMIT ?1)";
                let count: i64 = connection.prepare_cached(sql)?.query_row([at_most], |row| row.get(0))?;
                Ok(usize::try_from(count).unwrap_or_default())
            })
            .await
    }

    async fn renew(&self, claims: &[ClaimKey], lease: Duration) -> Result<Vec<ClaimKey>, ControlError> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let claims = claims.to_vec();
        self.writer()?
            .write(CommitDurability::Process, move |unit| {
                let until = timestamp(rules::after(unit.now, lease));
                let mut lost = Vec::new();
                for claim in claims {
                    let renewed = unit.execute(
                        "UPDATE document_processing_control SET lease_expires_at = ?4 WHERE document_id = ?1 AND \
                         processing_version = 'v1' AND version = ?2 AND epoch = ?3 AND status = 'IN_PROGRESS'",
                        params![claim.id.as_str(), signed(claim.version), signed(claim.epoch), until],
                    )?;
                    if renewed == 0 {
                        lost.push(claim);
                    }
                }
                Ok(lost)
            })
            .await
    }

    async fn expire_leases_of_others(&self, owner: &str) -> Result<u64, ControlError> {
        let owner = owner.to_owned();
        self.writer()?
            .write(CommitDurability::Process, move |unit| {
                unit.execute(
                    "UPDATE document_processing_control SET lease_owner = NULL, lease_expires_at = NULL \
                     WHERE status = 'IN_PROGRESS' AND lease_owner <> ?1",
                    params![owner],
                )
            })
            .await
    }

    async fn apply(&self, claim: &ClaimKey, transition: Transition) -> Result<(), ControlError> {
        let claim = claim.clone();
        self.writer()?.write(durability(&transition), move |unit| apply(unit, &claim, transition)).await
    }

    async fn set_children(&self, claim: &ClaimKey, children: Vec<NewDocument>) -> Result<ChildChanges, ControlError> {
        let claim = claim.clone();
        self.writer()?.write(CommitDurability::PowerLoss, move |unit| set_children(unit, &claim, children)).await
    }

    async fn register_changed(&self, claim: &ClaimKey, document: NewDocument) -> Result<Registered, ControlError> {
        let claim = claim.clone();
        self.writer()?.write(CommitDurability::PowerLoss, move |unit| register_changed(unit, &claim, document)).await
    }

    async fn relocate(
        &self,
        id: &DocumentId,
        source: &str,
        media_type: MediaType,
    ) -> Result<DocumentKey, ControlError> {
        let (id, source) = (id.clone(), source.to_owned());
        self.writer()?.write(CommitDurability::PowerLoss, move |unit| relocate(unit, &id, &source, media_type)).await
    }

    async fn with_contents(&self, contents: &[Sha256Hex]) -> Result<Vec<ControlRecord>, ControlError> {
        let contents = contents.to_vec();
        self.readers
            .read(move |connection| {
                let sql = format!(
                    "SELECT {} FROM document_processing_control WHERE content_sha256 = ?1 AND intent = 'PROCESS' AND \
                     +status <> 'DELETED' AND parent IS NULL AND source_bucket = 'file://' LIMIT 20",
                    *rows::COLUMNS
                );
                let mut statement = connection.prepare_cached(&sql)?;
                let mut found = Vec::new();
                for content in contents {
                    for record in statement.query_and_then([content.as_str()], rows::record)? {
                        found.push(record?);
                    }
                }
                Ok(found)
            })
            .await
    }

    async fn reversion(&self, claim: &ClaimKey, fingerprint: &Sha256Hex) -> Result<Claim, ControlError> {
        let (claim, fingerprint) = (claim.clone(), fingerprint.clone());
        self.writer()?
            .write(CommitDurability::PowerLoss, move |unit| {
                let record = unit.by_id(&claim.id)?;
                rules::check_claim(record.as_ref(), &claim)?;
                let mut record = record.ok_or_else(|| ControlError::Fenced(claim.clone()))?;
                let (claim, effects) = rules::reversion(&mut record, &fingerprint)?;
                unit.save(&mut record, Changed::All, effects)?;
                Ok(claim)
            })
            .await
    }

    async fn mark_loaded(&self, keys: &[DocumentKey]) -> Result<u64, ControlError> {
        let mut completed = 0;
        for step in keys.chunks(STEP) {
            let step = step.to_vec();
            completed += self
                .writer()?
                .write(CommitDurability::PowerLoss, move |unit| {
                    let mut completed = 0;
                    for key in step {
                        let Some(mut record) = unit.by_id(&key.id)? else { continue };
                        if let Some((effects, completes)) = rules::mark_loaded(&mut record, key.version, unit.now) {
                            unit.save(&mut record, Changed::All, effects)?;
                            completed += u64::from(completes);
                        }
                    }
                    Ok(completed)
                })
                .await?;
        }
        Ok(completed)
    }

    async fn reset(&self, id: &DocumentId, from: Option<Stage>) -> Result<DocumentKey, ControlError> {
        self.change(id, move |record| {
            let effects = rules::reset(record, from)?;
            Ok((Some(effects), key(record)))
        })
        .await
    }

    async fn hold(&self, id: &DocumentId, from: Option<Stage>, reason: &str) -> Result<DocumentKey, ControlError> {
        let reason = reason.to_owned();
        self.change(id, move |record| {
            let effects = rules::hold(record, from, &reason)?;
            Ok((Some(effects), key(record)))
        })
        .await
    }

    async fn request_delete(&self, id: &DocumentId) -> Result<DocumentKey, ControlError> {
        self.change(id, |record| {
            let effects = rules::request_delete(record)?;
            Ok((effects, key(record)))
        })
        .await
    }

    async fn discard(&self, id: &DocumentId) -> Result<(), ControlError> {
        self.change(id, |record| Ok((Some(rules::discard(record)?), ()))).await
    }

    async fn resume(&self, event: Option<&str>) -> Result<u64, ControlError> {
        let event = event.map(|word| rows::json(&Resume::On(word.to_owned())));
        let mut resumed = 0;
        loop {
            let event = event.clone();
            let step = self
                .writer()?
                .write(CommitDurability::PowerLoss, move |unit| {
                    let n = i64::try_from(STEP).unwrap_or(i64::MAX);
                    // The plus keeps SQLite from reading all parked documents through the index on `status`.
                    let due = "parked_until <= ?1 AND +status = 'PARKED' ORDER BY parked_until LIMIT ?2";
                    let mut parked = unit.select(due, params![timestamp(unit.now), n], STEP)?;
                    if let Some(event) = event {
                        let waiting = "status = 'PARKED' AND parked_resume = ?1 LIMIT ?2";
                        parked.extend(unit.select(waiting, params![event, n], STEP)?);
                    }
                    for record in &mut parked {
                        let effects = rules::resume(record);
                        unit.save(record, Changed::All, effects)?;
                    }
                    Ok(parked.len() as u64)
                })
                .await?;
            resumed += step;
            if step < STEP as u64 {
                return Ok(resumed);
            }
        }
    }

    async fn record(&self, id: &DocumentId) -> Result<ControlRecord, ControlError> {
        let wanted = id.clone();
        let found = self.readers.read(move |connection| unit::by_id(connection, &wanted)).await?;
        found.ok_or_else(|| ControlError::NotFound(id.to_string()))
    }

    async fn by_source(&self, source: &str) -> Result<Option<ControlRecord>, ControlError> {
        let source = source.to_owned();
        self.readers.read(move |connection| unit::by_source(connection, &source)).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<ControlRecord>, ControlError> {
        let filter = filter.clone();
        let after = after.map_or_else(String::new, ToString::to_string);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.readers
            .read(move |connection| {
                let by_status = if filter.status.is_some() { "status = ?2" } else { "?2 IS NULL" };
                let sql = format!(
                    "SELECT {} FROM document_processing_control WHERE document_id > ?1 AND {by_status} \
                     AND substr(source, 1, length(?3)) = ?3 ORDER BY document_id LIMIT ?4",
                    *rows::COLUMNS
                );
                let prefix = filter.source_prefix.unwrap_or_default();
                let mut statement = connection.prepare_cached(&sql)?;
                let found = statement
                    .query_and_then(params![after, filter.status.map(rules::name), prefix, limit], rows::record)?;
                found.collect()
            })
            .await
    }

    async fn counts(&self) -> Result<StatusCounts, ControlError> {
        self.readers
            .read(|connection| {
                let sql = "SELECT status, sum(documents) FROM document_totals WHERE documents > 0 GROUP BY status";
                let mut statement = connection.prepare_cached(sql)?;
                let count = |row: &rusqlite::Row<'_>| -> Result<(String, u64), rusqlite::Error> {
                    Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
                };
                let counts = statement.query_map([], count)?.collect::<Result<StatusCounts, _>>();
                counts.map_err(OpError::from)
            })
            .await
    }

    async fn waiting(&self) -> Result<WaitCounts, ControlError> {
        let mut counts = self
            .readers
            .read(|connection| {
                let mut statement =
                    connection.prepare_cached("SELECT status, waits_for, documents FROM document_totals")?;
                let mut rows = statement.query([])?;
                let mut counts = WaitCounts::default();
                while let Some(row) = rows.next()? {
                    let (status, waits_for): (String, String) = (row.get(0)?, row.get(1)?);
                    let Some(status) = rows::from_word(status) else { continue };
                    if status != DocumentStatus::InProgress {
                        counts.add(status, &waits_for, u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0));
                    }
                }
                Ok(counts)
            })
            .await?;
        // Documents in progress are in the queues of a running process, and these are limited.
        counts.add_records(self, DocumentStatus::InProgress).await?;
        Ok(counts)
    }

    async fn audit(&self, id: &DocumentId, after: Option<&str>, limit: usize) -> Result<Vec<AuditEvent>, ControlError> {
        let (id, after) = (id.clone(), after.unwrap_or_default().to_owned());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.readers
            .read(move |connection| {
                let mut statement = connection.prepare_cached(rows::SELECT_AUDIT)?;
                let found = statement.query_and_then(params![id.as_str(), after, limit], rows::audit)?;
                found.collect()
            })
            .await
    }
}
