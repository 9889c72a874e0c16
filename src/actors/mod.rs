//! Connects the parts of the pipeline. Actors pass data on and do no work of a stage themselves. The work of stages
//! is in `docweir_stages`, durable state is in `docweir_stores`, and the life cycle of actors is in `supervisors`.
//!
//! ```text
//! intake ─▶ control store ─▶ dispatcher ─▶ extract ─▶ chunk ─▶ enrich ─▶ embed ─▶ load ─▶ committer ─▶ manifest
//!                                             └────────┴── outcomes: each one durable first ──────┘
//! records ─▶ items ─▶ recorder ─▶ manifest      items ─▶ submitter ─▶ provider ─▶ poller ─▶ harvester ─▶ manifest
//! lock ─▶ compactor ─▶ manifest ◀─ janitor
//! queue of a bucket's events ─▶ consumer ─▶ intake      queue of requests to merge ─▶ consumer ─▶ compactor
//! ```

pub mod artefacts;
pub mod batches;
pub mod committer;
pub mod compactor;
pub mod dispatcher;
pub mod fence;
pub mod foreign_claims;
pub mod heartbeat;
pub mod intake;
pub mod janitor;
pub mod lock;
pub mod maintenance;
pub mod moves;
pub mod object_intake;
pub mod outages;
pub mod outcomes;
pub mod prune;
pub mod quarantine;
pub mod queues;
pub mod records_intake;
pub mod reservation_sweeper;
pub mod retry_while_busy;
pub mod run_summary;
pub mod stage_chunk;
pub mod stage_embed;
pub mod stage_enrich;
pub mod stage_extract;
pub mod stage_load;
pub mod table_intake;
pub mod timer;
