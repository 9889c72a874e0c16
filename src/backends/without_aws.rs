//! Replaces the functions of `aws/mod.rs` in a program that was built without the AWS clients.

use std::path::Path;
use std::sync::Arc;

use docweir_providers::comprehend::Remote;
use docweir_providers::secrets::Vault;
use docweir_stores::queues::DeadLetters;
use docweir_stores::record_table::{RecordTable, TableError};

use super::{ControlBackend, ObjectBackend, without_aws};
use crate::actors::queues::Queues;
use crate::config::Settings;
use crate::exit::EngineError;
use crate::intake::originals::{LocalOriginals, Originals};
use crate::telemetry::publisher::MetricSink;

pub fn object_backends() -> Vec<Box<dyn ObjectBackend>> {
    Vec::new()
}

pub fn control_backends() -> Vec<Box<dyn ControlBackend>> {
    Vec::new()
}

pub fn vault(_: &Settings) -> Option<Arc<dyn Vault>> {
    None
}

pub fn originals(_: &Settings, _: &Path) -> Arc<dyn Originals> {
    Arc::new(LocalOriginals)
}

pub async fn queues(_: &Settings, _: &str, _: &str) -> Result<Queues, EngineError> {
    Err(without_aws())
}

pub async fn dead_letters(_: &Settings) -> Result<Vec<DeadLetters>, EngineError> {
    Ok(Vec::new())
}

pub async fn redrive(_: &Settings, _: &str) -> Result<u64, EngineError> {
    Err(without_aws())
}

pub async fn record_tables(_: &Settings) -> Result<Arc<dyn RecordTable>, TableError> {
    let (table, hint) = ("of records".into(), "build docweir with `cargo build --release --features aws`".into());
    Err(TableError::Broken { table, reason: "this docweir was built without AWS".into(), hint })
}

pub async fn figures(_: &Settings) -> Result<Box<dyn MetricSink>, EngineError> {
    Err(without_aws())
}

pub async fn comprehend(_: &Settings) -> Result<Arc<dyn Remote>, EngineError> {
    Err(without_aws())
}
