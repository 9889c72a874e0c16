//! Items that a vector is wanted for, the batches that they are sent in, and the documents that wait for them.
//!
//! ```text
//!   NONE ──pack──▶ PENDING ──result──▶ SUCCESS          NOISE: never sent
//!    ▲  ▲             │  └──refused──▶ FAILED
//!    │  └──no answer──┘
//!    └── text or metadata changed: a new version
//! ```
//! An item belongs to a *space*: a collection of records, or the texts of documents that wait for one model. Its version
//! grows with each change and is the version of its row in the vector store. What was sent carries the hash of its text;
//! a result for what has changed or was deleted meanwhile finds no item, and is stale.
//!
//! # Layout
//! - [`Batches`] what every store of them does; `conformance` what it has to
//! - `sqlite` in one file with the ledger: a batch and its money, its end and its items change in one step
//! - [`dynamodb`] for any number of processes, of which one at a time looks after batches

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
pub mod conformance;
mod origin;
mod sqlite;
#[cfg(test)]
mod tests;
mod types;

use async_trait::async_trait;
use docweir_core::documents::Sha256Hex;
use docweir_core::model::ModelIdentity;

pub use origin::{Origin, Outcome, Owed};
pub use sqlite::SqliteBatches;
pub use types::*;

use crate::paid::PaidError;

type Result<T> = std::result::Result<T, PaidError>;

