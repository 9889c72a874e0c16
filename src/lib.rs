//! Docweir turns documents into a searchable vector index, and keeps it true.
//!
//! # Layout
//! Data flows one way, commands flow down the supervision tree, facts flow up:
//! ```text
//! files ─▶ intake ─▶ extract ─▶ chunk ─▶ enrich ─▶ embed ─▶ load ─▶ vectors
//!             │                                              │
//!             └── control store: what is to be done, by whom, how far ── manifest: what is visible
//! ```
//! The work itself is in crates, each of which can be used alone:
//!
//! | crate | what is in it |
//! | --- | --- |
//! | [`docweir_core`] | ids, artefacts, errors, time, money: what the others exchange |
//! | [`docweir_extract`] | a file to structured text, in child processes that can be killed |
//! | [`docweir_stages`] | chunking, enrichment and embedding of one document |
//! | [`docweir_records`] | small records: lines and words of receipts, any JSON objects |
//! | [`docweir_objects`] | objects under keys, with conditional puts; leases |
//! | [`docweir_index`] | the delta–snapshot index and its search |
//! | [`docweir_stores`] | control records, ledger, batches, caches, the state folder |
//! | [`docweir_admission`], [`docweir_providers`] | services that are paid for: how much is asked of them, when, and the calls |
//! | `docweir_aws`, `docweir_aws_backend` | AWS's clients; the stores and services that are made of them (feature `aws`) |
//!
//! This package puts them to work. Each module uses only those above it (`src/layers.rs` is the test):
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`supervisors`] | the actor kernel: bounded pools, restarts, retries, drain; knows no document |
//! | [`intake`] | from paths and buckets to files: the walk, sources as URIs |
//! | [`messages`] | what crosses a mailbox |
//! | [`telemetry`] | figures, and lines of the log that belong together |
//! | [`actors`] | one actor a file: who hands what to whom |
//! | [`config`] | typed settings, every one with its unit and default |
//! | [`exit`] | exit codes, and the failures that lead to them |
//! | [`backends`] | where state lies: the object store and the control store, each behind a trait |
//! | [`engine`] | opens what a command needs |
//! | [`search`] | answers queries, whoever asks: options, filters, results, errors |
//! | [`http`] | health, metrics and the supervision tree, as pages |
//! | [`pipeline`] | builds the supervision tree and runs it to its end |
//! | `infra` | what is needed in AWS, made or checked (feature `aws`) |
//! | [`doctor`] | looks at what a run will need, before it needs it |
//! | [`cli`] | one file a command |
//!
//! # The supervision tree
//! ```text
//! root ─┬─ pool extract ── workers, each with a child process that parses untrusted files
//!       ├─ pool chunk, pool enrich, pool embed ── workers
//!       ├─ pool load ── workers that wait for the committer
//!       ├─ service dispatcher ── claims documents from the control store
//!       ├─ service committer ── the one writer of the vector store's manifest
//!       ├─ service heartbeat ── renews the claims
//!       ├─ service reservation_sweeper ── calls in doubt what processes that died had set aside, where several share the ledger
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
//! 3. A worker does the stage and leaves an artefact; the sink writes the outcome to the control store, fenced by
//!    the epoch, before the pool lets go. Then the next pool takes it, waiting if it is full.
//! 4. Loading hands the rows to the committer. The swap of the manifest makes them visible, whole, in the place of the
//!    document's earlier version.
//! 5. The control record says `COMPLETED`, because the manifest does.
//!
//! A failure is a retry or the quarantine, by its class; a death of anything is a restart; a death of the process is a
//! resume at step 2.

pub mod actors;
pub mod backends;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod exit;
pub mod http;
#[cfg(feature = "aws")]
pub mod infra;
pub mod intake;
pub mod messages;
pub mod pipeline;
pub mod search;
pub mod supervisors;
pub mod telemetry;

#[cfg(test)]
mod layers;
