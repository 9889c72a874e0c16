//! Implements [`BatchResults`] in SQLite.

use async_trait::async_trait;
use docweir_core::clock::timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use super::lifecycle::amend;
use super::state::{self, Given, KNOWN, Known, known};
use super::statements::{FRESH, IN_BATCH};
use super::{
    BatchResults, Ending, Refusal, Result, SENT, Sent, SqliteBatches, StoreResult, StoredVector, row_of, sent, signed,
    unsigned,
};
use crate::batches::rules::batch::{BatchTotals, Event};
use crate::batches::rules::{ItemOutcome, Step, sending};
use crate::ledger::{self, rules};

/// Number of items that are read in one step when a batch ends.
const PAGE: usize = 1_000;

#[async_trait]
impl BatchResults for SqliteBatches {
    async fn sent(&self, batch: &str, keys: Vec<String>) -> StoreResult<Vec<Option<Sent>>> {
        let batch = batch.to_owned();
        let found = self.database.read(move |tx| {
            let sql = format!(
                "SELECT {SENT} FROM items i, batches b WHERE b.id = ?1 AND i.space = b.space AND i.key = ?2 AND {FRESH}"
            );
            let mut statement = tx.prepare_cached(&sql)?;
            keys.iter().map(|key| statement.query_row(params![batch, key], sent).optional()).collect()
        });
        Ok(found.await?)
    }

    async fn made(&self, batch: &str, made: Vec<StoredVector>) -> StoreResult<()> {
        let batch = batch.to_owned();
        let kept = self.database.write(move |tx| {
            let mut totals = BatchTotals::default();
            for one in &made {
                let Some(item) = state::by_row(tx, row_of(&one.item))? else { continue };
                let (step, given) = match &one.vector {
                    None => (sending::made(&item.state, &batch, one.version), Given::Nothing),
                    Some(vector) => (sending::embedded(&item.state, &batch), Given::Vector(vector)),
                };
                if let Some(ItemOutcome::Stored) = change(tx, &item, &step, given, &mut totals)?
                    && item.is_text
                {
                    share(tx, &batch, item.id, one.tokens)?;
                }
            }
            count(tx, &batch, totals)
        });
        Ok(kept.await?)
    }

    async fn refused(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> StoreResult<()> {
        let batch = batch.to_owned();
        let done = self.database.write(move |tx| {
            let mut totals = BatchTotals::default();
            for refusal in &refusals {
                let condition = "space = (SELECT space FROM batches WHERE id = ?1) AND key = ?2";
                let Some(item) = state::find(tx, condition, params![batch, refusal.key])? else { continue };
                let step = sending::refuse(&item.state, &batch, &refusal.error, refusal.again, most_attempts);
                change(tx, &item, &step, Given::Nothing, &mut totals)?;
            }
            count(tx, &batch, totals)
        });
        Ok(done.await?)
    }

    async fn end(&self, batch: &str, ending: Ending) -> StoreResult<()> {
        let (batch, now) = (batch.to_owned(), timestamp(self.clock.now()));
        Ok(self.database.write(move |tx| end(tx, &batch, &ending, &now)).await?)
    }
}

/// Writes a rule's decision about an item of a batch, and counts the outcome.
fn change(
    tx: &Transaction<'_>,
    item: &Known,
    step: &Step,
    given: Given<'_>,
    totals: &mut BatchTotals,
) -> Result<Option<ItemOutcome>> {
    state::apply(tx, item, step, given)?;
    let Step::Write { fate, .. } = step else { return Ok(None) };
    fate.iter().for_each(|fate| totals.add(*fate));
    Ok(*fate)
}

fn count(tx: &Transaction<'_>, batch: &str, totals: BatchTotals) -> Result<()> {
    let sql = "UPDATE batches SET stored = stored + ?2, failed = failed + ?3, returned = returned + ?4 WHERE id = ?1";
    let values = params![batch, signed(totals.stored), signed(totals.failed), signed(totals.returned)];
    tx.prepare_cached(sql)?.execute(values).map(drop)
}

/// Adds a text's tokens to the share of the document that pays for the text. The share is charged at the end of the
/// batch.
fn share(tx: &Transaction<'_>, batch: &str, item: i64, tokens: u64) -> Result<()> {
    let sql = "INSERT INTO batch_shares SELECT ?1, payer, ?3 FROM items WHERE id = ?2 AND payer IS NOT NULL \
        ON CONFLICT (batch, subject) DO UPDATE SET tokens = tokens + excluded.tokens";
    tx.prepare_cached(sql)?.execute(params![batch, item, signed(tokens)]).map(drop)
}

fn end(tx: &Transaction<'_>, batch: &str, ending: &Ending, now: &str) -> Result<()> {
    let sql = "SELECT entry, items, stored, failed, returned FROM batches WHERE id = ?1 AND ended_at IS NULL";
    let open = tx.query_row(sql, [batch], |r| {
        let totals =
            BatchTotals { stored: unsigned(r.get(2)?), failed: unsigned(r.get(3)?), returned: unsigned(r.get(4)?) };
        Ok((r.get::<_, i64>(0)?, unsigned(r.get(1)?), totals))
    });
    let Some((entry, items, mut totals)) = open.optional()? else { return Ok(()) };
    let mut after = -1;
    loop {
        let sql = format!("SELECT {KNOWN} FROM items WHERE {IN_BATCH} AND id > ?2 ORDER BY id LIMIT ?3");
        let values = params![batch, after, PAGE as i64];
        let page: Vec<Known> = tx.prepare_cached(&sql)?.query_map(values, known)?.collect::<Result<_>>()?;
        let Some(last) = page.last() else { break };
        after = last.id;
        for item in &page {
            change(tx, item, &sending::end(&item.state, batch, ending), Given::Nothing, &mut totals)?;
        }
    }
    match ending.charged_tokens {
        Some(charged) => settle(tx, batch, entry, charged, ending.usd_per_million_tokens)?,
        None => ledger::doubt(tx, entry)?,
    }
    tx.execute("DELETE FROM batch_shares WHERE batch = ?1", [batch])?;
    amend(tx, batch, &Event::Ended { ending, items, totals }, now).map(drop)
}

fn settle(tx: &Transaction<'_>, batch: &str, entry: i64, charged: u64, usd_per_million_tokens: f64) -> Result<()> {
    let sql = "SELECT subject, tokens FROM batch_shares WHERE batch = ?1";
    let tokens: Vec<(String, u64)> = {
        let mut statement = tx.prepare_cached(sql)?;
        statement.query_map([batch], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?.collect::<Result<_>>()?
    };
    let tokens = tokens.iter().map(|(subject, tokens)| (subject.as_str(), *tokens));
    ledger::settle_in_parts(tx, entry, &rules::shares(batch, tokens, charged, usd_per_million_tokens))
}