/// Items and batches.
#[async_trait]
pub trait Batches: Send + Sync + 'static {
    // ── who looks after batches ────────────────────────────────────────────────────────────────────────────────────

    /// From now on this process packs, sends and takes in, under an epoch above that of whoever did so before. What
    /// that one had begun is finished or undone, and what it still writes to a batch is refused.
    async fn take_over(&self, epoch: u64) -> Result<()>;

    /// Largest item, in bytes of its input and of what is found of it; `None` without a limit.
    fn most_item_bytes(&self) -> Option<usize> {
        None
    }

    // ── records ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Takes records in. One that is known and the same stays as it is, whatever its status; one that has changed gets a
    /// new version and is to be sent again. One from a table, which asks for it to be embedded, is to be sent again if it
    /// had failed; if it is done, its table is to be told again.
    async fn put(&self, space: &Space, items: Vec<NewItem>) -> Result<Put>;

    /// Says that a collection's records are embedded by a model; returns the model that it is bound to, which may be
    /// another.
    async fn bind(&self, collection: &str, model: &ModelIdentity) -> Result<ModelIdentity>;

    /// Collections that records were ever put into, and the models that they are bound to.
    async fn collections(&self) -> Result<Vec<(String, ModelIdentity)>>;

    /// Deletes records; returns how many there were.
    async fn delete(&self, space: &Space, keys: Vec<String>) -> Result<u64>;

    /// Rows that have to leave the vector store.
    async fn removals(&self, space: &Space, limit: usize) -> Result<Vec<Removal>>;

    /// The vector store holds their tombstones.
    async fn removed(&self, removals: Vec<Removal>) -> Result<()>;

    /// Records whose vector is stored and whose row is to be written anew.
    async fn to_refresh(&self, space: &Space, limit: usize) -> Result<Vec<Sent>>;

    /// Their rows are written anew; or, where there is no vector after all, they are to be embedded.
    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Result<()>;

    /// What the vector store holds of a collection, by what it says itself: an item whose row it does not hold is to be
    /// embedded again. For after its past was brought back.
    async fn reconcile(&self, space: &Space, held: HeldVersion) -> Result<u64>;

    /// Whether a record with this input has its vector.
    async fn is_done(&self, collection: &str, key: &str, input: &str) -> Result<bool>;

    /// Records that came from tables and whose tables have not been told what became of them; without those of some
    /// tables.
    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> Result<Vec<Owed>>;

    /// Their tables were told: items with the marks of what that was.
    async fn told(&self, told: Vec<(ItemId, String)>) -> Result<()>;

    /// Records that their tables have no more, or not as they were taken in: each is deleted, if it still is of its
    /// version. Returns how many were.
    async fn forget(&self, items: Vec<(ItemId, u64)>) -> Result<u64>;

    /// Records that failed are to be sent again; those of one batch, or all.
    async fn retry(&self, batch: Option<&str>) -> Result<u64>;

    // ── what waits ─────────────────────────────────────────────────────────────────────────────────────────────────

    /// What waits to be sent, by space.
    async fn waiting(&self) -> Result<Vec<(Space, Waiting)>>;

    async fn is_any_waiting(&self, space: &Space) -> Result<bool>;

    /// Every space's items by status.
    async fn counts(&self) -> Result<Vec<Counts>>;

    // ── documents ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// Asks for texts in a document's name, and puts down what nobody has asked for yet. Asked again it answers with what
    /// is known by then.
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> Result<Answer>;

    /// The document has its vectors, or needs them no more.
    async fn taken(&self, document: &str) -> Result<()>;

    /// Texts of a document that were embedded at once. What is kept here is not paid again, whatever comes.
    async fn made_live(&self, document: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> Result<()>;

    /// Documents that wait for texts of another model, or for any where there is none: nothing will come for them.
    async fn strangers(&self, space: Option<&Space>, limit: usize) -> Result<Vec<String>>;

    /// Documents that need not wait any longer, after one.
    async fn ready(&self, after: &str, limit: usize) -> Result<Vec<String>>;

    async fn is_waiting(&self, document: &str) -> Result<bool>;

    /// What waits in a space is not worth a batch: its documents are to embed it themselves. Returns how many they are.
    async fn send_live(&self, space: &Space) -> Result<u64>;

    // ── a batch, from its packing to its acceptance ────────────────────────────────────────────────────────────────

    /// Takes waiting items of one space into a new batch, the oldest first, with its money set aside.
    async fn pack(&self, order: Order) -> Result<Packed>;

    /// The requests of a batch that is not sent yet, in order, after one.
    async fn requests(&self, batch: &str, after: u64, limit: usize) -> Result<Vec<Request>>;

    /// Its file is at the provider.
    async fn uploaded(&self, batch: &str, file: &str) -> Result<()>;

    /// The provider is about to be asked to take it.
    async fn asked(&self, batch: &str) -> Result<()>;

    /// The provider certainly does not have it.
    async fn not_taken(&self, batch: &str) -> Result<()>;

    /// Its file is gone at the provider: it is sent anew.
    async fn file_lost(&self, batch: &str) -> Result<()>;

    /// The provider has it, under this name.
    async fn taken_over(&self, batch: &str, provider_id: &str) -> Result<()>;

    /// What the provider says of it now.
    async fn checked(&self, batch: &str, checked: Checked) -> Result<()>;

    /// Somebody was told that it takes long.
    async fn warned(&self, batch: &str) -> Result<()>;

    /// Wants it cancelled. `false` where it has ended.
    async fn cancel(&self, batch: &str) -> Result<bool>;

    /// Batches that have not ended, the oldest first.
    async fn open(&self) -> Result<Vec<Batch>>;

    /// Tokens in batches that have not ended.
    async fn queued_tokens(&self) -> Result<u64>;

    /// The newest first.
    async fn list(&self, limit: usize) -> Result<Vec<Batch>>;

    /// By its id or the provider's.
    async fn batch(&self, id: &str) -> Result<Option<Batch>>;

    // ── what comes back, and the end ───────────────────────────────────────────────────────────────────────────────

    /// Of keys in a batch's answer, those whose items are still what was sent: `None` is stale, or was answered before.
    async fn sent(&self, batch: &str, keys: Vec<String>) -> Result<Vec<Option<Sent>>>;

    /// Vectors are kept: their items are done. Said twice it changes nothing.
    async fn made(&self, batch: &str, made: Vec<Made>) -> Result<()>;

    /// Items that were refused are sent again, or have failed.
    async fn refused(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> Result<()>;

    /// Lines of its file that the provider names as wrong: their items fail for themselves, and no other for them.
    async fn blame(&self, batch: &str, lines: &[u64], error: &str) -> Result<u64>;

    /// The end: items without an answer go back or have failed, the money is settled.
    async fn end(&self, batch: &str, ending: Ending) -> Result<()>;

    // ── records that are embedded at once ──────────────────────────────────────────────────────────────────────────

    /// Items of live calls that a run has left behind are to be sent again.
    async fn forget_live(&self) -> Result<u64>;

    /// Takes waiting records for a live call. `name` begins with `live:`.
    async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> Result<Vec<(Sent, String)>>;

    /// A live call came to nothing: what it had taken is to be sent again.
    async fn give_back_live(&self, name: &str, items: Vec<ItemId>) -> Result<()>;

    /// A record that is refused by itself has failed.
    async fn fail_live(&self, name: &str, item: &ItemId, error: &str) -> Result<()>;

    /// Of items that a live call took, whether each still is what was taken.
    async fn held_live(&self, name: &str, items: Vec<ItemId>) -> Result<Vec<bool>>;
}
