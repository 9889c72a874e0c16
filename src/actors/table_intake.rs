//! Ingests records from a user's DynamoDB table. An index of the table lists the items that request an embedding.
//! Each of these items is read, enqueued, and then marked `PENDING` in the table.
//!
//! If the process dies before the mark is written, the items still request an embedding, and the next pass recognises
//! them as unchanged. An item that cannot be ingested is marked `FAILED`, until the user requests an embedding again.
//! A word of a receipt is not marked while its line is missing from the table, because the line may still arrive.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_records::table::{Assembled, ReceiptKey, assemble};
use docweir_records::{Item, Shape, TableOptions};
use docweir_stores::record_table::{
    FAILED, ItemKey, LazyTables, Mark, NONE, PENDING, RecordLocation, RecordTable, TableItem, Test,
};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Map, Value};

use crate::actors::records_intake::{Gathered, RecordsIntake, RecordsRequest};

/// Maximum number of receipts that are read concurrently.
const READS: usize = 8;
/// Maximum number of items that are marked concurrently.
const MARKS: usize = 16;
/// Maximum number of records that are read in one call.
const PART: usize = 100;
/// Maximum number of receipts that are remembered during a pass. Also the maximum number of refused items that are
/// remembered from one pass to the next.
const REMEMBERED: usize = 100_000;

/// Finds the items of the users' tables that request an embedding, and enqueues these items.
pub struct TableIntake {
    pub records: RecordsIntake,
    pub tables: Arc<LazyTables>,
    pub options: TableOptions,
    /// Items whose refusal was already reported to the user.
    pub told: RefCell<HashSet<String>>,
}

/// Holds the state of one pass over a table.
struct Pass<'a> {
    table: &'a str,
    uri: String,
    tables: &'a dyn RecordTable,
    request: &'a RecordsRequest,
    gathered: Gathered,
    /// Items to mark in the table after the collected items are enqueued.
    marks: Vec<(ItemKey, Vec<Test>)>,
    /// Receipts that were already read in this pass.
    seen: HashSet<ReceiptKey>,
    /// Number of records that this pass may still ingest.
    room: u64,
}

impl TableIntake {
    /// Makes one pass over each table. A pass ends when no more items request an embedding. A pass also ends when the
    /// records that wait, from all tables and files together, reach the number `most_waiting`.
    pub async fn run(&self, request: &RecordsRequest, most_waiting: Option<u64>) -> Result<(), StageError> {
        for table in &request.tables {
            let waiting = match most_waiting {
                None => 0,
                Some(_) => self.records.batches.waiting().await?.iter().map(|(_, waiting)| waiting.items).sum(),
            };
            let room = most_waiting.map_or(u64::MAX, |most| most.saturating_sub(waiting));
            self.look(table, request, room).await?;
        }
        Ok(())
    }

    async fn look(&self, table: &str, request: &RecordsRequest, room: u64) -> Result<(), StageError> {
        let tables = self.tables.get().await?;
        tables.look(table).await?;
        let mut look = Pass {
            table,
            uri: format!("dynamodb://{table}"),
            tables: tables.as_ref(),
            request,
            gathered: Gathered::default(),
            marks: Vec::new(),
            seen: HashSet::new(),
            room,
        };
        let mut after = None;
        while look.room > 0 {
            let found = tables.find(table, after).await?;
            failpoint::reach("table.found", table);
            match request.shape {
                Shape::Receipts => self.receipts(&found.keys, &mut look).await?,
                Shape::Records { .. } => self.items(&found.keys, &mut look).await?,
            }
            after = found.next;
            if after.is_none() {
                break;
            }
        }
        self.put(&mut look).await
    }

    /// Ingests the lines and words with the given keys. Each line or word is ingested together with its whole
    /// receipt.
    async fn receipts(&self, keys: &[ItemKey], look: &mut Pass<'_>) -> Result<(), StageError> {
        let mut receipts: BTreeMap<ReceiptKey, &ItemKey> = BTreeMap::new();
        for key in keys {
            match ReceiptKey::of(&key.joined()) {
                Some(receipt) => _ = receipts.entry(receipt).or_insert(key),
                None => {
                    let reason = "the key belongs to neither a line nor a word; the item was not changed";
                    self.refuse_once(&look.uri, &key.joined(), reason);
                }
            }
        }
        if look.seen.len() > REMEMBERED {
            look.seen.clear();
        }
        receipts.retain(|receipt, _| look.seen.insert(receipt.clone()));
        let most = self.records.options.max_record_items + 1;
        let (tables, table) = (look.tables, look.table);
        let reads = receipts.into_iter().map(async |(receipt, key)| {
            let held = tables.below(table, key, &receipt.prefix(), most).await?;
            Ok::<_, StageError>((receipt, held))
        });
        let mut reads = stream::iter(reads).buffered(READS);
        while look.room > 0
            && let Some(read) = reads.next().await
        {
            let (receipt, held) = read?;
            self.receipt(&receipt, held, look).await?;
            if look.gathered.is_full() {
                self.put(look).await?;
            }
        }
        Ok(())
    }

