//! Stores the list of a batch's items as one object. The object is written before the items are claimed, and never
//! changes.
//!
//! The list names all items that the batch is to claim. Each item itself records whether it was claimed. Another
//! process can therefore undo or finish an interrupted step without reading an index.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use docweir_objects::{Durability, ObjectError, Precondition};
use docweir_stores::batches::Request;
use docweir_stores::paid::PaidError;
use serde::{Deserialize, Serialize};

use super::item::Key;
use super::store::{DynamoBatches, StoreResult};

/// Holds one line of a batch's item list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub key: String,
    /// Hash of the text to be sent.
    pub hash: String,
}

/// Returns the object key of a batch's item list.
pub fn list_key(batch: &str) -> String {
    format!("batches/{batch}/items.jsonl")
}

fn failed(error: &ObjectError) -> PaidError {
    match error {
        ObjectError::Unknown { .. } | ObjectError::Transient { .. } | ObjectError::Conflict(_) => {
            PaidError::Busy(error.to_string())
        }
        _ => PaidError::Storage(error.to_string()),
    }
}

impl DynamoBatches {
    pub(super) async fn write_list(&self, batch: &str, items: &[Listed]) -> StoreResult<()> {
        let mut body = Vec::new();
        for item in items {
            serde_json::to_writer(&mut body, item)
                .map_err(|e| PaidError::Storage(format!("can't serialise the item list of batch {batch}: {e}")))?;
            body.push(b'\n');
        }
        let (key, body) = (list_key(batch), Bytes::from(body));
        let put = self.objects.put(&key, body, Precondition::None, Durability::Durable).await;
        put.map(drop).map_err(|e| failed(&e))
    }

    /// Reads the item list of a batch. If the list does not exist, no item was claimed, and the result is empty.
    pub(super) async fn read_list(&self, batch: &str) -> StoreResult<Arc<Vec<Listed>>> {
        let held = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, list)) = held.filter(|(id, _)| id == batch) {
            return Ok(list);
        }
        let body = match self.objects.get(&list_key(batch)).await {
            Ok((body, _)) => body,
            Err(ObjectError::NotFound(_)) => return Ok(Arc::default()),
            Err(error) => return Err(failed(&error)),
        };
        let line = |line: &[u8]| {
            serde_json::from_slice(line)
                .map_err(|e| PaidError::Storage(format!("can't parse the item list of batch {batch}: {e}")))
        };
        let list =
            body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(line).collect::<StoreResult<Vec<Listed>>>()?;
        let list = Arc::new(list);
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some((batch.to_owned(), list.clone()));
        Ok(list)
    }

    pub(super) async fn delete_list(&self, batch: &str) -> StoreResult<()> {
        self.objects.delete(&list_key(batch)).await.map_err(|e| failed(&e))
    }

    pub(super) async fn requests_of(&self, batch: &str, after: u64, limit: usize) -> StoreResult<Vec<Request>> {
        /// Number of items that are read at a time.
        const PAGE: usize = 500;
        let Some(record) = self.record(batch).await? else { return Ok(Vec::new()) };
        let (space, list) = (record.batch.space.name(), self.read_list(batch).await?);
        let mut requests = Vec::new();
        let mut at = usize::try_from(after).unwrap_or(usize::MAX);
        while requests.len() < limit && at < list.len() {
            let page = list.get(at..list.len().min(at + PAGE)).unwrap_or_default();
            let keys: Vec<Key> = page.iter().map(|listed| Key::of_item(&space, &listed.key)).collect();
            let mut items = self.items(&keys).await?;
            for key in &keys {
                at += 1;
                let found = items.remove(key).filter(|item| item.state.is_in(batch) && !item.input.is_empty());
                requests.extend(found.map(|item| Request { at: at as u64, key: item.key, input: item.input }));
                if requests.len() == limit {
                    break;
                }
            }
        }
        Ok(requests)
    }
}
