//! Checks that every setting is in range, and that related settings are consistent with each other.

use docweir_core::ranges::out_of_range;
use docweir_stages::enrich::EnrichProvider;
use docweir_stores::batches::DOCUMENTS;

use super::settings::{ObjectPlace, Provider, Settings, StagePool};
use crate::actors::batches::EmbedMode;

impl Settings {
    /// Returns each invalid setting: its key, and an error message. The message is a sentence without its subject,
    /// and the key is the subject.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut add = |section: &str, found: Vec<(&'static str, String)>| {
            all.extend(found.into_iter().map(|(field, text)| (format!("{section}.{field}"), text)));
        };
        add("intake", self.intake.problems());
        add("extract.options", self.extract.options.problems());
        add("extract", self.extract.problems());
        add("chunk.options", self.chunk.options.problems());
        add("chunk", self.chunk.problems());
        add("enrich.options", self.enrich.options.problems());
        add("enrich.options.comprehend", self.enrich.options.comprehend.problems());
        add("enrich.options.comprehend.cache", self.enrich.options.comprehend.cache.problems());
        add("enrich", self.enrich.problems());
        add("embed.options.batch", self.embed.options.batch.problems());
        add("embed.options.model", self.embed.options.model.problems());
        add("embed.options.openai", self.embed.options.openai.problems());
        add("embed.options.openai.limits", self.embed.options.openai.limits.problems());
        add("embed", self.embed.pool().problems());
        add("load.options", self.load.options.problems());
        add("load", self.load.problems());
        add("batch", self.batch.problems());
        add("batch.transfer", self.batch.transfer.problems());
        add("records", self.records.problems());
        add("records.table", self.records.table.problems());
        add("budget", self.budget.problems());
        add("prices", self.prices.problems());
        add("retry", self.retry.problems());
        add("restart", self.restart.problems());
        add("control", self.control.problems());
        add("objects", self.objects.problems());
        add("aws", self.aws.problems());
        add("secrets", self.secrets.problems());
        add("s3", self.s3.problems());
        add("dynamodb", self.dynamodb.problems());
        add("copies", self.copies.problems());
        add("queues", self.queues.problems());
        add("cache", self.cache.problems());
        add("vectors", self.vectors.problems());
        add("compaction", self.compaction.problems());
        add("retention", self.retention.problems());
        add("http", self.http.problems());
        add("cloudwatch", self.cloudwatch.problems());
        add("doctor", self.doctor.problems());
        let mut range = |key, value: f64, low, high| {
            all.extend(out_of_range(key, value, low, high).map(|(key, text)| (key.to_owned(), text)));
        };
        range("docweir_config", f64::from(self.docweir_config), 1.0, 1.0);
        range("lease.seconds", self.lease.seconds as f64, 3.0, 86_400.0);
        range("lease.max_interruptions", f64::from(self.lease.max_interruptions), 1.0, 1_000.0);
        let alone = f64::from(self.lease.alone_after_interruptions);
        range("lease.alone_after_interruptions", alone, 1.0, 1_000.0);
        range("drain.seconds", self.drain.seconds as f64, 1.0, 3_600.0);
        range("search.top", self.search.top as f64, 1.0, self.vectors.max_results as f64);
        range("search.weight", self.search.weight, 0.0, 1.0);
        range("embed.options.hashed_dimensions", f64::from(self.embed.options.hashed_dimensions), 8.0, 8_192.0);
        range("embed.options.hashed_milliseconds", self.embed.options.hashed_milliseconds as f64, 0.0, 60_000.0);
        range("quarantine.max_original_bytes", self.quarantine.max_original_bytes as f64, 0.0, 1e12);
        if self.lease.heartbeat_seconds == 0 || self.lease.heartbeat_seconds * 3 > self.lease.seconds {
            let text = format!("must be at least 1 and at most a third of `lease.seconds` ({})", self.lease.seconds);
            all.push(("lease.heartbeat_seconds".into(), text));
        }
        let comprehend = &self.enrich.options.comprehend;
        let longest = comprehend.max_document_seconds + comprehend.max_wait_seconds + comprehend.request_seconds;
        if self.enrich.options.provider == EnrichProvider::Comprehend && longest > self.enrich.deadline_seconds as f64 {
            let text = format!(
                "plus `max_wait_seconds` and `request_seconds` must not exceed `enrich.deadline_seconds` ({}); \
                 otherwise a slow service would use up the attempts of documents",
                self.enrich.deadline_seconds
            );
            all.push(("enrich.options.comprehend.max_document_seconds".into(), text));
        }
        if self.embed.mode != EmbedMode::Live && self.embed.options.provider != Provider::Openai {
            let text = "must be `live` unless `embed.options.provider` is `openai`; other providers accept no batches";
            all.push(("embed.mode".into(), text.into()));
        }
        let (objects, control) = (self.state.objects_in(), self.state.control_in());
        if objects == "s3" && self.buckets.artefacts.is_empty() {
            let because = if self.state.objects == ObjectPlace::S3 { "objects` is `s3" } else { "backend` is `aws" };
            all.push(("buckets.artefacts".into(), format!("must name a bucket if `state.{because}`")));
        }
        if objects == "folder" && control == "dynamodb" {
            let text = "must be `s3` if control records are in DynamoDB: other machines cannot read this folder";
            all.push(("state.objects".into(), text.into()));
        }
        if !self.queues.intake.is_empty() && self.queues.watched(&self.buckets.artefacts).is_empty() {
            all.push(("queues.watch".into(), "must name the location of new documents, as `BUCKET/PREFIX/`".into()));
        }
        if self.records.table.collection == DOCUMENTS {
            all.push((
                "records.table.collection".into(),
                "must not be `documents`, because that name is reserved".into(),
            ));
        }
        if self.state.folder.is_empty() {
            all.push(("state.folder".into(), "must name a folder".into()));
        }
        all
    }
}

impl<T> StagePool<T> {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low, high| found.extend(out_of_range(field, value, low, high));
        range("workers.min", self.workers.min as u64, 1, 4_096);
        if self.workers.max != 0 {
            range("workers.max", self.workers.max as u64, self.workers.min as u64, 4_096);
        }
        range("queue_documents", self.queue_documents as u64, 1, 1_000_000);
        range("queue_bytes", self.queue_bytes as u64, 1 << 20, 1 << 40);
        range("deadline_seconds", self.deadline_seconds, 1, 7 * 86_400);
        found
    }
}
