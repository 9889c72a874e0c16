//! Provides the outcomes that must still be reported to users' tables. Only records that were imported from such a
//! table have outcomes to report.

use std::collections::HashSet;

use docweir_stores::batches::*;

use super::apply::{Given, change};
use super::item::{Item, Key};
use super::store::{DynamoBatches, Step, StoreResult};

/// Number of index entries that are read at a time.
const PAGE: usize = 500;

impl DynamoBatches {
    /// Returns the outcomes that must still be reported to users' tables. Reads the index first. Then reads the items
    /// that this process wrote recently, because the index may not contain them yet.
    pub(super) async fn owed_to_tables(
        &self,
        space: &Space,
        except: &[String],
        limit: usize,
    ) -> StoreResult<Vec<PendingOutcome>> {
        let name = space.name();
        let wanted = |item: Item| item.as_owed().filter(|owed| !except.contains(&owed.origin.table));
        let mut seen: HashSet<Key> = HashSet::new();
        let mut found = Vec::new();
        let mut line = self.line("tell", &name);
        while found.len() < limit {
            let keys = line.take(limit.min(PAGE)).await?;
            if keys.is_empty() {
                break;
            }
            let mut items = self.items(&keys).await?;
            found.extend(keys.iter().filter_map(|key| items.remove(key)).filter_map(wanted));
            seen.extend(keys);
        }
        if found.len() < limit {
            let recent: Vec<Key> = self.ended.list().into_iter().filter(|key| !seen.contains(key)).collect();
            for part in recent.chunks(PAGE) {
                let items = self.items(part).await?;
                for (key, item) in items {
                    match item.state.owes() {
                        true if item.space == name => found.extend(wanted(item)),
                        true => {}
                        false => self.ended.forget(&key),
                    }
                }
                if found.len() >= limit {
                    break;
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    pub(super) async fn tables_were_told(&self, told: Vec<(ItemId, String)>) -> StoreResult<()> {
        let mut seen = HashSet::new();
        let told: Vec<(ItemId, String)> = told.into_iter().filter(|(item, _)| seen.insert(item.clone())).collect();
        let keys: Vec<Key> = told.iter().map(|(item, _)| Key::of_id(item)).collect();
        let decide = |nth: usize, now: Option<&Item>| match told.get(nth) {
            Some((_, mark)) => change(now, Given::Nothing, |now| rules::records::told(now, mark)),
            None => Step::Keep(false),
        };
        self.change(&keys, decide).await.map(drop)
    }

    pub(super) async fn forget_versions(&self, items: Vec<(ItemId, u64)>) -> StoreResult<u64> {
        let mut seen = HashSet::new();
        let items: Vec<(ItemId, u64)> = items.into_iter().filter(|(item, _)| seen.insert(item.clone())).collect();
        let keys: Vec<Key> = items.iter().map(|(item, _)| Key::of_id(item)).collect();
        let decide = |nth: usize, now: Option<&Item>| match items.get(nth) {
            Some((_, version)) => change(now, Given::Nothing, |now| rules::records::forget(now, *version)),
            None => Step::Keep(false),
        };
        self.changed(&keys, decide).await
    }
}
