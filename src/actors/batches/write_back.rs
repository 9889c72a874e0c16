//! Writes the outcomes of records back to the user's tables.
//!
//! An outcome stays in the store of items until it is written back. The outcome is written only if the item in the
//! table still has the text that was embedded. If the item no longer exists, the store forgets the record. If the
//! text of the item has changed, the store also forgets the record, and the status of the item is reset. The next
//! pass over the table then ingests the new text, unless that text was already ingested
//! ([`crate::actors::table_intake`]).

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_records::TableOptions;
use docweir_stores::batches::{ItemId, Origin, PendingOutcome, RecordOutbox, RecordOutcome, Sent, Space};
use docweir_stores::record_table::{
    ItemKey, LazyTables, Mark, NONE, RecordLocation, RecordTable, TableError, TableItem,
};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::once_notifier::OnceNotifier;

/// Maximum number of outcomes that are read from the store at a time.
const PAGE: usize = 100;
/// Maximum number of items that are written concurrently.
const AT_ONCE: usize = 16;
/// Maximum number of attempts to write to an item. An attempt fails if another program changes the item meanwhile.
const LOOKS: usize = 10;

/// Writes outcomes back to the user's tables.
pub struct WriteBack {
    pub tables: Arc<LazyTables>,
    pub options: TableOptions,
    pub batches: Arc<dyn RecordOutbox>,
    pub notifier: Rc<OnceNotifier>,
    /// Lock that lets only one task write back at a time. Without it, concurrent tasks would write the same outcomes.
    pub turn: tokio::sync::Mutex<()>,
    /// True if the store has forgotten some records and the rows of these records must still be removed from their
    /// collections.
    pub forgot: Cell<bool>,
}

/// Compares the current state of an item with the state in which it was ingested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Same,
    Changed,
    Gone,
}

fn judge(place: &RecordLocation, text: &str, held: Option<&TableItem>) -> Now {
    match held {
        None => Now::Gone,
        Some(held) if place.is_same(held, text) => Now::Same,
        Some(_) => Now::Changed,
    }
}

/// Returns the attributes to write for an outcome.
fn mark(options: &TableOptions, owed: &PendingOutcome) -> Mark {
    let attribute = match owed.kind.as_str() {
        "line" => &options.line_id,
        "word" => &options.word_id,
        _ => &options.record_id,
    };
    let id = match owed.outcome {
        RecordOutcome::Success => Some((attribute.clone(), Some(owed.key.clone()))),
        // The row of a noise record is removed from the collection.
        RecordOutcome::Noise => Some((attribute.clone(), None)),
        // The earlier embedding of the item can still be found, so its id stays.
        RecordOutcome::Failed => None,
    };
    Mark { status: owed.outcome.name().to_owned(), id }
}

/// Describes the result of writing back one outcome.
enum Paid {
    Told(ItemId, String),
    Forget(ItemId, u64),
    /// The table cannot be used.
    Broken(String),
}

impl WriteBack {
    /// Writes back the outcomes of a collection. Tables that cannot be used are skipped. Returns immediately if
    /// another task is writing back, because that task continues until no outcome is left.
    pub async fn pay(&self, space: &Space) -> Result<(), StageError> {
        match self.turn.try_lock() {
            Ok(_turn) => self.pay_all(space).await,
            Err(_) => Ok(()),
        }
    }

    /// Waits until no other task is writing back, and then writes back the outcomes of a collection. Tables that
    /// cannot be used are skipped.
    pub async fn pay_in_turn(&self, space: &Space) -> Result<(), StageError> {
        let _turn = self.turn.lock().await;
        self.pay_all(space).await
    }

    async fn pay_all(&self, space: &Space) -> Result<(), StageError> {
        let mut broken: Vec<String> = Vec::new();
        loop {
            let owed = self.batches.untold(space, &broken, PAGE).await?;
            if owed.is_empty() {
                return Ok(());
            }
            let tables = match self.tables.get().await {
                Ok(tables) => tables,
                Err(error) => return self.complain(&error),
            };
            let pays = owed.iter().map(|owed| self.one(tables.as_ref(), owed));
            let paid: Vec<Paid> = stream::iter(pays).buffer_unordered(AT_ONCE).try_collect().await?;
            failpoint::reach("table.told", &space.name());
            let (mut told, mut forget) = (Vec::new(), Vec::new());
            for paid in paid {
                match paid {
                    Paid::Told(item, mark) => told.push((item, mark)),
                    Paid::Forget(item, version) => forget.push((item, version)),
                    Paid::Broken(table) if broken.contains(&table) => {}
                    Paid::Broken(table) => broken.push(table),
                }
            }
            self.batches.told(told).await?;
            self.forget(forget).await?;
        }
    }

