//! Docweir turns documents into a searchable vector index, and keeps it true.
//!
//! # Layout
//! Data flows one way, commands flow down the supervision tree, facts flow up:
//! ```text
//! files ─▶ intake ─▶ extract ─▶ chunk ─▶ enrich ─▶ embed ─▶ load ─▶ vectors
//!             │                                              │
//!             └── control store: what is to be done, by whom, how far ── manifest: what is visible
//! ```
//! | room | what is in it |
//! | --- | --- |
//! | [`intake`] | from paths to files: the walk, sources as URIs |
//! | [`stages`] | what each stage does to one document, callable without an actor |
//! | [`records`] | small records: lines and words of receipts, any JSON objects |
//! | [`stores`] | what lasts: objects, control records, vectors, caches, the ledger, items and batches, the state folder |
//! | [`providers`] | services that are paid for: how much is asked of them, when, and the calls |
//! | [`secrets`] | keys that open doors: named in the configuration, read where they are kept |
//! | [`supervisors`] | the actor kernel: bounded pools, restarts, retries, drain |
//! | [`actors`] | the wiring of the three: who hands what to whom |
//! | [`messages`] | what crosses a mailbox |
//! | [`config`] | typed settings, every one with its unit and default |
//! | [`search`] | answers queries, whoever asks: options, filters, results, errors |
//! | [`engine`] | opens the stores that a command needs |
//! | `infra` | what is needed in AWS, made or checked; `crates/aws` is the only code that knows AWS's clients |
//! | [`doctor`] | looks at what a run will need, before it needs it |
//! | [`telemetry`] | what a run tells those who watch it: figures, and lines of the log that belong together |
//! | [`http`], [`cli`] | the outside |
//!
//! # The supervision tree
//! ```text
//! root ─┬─ pool extract ── workers, each with a child process that parses untrusted files
//!       ├─ pool chunk, pool enrich, pool embed ── workers
//!       ├─ pool load ── workers that wait for the committer
//!       ├─ service dispatcher ── claims documents from the control store
//!       ├─ service committer ── the one writer of the vector store's manifest
//!       ├─ service heartbeat ── renews the claims
//!       ├─ service bookkeeper ── calls in doubt what processes that died had set aside, where several share the books
//!       ├─ service recorder ── embeds records at once, where they don't go by batch
//!       ├─ service keeper ── has the three below and the recorder, while this process has the lease on batches
//!       ├─ services submitter, poller, harvester ── batches at a provider, where there are any
//!       ├─ service lock ── keeps the lease on compaction
//!       ├─ service compactor ── merges vector files when there is reason to
//!       ├─ services events, merge requests ── take messages from queues, where there are any
//!       ├─ service cloudwatch ── publishes figures, where that is wanted
//!       └─ service janitor ── deletes vector files that nothing needs
//! ```
//!
//! # The life of one document
//! 1. Intake hashes the file and registers it: new, changed, or unchanged and done with. The record is durable.
//! 2. The dispatcher claims it (lease, epoch) and submits it to the pool of its first unfinished stage.
//! 3. A worker does the stage and leaves an artefact; the steward writes the outcome to the control store, fenced by
//!    the epoch, before the pool lets go. Then the next pool takes it, waiting if it is full.
//! 4. Loading hands the rows to the committer. The swap of the manifest makes them visible, whole, in the place of the
//!    document's earlier version.
//! 5. The control record says `COMPLETED`, because the manifest does.
//!
//! A failure is a retry or the quarantine, by its class; a death of anything is a restart; a death of the process is a
//! resume at step 2.

pub mod actors;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod http;
#[cfg(feature = "aws")]
pub mod infra;
pub mod intake;
pub mod messages;
pub mod search;
pub mod supervisors;
pub mod telemetry;
