//! Packs a batch in durable steps.
//!
//! ```text
//! record (packing) ─▶ reservation ─▶ list of items ─▶ items, one by one ─▶ record (PENDING)
//! ```
//! Each step is durable before the next step starts, and the result of each step can be found from the batch's id
//! alone. If the process dies between two steps, the record is still marked as packing. The next leader then returns
//! the listed items to the backlog and releases the reservation.

use std::collections::HashSet;

use docweir_aws::FaultKind;
use docweir_aws::dynamo::{Expression, Write};
use docweir_core::clock::timestamp;
use docweir_core::failpoint;
use docweir_stores::batches::rules::batch::packed;
use docweir_stores::batches::rules::packing::{Offer, Selection, spend};
use docweir_stores::batches::*;
use docweir_stores::ledger::ReservationOutcome;

use super::apply::{self, Given};
use super::item::{Item, Key, hex, number, unhex};
use super::lifecycle::Change;
use super::record::{self, Record};
use super::requests::Listed;
use super::store::{DynamoBatches, Step, StoreResult};

/// Number of items that are read at a time while a batch is packed.
const PAGE: usize = 500;

impl DynamoBatches {
    pub(super) async fn pack_batch(&self, order: Order) -> StoreResult<Packed> {
        let epoch = self.epoch()?;
        let (listed, counts) = match self.choose(&order).await? {
            Ok(chosen) => chosen.into_iter().unzip::<Listed, u64, Vec<_>, Vec<_>>(),
            Err(packed) => return Ok(packed),
        };
        let tokens = counts.iter().sum();
        let Some(_at_work) = self.begin(&order.id) else { return Ok(Packed::Nothing) };
        let entry = self.ledger.entry_of(&order.id);
        let batch = packed(&order, listed.len() as u64, tokens, entry.clone(), &timestamp(self.clock.now()));
        let record = Record { batch, packing: true, ending: None, epoch };
        self.make(&record).await?;
        self.made.note(order.id.clone());
        failpoint::reach("pack.recorded", &order.id);
        let reservation = match self.ledger.reserve_as(entry, spend(&order, tokens), order.budget).await? {
            ReservationOutcome::Given(reservation) => reservation,
            ReservationOutcome::Refused { period, spent, limit } => {
                // Another leader may have undone the batch and made its reservation void.
                self.amend(&order.id, Change::default()).await?;
                self.forget(&record).await?;
                return Ok(Packed::Refused { period, spent, limit });
            }
        };
        failpoint::reach("pack.reserved", &order.id);
        self.write_list(&order.id, &listed).await?;
        failpoint::reach("pack.listed", &order.id);
        let space = order.space.name();
        let keys: Vec<Key> = listed.iter().map(|listed| Key::of_item(&space, &listed.key)).collect();
        let take = |nth: usize, now: Option<&Item>| {
            if nth > 0 {
                failpoint::reach("pack.claiming", &order.id);
            }
            claim(&order.id, listed.get(nth).map_or("", |listed| &listed.hash), now)
        };
        let claimed = match self.change(&keys, take).await {
            Ok(claimed) => claimed,
            Err(error) => {
                // An undo that fails here is repeated when the open batches are read next.
                if let Err(error) = self.undo(&record).await {
                    tracing::warn!(batch = order.id, %error, "packing failed and was not undone; retried later");
                }
                return Err(error);
            }
        };
        failpoint::reach("pack.claimed", &order.id);
        let mine = counts.iter().zip(&claimed).filter(|(_, yes)| **yes);
        let (items, tokens) = mine.fold((0, 0), |(items, sum), (tokens, _)| (items + 1, sum + tokens));
        if items == 0 {
            self.undo(&record).await?;
            return Ok(Packed::Nothing);
        }
        // If some items could not be claimed, the reservation is slightly too large until the batch ends.
        let change = Change::default().set("items", number(items)).set("tokens", number(tokens)).remove("packing");
        match self.amend(&order.id, change).await {
            Ok(_) => {}
            Err(error) => {
                // Another process has become the leader, so the items that were claimed after the takeover are
                // returned.
                if let Err(error) = self.change(&keys, |_, now| unclaim(&order.id, now)).await {
                    tracing::warn!(batch = order.id, %error, "claimed items not returned to the backlog; retried later");
                }
                return Err(error);
            }
        }
        let batch = Batch { items, tokens, ..record.batch };
        Ok(Packed::Batch(Box::new(batch), reservation))
    }