    async fn forget(&self, items: Vec<(ItemId, u64)>) -> Result<(), StageError> {
        if self.batches.forget(items).await? > 0 {
            self.forgot.set(true);
        }
        Ok(())
    }

    async fn one(&self, tables: &dyn RecordTable, owed: &PendingOutcome) -> Result<Paid, StageError> {
        let table = &owed.origin.table;
        // Docweir never writes a location that cannot be parsed, so another program has changed it. Nothing can be
        // written back.
        let Some(place) = RecordLocation::read(&owed.origin) else {
            return Ok(Paid::Told(owed.item.clone(), owed.mark.clone()));
        };
        let mark = mark(&self.options, owed);
        for _ in 0..LOOKS {
            let told = async {
                if tables.mark(table, &place.key, &place.unchanged(&owed.text), &mark).await? {
                    return Ok(Some(Now::Same));
                }
                let held = tables.read(table, std::slice::from_ref(&place.key)).await?.pop().flatten();
                self.left(tables, table, &place, &owed.text, held.as_ref()).await
            };
            return match told.await {
                Ok(Some(Now::Same)) => Ok(Paid::Told(owed.item.clone(), owed.mark.clone())),
                Ok(Some(_)) => Ok(Paid::Forget(owed.item.clone(), owed.version)),
                Ok(None) => continue,
                Err(error) => {
                    self.complain(&error)?;
                    Ok(Paid::Broken(table.clone()))
                }
            };
        }
        Err(StageError::transient(
            "record_table",
            format!("an item of table {table} changed during every attempt to write it"),
        ))
    }

    /// Determines the state of an item that may have changed since it was ingested. Returns `Gone` if the item no
    /// longer exists. If the item has changed, sets the item's status so that it requests another embedding, and
    /// returns `Changed`. Returns `None` if the item must be read again: it still has its old text, or it changed
    /// again during this call.
    async fn left(
        &self,
        tables: &dyn RecordTable,
        table: &str,
        place: &RecordLocation,
        text: &str,
        held: Option<&TableItem>,
    ) -> Result<Option<Now>, TableError> {
        let status = &self.options.status;
        let now = judge(place, text, held);
        Ok(match (now, held) {
            (Now::Changed, Some(held)) if held.text(status) == Some(NONE) => Some(now),
            (Now::Changed, Some(held)) => {
                let asks = Mark::status(NONE);
                tables.mark(table, &place.key, &place.as_read(held, status), &asks).await?.then_some(now)
            }
            (Now::Gone, _) => Some(now),
            (Now::Same | Now::Changed, _) => None,
        })
    }

    /// Returns those results whose items in the table still have the embedded text. The store forgets the records of
    /// all other items.
    pub async fn fresh<T>(&self, made: Vec<T>, sent: impl Fn(&T) -> &Sent) -> Result<Vec<T>, StageError> {
        let still = self.still(&made.iter().map(sent).collect::<Vec<_>>()).await?;
        Ok(made.into_iter().zip(still).filter_map(|(made, still)| still.then_some(made)).collect())
    }

    async fn still(&self, sent: &[&Sent]) -> Result<Vec<bool>, StageError> {
        let mut fresh = vec![true; sent.len()];
        let mut of_table: HashMap<&str, Vec<(usize, RecordLocation, &str)>> = HashMap::new();
        for (nth, sent) in sent.iter().enumerate() {
            let (Some(Origin { table, .. }), Some(shown)) = (&sent.origin, &sent.shown) else { continue };
            let Some(place) = sent.origin.as_ref().and_then(RecordLocation::read) else { continue };
            of_table.entry(table).or_default().push((nth, place, &shown.text));
        }
        for (table, places) in of_table {
            match self.stale(table, &places).await {
                Ok(stale) => {
                    let items = |nth: &usize| sent.get(*nth).map(|sent| (sent.item.clone(), sent.version));
                    let forget: Vec<_> = stale.iter().filter_map(items).collect();
                    if !forget.is_empty() {
                        let text = "records that were changed or deleted in their table during the embedding were not \
                            stored; the next pass ingests the changed records";
                        self.notifier.tell_once(text.into());
                    }
                    self.forget(forget).await?;
                    stale.into_iter().for_each(|nth| fresh.get_mut(nth).into_iter().for_each(|is| *is = false));
                }
                // If the table cannot be read, all results are stored. The items are checked when their outcomes are
                // written back.
                Err(error) => self.complain(&error)?,
            }
        }
        Ok(fresh)
    }

