//! Ingests files of JSON lines: reads the records and enqueues their items for embedding. Tables are ingested by
//! `table_intake.rs`.
//!
//! If several records of the input have the same id, only the last one is enqueued. The input is therefore read twice
//! (see [`docweir_records::repeated_ids`]). The result does not depend on timing, and a second run of the same input
//! changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_records::repeated_ids::{Place, RepeatedIds};
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

/// Maximum number of notes about the lines of one file. Further lines are only counted.
const NOTES: u64 = 100;

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

/// Holds the result of reading one line.
struct ReadLine {
    number: u64,
    repeated_keys: Vec<String>,
    result: Result<Vec<Item>, RecordError>,
}

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
        let mut repeated = self.repeated_ids(&request).await?;
        for (file, path) in request.files.iter().enumerate() {
            self.file(file, path, &request, &mut repeated).await?;
        }
        Ok(())
    }

    /// Reads all files and finds the ids that occur more than once.
    async fn repeated_ids(&self, request: &RecordsRequest) -> Result<RepeatedIds, StageError> {
        let (intake, files, shape) = (self.clone(), request.files.clone(), request.shape.clone());
        let uris: Vec<String> = files.iter().map(|path| source::of_path(path)).collect();
        // If this future is dropped, the thread stops as well.
        let alive = Arc::new(());
        let is_dropped = Arc::downgrade(&alive);
        let finding = tokio::task::spawn_blocking(move || {
            let accepts = |item: &Item, at: Place| {
                let uri = uris.get(at.file).map_or("", String::as_str);
                intake.problem(item, intake.embedder.count_tokens(&item.input) as u64, uri, None).is_none()
            };
            RepeatedIds::find(&files, &shape, &intake.options, &accepts, &|| is_dropped.strong_count() == 0)
        });
        let found = finding.await;
        drop(alive);
        found.map_err(|e| StageError::system("records", format!("can't look for repeated ids: {e}")))
    }

    async fn file(
        &self,
        file: usize,
        path: &Path,
        request: &RecordsRequest,
        repeated: &mut RepeatedIds,
    ) -> Result<(), StageError> {
        let uri = source::of_path(path);
        let (give, mut take) = mpsc::channel::<ReadLine>(QUEUE);
        let (path, shape, options) = (path.to_owned(), request.shape.clone(), self.options.clone());
        let reading = tokio::task::spawn_blocking(move || -> Result<(), std::io::Error> {
            let mut records = Records::open(&path, shape, options)?;
            while let Some((number, result)) = records.next() {
                if let Err(RecordError::Io(error)) = result {
                    return Err(error);
                }
                let repeated_keys = records.repeated_keys().to_vec();
                if give.blocking_send(ReadLine { number, repeated_keys, result }).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let mut held = Gathered::default();
        let mut notes = Notes { intake: self, uri: &uri, lines: 0 };
        while let Some(ReadLine { number, repeated_keys, result }) = take.recv().await {
            match result {
                Ok(items) => {
                    notes.add(number, repeated_keys_note(&repeated_keys));
                    let mut earlier = None;
                    for item in items {
                        let met = repeated.meet(&item.key, Place { file, line: number });
                        earlier = earlier.or(met.earlier);
                        if !met.is_last {
                            continue;
                        }
                        if let Err(reason) = self.add(item, &request.collection, &uri, None, &mut held) {
                            self.refused(&uri, number, reason);
                        }
                    }
                    notes.add(number, earlier.map(|earlier| repeated_id_note(earlier, file, &request.files)));
                }
                Err(error) => self.refused(&uri, number, error.to_string()),
            }
            if held.is_full() {
                self.put(&mut held).await?;
            }
        }
        notes.end();
        self.put(&mut held).await?;
        let failed = |e: &dyn std::fmt::Display| {
            StageError::system("records", format!("can't read {}: {e}", source::display(&uri, Path::new("/"))))
        };
        reading.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
    }

    pub(super) fn refused(&self, uri: &str, line: u64, reason: String) {
        self.events.emit(Event::RecordRefused { source: uri.to_owned(), line, reason });
    }

    /// Returns the reason why an item cannot be ingested. `tokens` is the number of tokens of its input.
    fn problem(&self, item: &Item, tokens: u64, uri: &str, origin: Option<&Origin>) -> Option<String> {
        if let Some(most) = self.most_tokens.filter(|most| tokens > *most && !item.noise) {
            return Some(format!(
                "the text has {tokens} tokens, but a request may have at most {most}; shorten the text or embed it live"
            ));
        }
        let most = self.batches.most_item_bytes()?;
        let found = serde_json::to_string(&shown(item.clone(), uri)).map_or(usize::MAX, |text| text.len());
        let origin = origin.map_or(0, |origin| origin.place.to_string().len());
        let bytes = found.saturating_add(item.input.len()).saturating_add(2 * item.key.len()).saturating_add(origin);
        (bytes > most).then(|| format!("the item has {bytes} bytes, but the store accepts at most {most}; shorten it"))
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
        if let Some(reason) = self.problem(&item, tokens, uri, origin.as_ref()) {
            return Err(reason);
        }
        let collection = item.kind.collection().unwrap_or(collection).to_owned();
        let (key, input, noise) = (item.key.clone(), item.input.clone(), item.noise);
        let new = NewItem { key, input, tokens, noise, shown: shown(item, uri), origin };
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

fn shown(item: Item, uri: &str) -> DisplayData {
    let kind = item.kind.name().to_owned();
    DisplayData { text: item.text, kind, source: uri.to_owned(), metadata: item.metadata }
}

/// Reports lines of a file that users should know of, up to a limit.
struct Notes<'a> {
    intake: &'a RecordsIntake,
    uri: &'a str,
    lines: u64,
}

impl Notes<'_> {
    fn add(&mut self, line: u64, note: Option<String>) {
        let Some(text) = note else { return };
        self.lines += 1;
        if self.lines <= NOTES {
            self.intake.events.emit(Event::RecordNoted { source: self.uri.to_owned(), line, text });
        }
    }

    /// Reports the number of lines that were only counted.
    fn end(self) {
        if let more @ 1.. = self.lines.saturating_sub(NOTES) {
            let text = format!("{more} further notes on repeated ids or keys are not listed");
            self.intake.events.emit(Event::RecordNoted { source: self.uri.to_owned(), line: 0, text });
        }
    }
}

fn repeated_id_note(earlier: Place, file: usize, files: &[PathBuf]) -> String {
    let name = files.get(earlier.file).filter(|_| earlier.file != file).and_then(|path| path.file_name());
    let place = match name {
        Some(name) => format!("{}:{}", name.to_string_lossy(), earlier.line),
        None => format!("line {}", earlier.line),
    };
    format!("the id comes again after {place}; of all records with the same id, the last one is stored")
}

fn repeated_keys_note(keys: &[String]) -> Option<String> {
    let names: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("the key {one} comes twice; its last value is stored")),
        all => Some(format!("the keys {} come twice; their last values are stored", all.join(", "))),
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