    async fn receipt(&self, receipt: &ReceiptKey, held: Vec<TableItem>, look: &mut Pass<'_>) -> Result<(), StageError> {
        let held: BTreeMap<String, TableItem> = held.into_iter().map(|held| (held.key.joined(), held)).collect();
        let asks = |held: &TableItem| held.text(&self.options.status) == Some(NONE);
        if !held.values().any(asks) {
            return Ok(());
        }
        let parts = held.iter().map(|(key, held)| (key.as_str(), &held.attributes));
        match assemble(receipt, parts, &self.options.status, &self.records.options) {
            Ok(Assembled { items, orphans }) => {
                for key in orphans.iter().filter(|key| held.get(key.as_str()).is_some_and(asks)) {
                    self.refuse_once(
                        &look.uri,
                        key,
                        "the line of this word is missing; the word is ingested once it exists",
                    );
                }
                for item in items {
                    if let Some(own) = held.get(&item.key).filter(|held| asks(held)) {
                        self.item(item, own, &own.attributes, look).await?;
                    }
                }
            }
            Err(error) => {
                let key = receipt.prefix();
                self.refused(&look.uri, key.trim_end_matches("#LINE#"), error.to_string());
                for held in held.values().filter(|held| asks(held) && ReceiptKey::of(&held.key.joined()).is_some()) {
                    self.fail(held, look).await?;
                }
            }
        }
        Ok(())
    }

    async fn items(&self, keys: &[ItemKey], look: &mut Pass<'_>) -> Result<(), StageError> {
        for part in keys.chunks(PART) {
            // The index may list an item twice while the item is being changed.
            let mut seen = HashSet::new();
            let part: Vec<ItemKey> = part.iter().filter(|key| seen.insert(*key)).cloned().collect();
            let read = look.tables.read(look.table, &part).await?;
            for held in read.into_iter().flatten().filter(|held| held.text(&self.options.status) == Some(NONE)) {
                if look.room == 0 {
                    return Ok(());
                }
                let own = self.options.own(held.attributes.clone());
                match look.request.shape.items_of(own.clone(), &self.records.options) {
                    Ok(items) => {
                        for item in items {
                            self.item(item, &held, &own, look).await?;
                        }
                    }
                    Err(error) => {
                        self.refused(&look.uri, &held.key.joined(), error.to_string());
                        self.fail(&held, look).await?;
                    }
                }
            }
            if look.gathered.is_full() {
                self.put(look).await?;
            }
        }
        Ok(())
    }

    /// Adds an item that requests an embedding to the collected items. If the item cannot be ingested, marks it as
    /// failed.
    async fn item(
        &self,
        item: Item,
        held: &TableItem,
        own: &Map<String, Value>,
        look: &mut Pass<'_>,
    ) -> Result<(), StageError> {
        let way = look.request.shape.way_to_text(own).unwrap_or_default();
        let place = RecordLocation::of(held, way, &self.options.version);
        let status = Test { path: vec![self.options.status.clone()], value: Some(NONE.into()) };
        let tests = [vec![status], place.unchanged(&item.text)].concat();
        let (key, noise) = (item.key.clone(), item.noise);
        let origin = place.origin(look.table);
        match self.records.add(item, &look.request.collection, &look.uri, origin, &mut look.gathered) {
            Ok(()) => {
                look.room = look.room.saturating_sub(1);
                // A noise record is not embedded, so no mark is needed.
                if !noise {
                    look.marks.push((held.key.clone(), tests));
                }
            }
            Err(reason) => {
                self.refused(&look.uri, &key, reason);
                self.fail(held, look).await?;
            }
        }
        Ok(())
    }

    /// Enqueues the collected items. Afterwards, marks these items in the table.
    async fn put(&self, look: &mut Pass<'_>) -> Result<(), StageError> {
        self.records.put(&mut look.gathered).await?;
        failpoint::reach("table.put", look.table);
        let (tables, table) = (look.tables, look.table);
        let pending = Mark::status(PENDING);
        let marks = std::mem::take(&mut look.marks);
        let marks = marks.iter().map(|(key, tests)| tables.mark(table, key, tests, &pending));
        // No mark is written to an item that was changed, deleted or finished in the meantime.
        stream::iter(marks).buffer_unordered(MARKS).try_for_each(async |_| Ok(())).await?;
        failpoint::reach("table.marked", look.table);
        Ok(())
    }

    /// Marks an item as failed. The item requests no embedding until the user resets its status.
    async fn fail(&self, held: &TableItem, look: &Pass<'_>) -> Result<(), StageError> {
        let test = Test { path: vec![self.options.status.clone()], value: Some(NONE.into()) };
        look.tables.mark(look.table, &held.key, &[test], &Mark::status(FAILED)).await?;
        Ok(())
    }

    fn refused(&self, uri: &str, key: &str, reason: String) {
        self.records.refused(&format!("{uri}/{key}"), 0, reason);
    }

    fn refuse_once(&self, uri: &str, key: &str, reason: &str) {
        let mut told = self.told.borrow_mut();
        if told.len() < REMEMBERED && told.insert(format!("{uri}/{key}")) {
            self.refused(uri, key, reason.to_owned());
        }
    }
}