    /// Chooses waiting items for a batch, the oldest first, until a limit is reached. Returns each item with its
    /// number of tokens.
    async fn choose(&self, order: &Order) -> StoreResult<std::result::Result<Vec<(Listed, u64)>, Packed>> {
        let mut selection = Selection::new(order, self.ledger.room(&order.spend.run, order.budget).await?);
        let mut chosen = Vec::new();
        let mut seen: HashSet<Key> = HashSet::new();
        let mut line = self.line("waiting", &order.space.name());
        let mut lagging = self.put.list();
        loop {
            let mut keys = line.take(PAGE.min(order.most_requests.max(1))).await?;
            if keys.is_empty() {
                // The index may not contain recently written items yet.
                keys = std::mem::take(&mut lagging);
                keys.retain(|key| !seen.contains(key));
                if keys.is_empty() {
                    break;
                }
            }
            let mut items = self.items(&keys).await?;
            let name = order.space.name();
            for key in keys {
                let fits = |item: &Item| item.state.is_waiting() && item.space == name;
                let Some(item) = items.remove(&key).filter(fits) else { continue };
                if !seen.insert(key) {
                    continue;
                }
                let line = (order.line_bytes)(&item.key, &item.input);
                match selection.offer(line, item.tokens) {
                    Offer::Taken => chosen.push((Listed { key: item.key, hash: hex(&item.state.hash) }, item.tokens)),
                    Offer::Complete => return Ok(Ok(chosen)),
                    Offer::Full => return Ok(Err(Packed::Full)),
                }
                if selection.is_complete() {
                    return Ok(Ok(chosen));
                }
            }
        }
        Ok(if chosen.is_empty() { Err(Packed::Nothing) } else { Ok(chosen) })
    }

    async fn make(&self, record: &Record) -> StoreResult<()> {
        let condition = Some(Expression::new("attribute_not_exists(pk)"));
        let write = Write::Put { table: self.table.clone(), item: record.attributes(), condition };
        let mut tries = 0;
        loop {
            match self.dynamo.write(write.clone()).await {
                Ok(()) => return Ok(()),
                // The id is new, so the existing record was written by an earlier attempt whose reply was lost.
                Err(fault) if fault.kind == FaultKind::Condition && tries > 0 => return Ok(()),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
    }

    /// Deletes the record of a batch that was not packed.
    async fn forget(&self, record: &Record) -> StoreResult<()> {
        let epoch = self.epoch()?;
        let condition = Expression::new("attribute_not_exists(pk) OR #epoch <= :epoch").name("#epoch", "epoch");
        let condition = Some(condition.number(":epoch", epoch));
        let key = record::key(&record.batch.id).attributes();
        let write = Write::Delete { table: self.table.clone(), key, condition };
        let mut tries = 0;
        loop {
            match self.dynamo.write(write.clone()).await {
                Ok(()) => break,
                Err(fault) if fault.kind == FaultKind::Condition => return Err(self.fenced(&record.batch.id)),
                Err(fault) => tries = self.after(tries, &fault).await?,
            }
        }
        self.made.forget(&record.batch.id);
        Ok(())
    }

    /// Returns the batch's items to the backlog, as if they had never been claimed.
    async fn give_back(&self, record: &Record) -> StoreResult<()> {
        let (id, space) = (&record.batch.id, record.batch.space.name());
        let list = self.read_list(id).await?;
        let keys: Vec<Key> = list.iter().map(|listed| Key::of_item(&space, &listed.key)).collect();
        self.change(&keys, |_, now| unclaim(id, now)).await.map(drop)
    }

    /// Undoes an incomplete packing: returns the items, deletes the list, makes the reservation void, and deletes the
    /// record, in this order. A void entry remains, because a paused leader may still reserve the money when it
    /// continues.
    pub(super) async fn undo(&self, record: &Record) -> StoreResult<()> {
        self.give_back(record).await?;
        self.delete_list(&record.batch.id).await?;
        self.ledger.void(&record.batch.entry).await?;
        self.forget(record).await
    }
}

/// Claims an item for a batch or a live call, if the item is still waiting and its text still has this hash. The
/// returned step says whether this batch or live call holds the claim on the item after the step.
pub(super) fn claim(batch: &str, hash: &str, now: Option<&Item>) -> Step<bool> {
    let claimed = now.zip(unhex(hash)).and_then(|(now, hash)| {
        let step = rules::sending::claim(&now.state, batch, &hash)?;
        Some(apply::apply(now, step, Given::Nothing))
    });
    match claimed {
        // The item is already in the batch.
        Some(Step::Keep(_)) => Step::Keep(true),
        Some(step) => step,
        None => Step::Keep(false),
    }
}

/// Returns an item to the backlog, as if it had never been claimed by a batch or a live call.
pub(super) fn unclaim(batch: &str, now: Option<&Item>) -> Step<bool> {
    apply::change(now, Given::Nothing, |now| rules::sending::unclaim(now, batch))
}
