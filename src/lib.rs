//! Docweir turns documents into a searchable vector index and keeps the index consistent with its sources.
//!
//! # Layout
//! Data flows in one direction, from files to vectors. In the supervision tree (see below), commands flow down and
//! facts flow up.
//! ```text
//! files ─▶ intake ─▶ extract ─▶ chunk ─▶ enrich ─▶ embed ─▶ load ─▶ vectors
//!             │                                              │
//!             │                                              └── manifest: the rows that are visible
//!             └── control store: pending work, claims, and the progress of each document
//! ```
//! Crates do the actual work. Each crate can be used alone:
//!
//! | crate | contents |
//! | --- | --- |
//! | [`docweir_core`] | types that all crates share: ids, artefacts, errors, time, money |
//! | [`docweir_extract`] | extracts structured text from a file, in child processes that can be killed |
//! | [`docweir_stages`] | chunks, enriches and embeds one document |
//! | [`docweir_records`] | reads small records: lines and words of receipts, or any JSON objects |
//! | [`docweir_objects`] | stores objects under keys, with conditional puts and leases |
//! | [`docweir_target`] | defines the trait of a store for vectors |
//! | [`docweir_index`] | implements that trait: the index of deltas and snapshots, and its search |
//! | [`docweir_stores`] | stores control records, the ledger, batches and caches, and manages the state folder |
//! | [`docweir_admission`] | limits the calls to a paid service and shares the quota fairly |
//! | [`docweir_providers`] | calls paid services, and reserves and settles the cost of each call |
//! | `docweir_aws`, `docweir_aws_backend` | call AWS services; implement stores and queues with them (feature `aws`) |
//!
//! This package combines them into a program. A module may use only itself and the modules above it in this table
//! (`src/layers.rs` tests this):
//!
//! | module | contents |
//! | --- | --- |
//! | [`supervisors`] | actor kernel: bounded pools, restarts, retries, drain; knows no documents |
//! | [`intake`] | finds files under paths and in buckets, and names each by a URI |
//! | [`messages`] | messages that actors exchange |
//! | [`telemetry`] | metrics, and the fields of log lines about a document |
//! | [`actors`] | one actor per file; connects the pipeline's parts |
//! | [`config`] | typed settings, each with its unit and default |
//! | [`exit`] | exit codes, and the failures that lead to them |
//! | [`backends`] | opens the configured object store and control store, each behind a trait |
//! | [`engine`] | opens everything that a command needs |
//! | [`search`] | answers queries: options, filters, results, errors |
//! | [`http`] | serves health, metrics and the supervision tree |
//! | [`pipeline`] | builds the supervision tree and runs it to its end |
//! | `infra` | creates or checks the resources in AWS (feature `aws`) |
//! | [`doctor`] | checks the requirements of a run before it starts |
//! | [`cli`] | one file per command |
//!
//! # The supervision tree
//! ```text
//! root ─┬─ pool extract ── workers, each with a child process that parses untrusted files
//!       ├─ pools chunk, enrich, embed ── workers
//!       ├─ pool load ── workers that wait for the committer
//!       ├─ service dispatcher ── claims documents from the control store
//!       ├─ service committer ── the only writer of documents to the vector store
//!       ├─ service heartbeat ── renews the claims
//!       ├─ service reservation_sweeper ── marks reservations of dead processes as in doubt (shared ledger only)
//!       ├─ service leader ── runs recorder and batch services while it holds the lease on batches (shared state only)
//!       ├─ service recorder ── embeds records by live calls
//!       ├─ services submitter, poller, harvester ── send batches to a provider, watch them, and store their results
//!       ├─ service lock ── holds the lease on compaction
//!       ├─ service compactor ── merges vector files when a merge is due
//!       ├─ service janitor ── deletes vector files that no version needs
//!       ├─ services events, merge requests ── receive messages from queues, if queues are configured
//!       └─ service cloudwatch ── publishes metrics, if configured
//! ```
//!
//! # The life of one document
//! 1. Intake hashes the file and registers it durably, unless its content and configuration are unchanged.
//! 2. The dispatcher claims the document (lease, epoch) and submits it to the pool of its first unfinished stage.
//! 3. A worker runs the stage and writes an artefact. The outcome is then stored in the control store, fenced by the
//!    epoch. After that, the pool submits the document to the next pool, and waits if that pool is full.
//! 4. The load pool sends the rows to the committer. One swap of the manifest makes them visible, all at once, and
//!    replaces the rows of the document's earlier version.
//! 5. The control record becomes `COMPLETED`, because the manifest holds the rows.
//!
//! If an attempt fails, the class of the error decides whether the attempt is retried or the document is quarantined.
//! An actor that dies is restarted. If the process dies, the next run resumes at step 2.

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
mod json_numbers;
#[cfg(test)]
mod layers;
