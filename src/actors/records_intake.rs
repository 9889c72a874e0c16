//! Ingests files of JSON lines: reads the records and enqueues their items for embedding. Tables are ingested by
//! `table_intake.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_records::{Item, ItemKind, RecordError, Records, RecordsOptions, Shape};
use docweir_stages::embed::Embedder;
use docweir_stores::batches::{Batches, DisplayData, NewItem, Origin, Put, Space};
use tokio::sync::mpsc;

use crate::intake::source;
use crate::messages::event::{Event, EventSink};

/// Maximum number of records that were read and are not yet enqueued. The number is small, because one hostile record
/// may produce items of about 60 MiB.
const QUEUE: usize = 4;
/// Maximum memory of the items that are enqueued in one step, in bytes.
const STEP_BYTES: usize = 8 << 20;
/// Maximum number of items that are enqueued in one step.
const STEP: usize = 2_000;

/// Names the files and tables to ingest, and describes the shape of their records.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordsRequest {
    pub files: Vec<PathBuf>,
    /// Names of tables in DynamoDB.
    pub tables: Vec<String>,
    pub shape: Shape,
    /// Collection in which the records are stored. Receipts ignore this name, because lines and words of receipts
    /// have collections of their own.
    pub collection: String,
}

/// Reads records and enqueues their items.
#[derive(Clone)]
pub struct RecordsIntake {
    pub batches: Arc<dyn Batches>,
    pub embedder: Arc<dyn Embedder>,
    pub events: Arc<dyn EventSink>,
    pub options: RecordsOptions,
    /// Maximum number of tokens in the text of one request. `None` if longer texts are embedded in parts.
    pub most_tokens: Option<u64>,
    /// Function that is called after items were enqueued.
    pub asked: Arc<dyn Fn() + Send + Sync>,
}

type Read = (u64, Result<Vec<Item>, RecordError>);

/// Collects items until they are enqueued in one step.
#[derive(Default)]
pub(super) struct Gathered {
    of_space: BTreeMap<Space, Vec<NewItem>>,
    items: usize,
    bytes: usize,
}

impl Gathered {
    /// Returns whether the collected items should be enqueued now.
    pub(super) fn is_full(&self) -> bool {
        self.items >= STEP || self.bytes >= STEP_BYTES
    }
}

impl RecordsIntake {
    pub async fn run(&self, request: RecordsRequest) -> Result<(), StageError> {
        for file in &request.files {
            self.file(file, &request).await?;
        }
        Ok(())
    }

    async fn file(&self, path: &Path, request: &RecordsRequest) -> Result<(), StageError> {
        let uri = source::of_path(path);
        let (give, mut take) = mpsc::channel::<Read>(QUEUE);
        let (path, shape, options) = (path.to_owned(), request.shape.clone(), self.options.clone());
        let reading = tokio::task::spawn_blocking(move || -> Result<(), std::io::Error> {
            for read in Records::open(&path, shape, options)? {
                if let (_, Err(RecordError::Io(error))) = read {
                    return Err(error);
                }
                if give.blocking_send(read).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let mut held = Gathered::default();
        while let Some((line, read)) = take.recv().await {
            match read {
                Ok(items) => {
                    for item in items {
                        if let Err(reason) = self.add(item, &request.collection, &uri, None, &mut held) {
                            self.refused(&uri, line, reason);
                        }
                    }
                }
                Err(error) => self.refused(&uri, line, error.to_string()),
            }
            if held.is_full() {
                self.put(&mut held).await?;
            }
        }
        self.put(&mut held).await?;
        let failed = |e: &dyn std::fmt::Display| {
            StageError::system("records", format!("can't read {}: {e}", source::display(&uri, Path::new("/"))))
        };
        reading.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
    }

    pub(super) fn refused(&self, uri: &str, line: u64, reason: String) {
        self.events.emit(Event::RecordRefused { source: uri.to_owned(), line, reason });
    }

    /// Adds an item to the collected items. If the item cannot be ingested, returns the reason.
    pub(super) fn add(
        &self,
        item: Item,
        collection: &str,
        uri: &str,
        origin: Option<Origin>,
        held: &mut Gathered,
    ) -> Result<(), String> {
        let tokens = self.embedder.count_tokens(&item.input) as u64;
        if let Some(most) = self.most_tokens.filter(|most| tokens > *most && !item.noise) {
            return Err(format!(
                "the text has {tokens} tokens, but a request may have at most {most}; shorten the text or embed it live"
            ));
        }
        let collection = item.kind.collection().unwrap_or(collection).to_owned();
        let shown = DisplayData {
            text: item.text,
            kind: item.kind.name().to_owned(),
            source: uri.to_owned(),
            metadata: item.metadata,
        };
        if let Some(most) = self.batches.most_item_bytes() {
            let found = serde_json::to_string(&shown).map_or(usize::MAX, |text| text.len());
            let origin = origin.as_ref().map_or(0, |origin| origin.place.to_string().len());
            let bytes =
                found.saturating_add(item.input.len()).saturating_add(2 * item.key.len()).saturating_add(origin);
            if bytes > most {
                return Err(format!("the item has {bytes} bytes, but the store accepts at most {most}; shorten it"));
            }
        }
        let new = NewItem { key: item.key, input: item.input, tokens, noise: item.noise, shown, origin };
        (held.items, held.bytes) = (held.items + 1, held.bytes + new.input.len() + new.shown.text.len() + 512);
        held.of_space.entry(Space::Records(collection)).or_default().push(new);
        Ok(())
    }

    pub(super) async fn put(&self, held: &mut Gathered) -> Result<(), StageError> {
        for (space, items) in std::mem::take(held).of_space {
            let Put { new, changed, unchanged, noise, failed } = self.batches.put(&space, items).await?;
            failpoint::reach("records.put", &space.name());
            self.events.emit(Event::RecordsRead { new, changed, unchanged, noise, failed });
            if new + changed > 0 {
                (self.asked)();
            }
        }
        Ok(())
    }
}

/// Returns the names of the collections that will store a request's records.
pub fn collections(request: &RecordsRequest) -> Vec<String> {
    match request.shape {
        Shape::Receipts => {
            [ItemKind::Line, ItemKind::Word].iter().filter_map(|k| k.collection()).map(Into::into).collect()
        }
        Shape::Records { .. } => vec![request.collection.clone()],
    }
}