    /// Returns the positions of the items that no longer exist or have changed. Also sets the status of each changed
    /// item so that the item requests another embedding.
    async fn stale(&self, table: &str, places: &[(usize, RecordLocation, &str)]) -> Result<Vec<usize>, TableError> {
        let tables = self.tables.get().await?;
        let mut open: Vec<&(usize, RecordLocation, &str)> = places.iter().collect();
        let mut stale = Vec::new();
        for _ in 0..LOOKS {
            let mut keys: Vec<ItemKey> = open.iter().map(|(_, place, _)| place.key.clone()).collect();
            keys.sort_unstable();
            keys.dedup();
            let read = tables.read(table, &keys).await?;
            let held: HashMap<ItemKey, TableItem> =
                read.into_iter().flatten().map(|held| (held.key.clone(), held)).collect();
            let mut again = Vec::new();
            for one @ (nth, place, text) in open {
                let held = held.get(&place.key);
                if judge(place, text, held) == Now::Same {
                    continue;
                }
                match self.left(tables.as_ref(), table, place, text, held).await? {
                    Some(_) => stale.push(*nth),
                    None => again.push(one),
                }
            }
            if again.is_empty() {
                return Ok(stale);
            }
            open = again;
        }
        let reason = "its items changed during every attempt to read them".to_owned();
        Err(TableError::Busy { table: table.to_owned(), reason })
    }

    /// Reports to the user, once, that a table cannot be used; the table is then skipped. If the table is only
    /// temporarily unavailable, returns an error instead, so that the caller retries.
    fn complain(&self, error: &TableError) -> Result<(), StageError> {
        match error {
            TableError::Busy { .. } => Err(error.clone().into()),
            TableError::Broken { .. } => {
                self.notifier.tell_once(format!("outcomes cannot be written back to a table: {error}"));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use docweir_stores::record_table::KeyValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_item_is_told_by_its_kind_and_its_outcome() {
        let options = TableOptions::default();
        let told = |kind: &str, outcome| {
            let origin = Origin { table: "t".into(), place: json!({}) };
            let (item, key, mark_) = (ItemId::new("1"), "K".to_owned(), String::new());
            let owed = PendingOutcome {
                item,
                key,
                version: 1,
                outcome,
                origin,
                text: "x".into(),
                kind: kind.into(),
                mark: mark_,
            };
            let Mark { status, id } = mark(&options, &owed);
            (status, id.map(|(name, id)| format!("{name}={}", id.unwrap_or_default())))
        };
        let table = [
            ("line", RecordOutcome::Success, "SUCCESS", Some("line_embedding_id=K")),
            ("word", RecordOutcome::Success, "SUCCESS", Some("word_embedding_id=K")),
            ("record", RecordOutcome::Success, "SUCCESS", Some("embedding_id=K")),
            ("word", RecordOutcome::Noise, "NOISE", Some("word_embedding_id=")),
            ("line", RecordOutcome::Failed, "FAILED", None),
        ];
        for (kind, outcome, status, id) in table {
            assert_eq!(told(kind, outcome), (status.to_owned(), id.map(str::to_owned)), "{kind} {outcome:?}");
        }
    }

    #[test]
    fn an_item_is_the_same_has_changed_or_is_gone() {
        let key = ItemKey { hash: ("pk".into(), KeyValue::S("a".into())), range: None };
        let held =
            |text: &str| TableItem { key: key.clone(), attributes: json!({"text": text}).as_object().unwrap().clone() };
        let place = RecordLocation::of(&held("old"), vec!["text".into()], "");
        assert_eq!(judge(&place, "old", Some(&held("old"))), Now::Same);
        assert_eq!(judge(&place, "old", Some(&held("new"))), Now::Changed);
        assert_eq!(judge(&place, "old", None), Now::Gone);
    }
}
