//! What lasts: objects, control records, vectors, caches, and the state folder that holds them all. Knows nothing of
//! stages' workings, actors or the command line.

pub mod batches;
pub mod cache;
pub mod control;
pub mod lease;
pub mod ledger;
pub mod objects;
pub mod paid;
pub mod queues;
pub mod record_table;
pub mod sqlite;
pub mod state;
pub mod vectors;
