//! What the batch services share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::options::BatchOptions;
use super::outlook::Outlook;
use crate::clock::SharedClock;
use crate::config::EmbedMode;
use crate::error::StageError;
use crate::messages::event::EventSink;
use crate::providers::account::Account;
use crate::providers::openai::{Client, OpenAiOptions, RequestLines};
use crate::stages::embed::wake_word;
use crate::stages::model::ModelIdentity;
use crate::stores::batches::{Batches, Space};
use crate::stores::control::{ControlStore, RecordFilter, Status};
use crate::stores::objects::ObjectStore;
use crate::stores::vectors::{VectorError, VectorStore};

/// Opens a collection.
pub type OpenCollection = Arc<dyn Fn(&str) -> Result<Arc<VectorStore>, VectorError> + Send + Sync>;

pub struct BatchDesk {
    pub batches: Batches,
    pub client: Client,
    pub account: Account,
    pub endpoint: OpenAiOptions,
    pub options: BatchOptions,
    pub mode: EmbedMode,
    /// Whether new batches are made of what waits.
    pub packs: bool,
    pub model: ModelIdentity,
    pub objects: Arc<dyn ObjectStore>,
    /// Where results lie until they are taken in.
    pub folder: PathBuf,
    pub control: Arc<dyn ControlStore>,
    pub events: Arc<dyn EventSink>,
    pub clock: SharedClock,
    pub outlook: Arc<Outlook>,
    /// Documents may go on.
    pub wake: Arc<Notify>,
    pub collections: Rc<Collections>,
}

/// The collections that records come into, opened once.
pub struct Collections {
    open: OpenCollection,
    opened: Mutex<HashMap<String, Arc<VectorStore>>>,
}

impl Collections {
    pub fn new(open: OpenCollection) -> Self {
        Self { open, opened: Mutex::default() }
    }

    pub fn get(&self, name: &str) -> Result<Arc<VectorStore>, VectorError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = opened.get(name) {
            return Ok(store.clone());
        }
        let store = (self.open)(name)?;
        opened.insert(name.to_owned(), store.clone());
        Ok(store)
    }

    /// Those that something came into.
    pub fn used(&self) -> Vec<Arc<VectorStore>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl BatchDesk {
    /// How its model's requests are written.
    pub fn lines(&self) -> RequestLines<'_> {
        RequestLines { model: &self.endpoint.model, dimensions: self.endpoint.asked_dimensions() }
    }

    /// Whose books a space's batches are in.
    pub fn collection(&self, space: &Space) -> String {
        match space {
            Space::Texts(_) => self.account.collection.clone(),
            Space::Records(collection) => collection.clone(),
        }
    }

    /// Where a batch's requests lie.
    pub fn input_key(batch: &str) -> String {
        format!("batches/{batch}/input.jsonl")
    }

    /// Lets go on every document whose texts are there.
    pub async fn resume(&self) -> Result<(), StageError> {
        const PAGE: usize = 500;
        let mut after = String::new();
        let mut resumed = 0;
        loop {
            let page = self.batches.ready(&after, PAGE).await?;
            for document in &page {
                resumed += self.resume_one(document).await?;
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE) else { break };
            after = last.clone();
        }
        if resumed > 0 {
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn resume_one(&self, document: &str) -> Result<u64, StageError> {
        let control = |e| crate::actors::steward::control(e);
        let resumed = self.control.resume(Some(&wake_word(document))).await.map_err(control)?;
        if resumed > 0 {
            return Ok(resumed);
        }
        // Parking, or on its way; or no longer in need of them.
        let Some(id) = crate::documents::DocumentId::parse(document) else {
            self.batches.taken(document).await?;
            return Ok(0);
        };
        let needless = match self.control.record(&id).await {
            Ok(record) => {
                matches!(record.status, Status::Completed | Status::Failed | Status::Quarantined | Status::Deleted)
            }
            Err(crate::stores::control::ControlError::NotFound(_)) => true,
            Err(error) => return Err(control(error)),
        };
        if needless {
            self.batches.taken(document).await?;
        }
        Ok(0)
    }

    /// Documents that wait for texts of which nobody knows any more: they ask anew.
    pub async fn wake_the_forgotten(&self) -> Result<(), StageError> {
        const PAGE: usize = 500;
        let control = |e| crate::actors::steward::control(e);
        let filter = RecordFilter { status: Some(Status::Parked), ..RecordFilter::default() };
        let mut after = None;
        loop {
            let page = self.control.list(&filter, after.as_ref(), PAGE).await.map_err(control)?;
            for record in &page {
                let word = wake_word(record.document_id.as_str());
                let waits = record.parked_resume == Some(crate::stores::control::Resume::On(word.clone()));
                if waits && !self.batches.is_waiting(record.document_id.as_str()).await? {
                    self.control.resume(Some(&word)).await.map_err(control)?;
                }
            }
            after = page.last().map(|r| r.document_id.clone());
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }
}
