//! Plans, creates and checks the AWS resources that Docweir needs. The resources are tables (with indexes and
//! expiry), buckets (with lifecycle rules) and queues (with permissions).
//!
//! `docweir infra apply` creates the resources. If an administrator creates the resources instead, `docweir infra
//! check` reports how they differ from their definitions. Existing resources are never deleted. A table with a wrong
//! definition is reported but not changed, because the table may hold data.

pub mod policy;
mod queue_policy;
mod queues;
pub mod rules;

use std::time::Duration;

use docweir_aws::dynamo::Dynamo;
use docweir_aws::dynamo::table::{Index, Table, TableDescription};
use docweir_aws::s3::{Bucket, Encryption, LifecycleRule, S3};
use docweir_aws::{Aws, Fault, FaultKind};
use docweir_aws_backend::batches;
use docweir_aws_backend::control::tables as control;
use docweir_aws_backend::ledger;
use serde::Serialize;

use crate::config::{Settings, bucket_and_prefix};
use crate::infra::queues::QueueInfra;

/// Maximum time to wait until a created table or index is active. The index of a large table takes longer.
const TABLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Describes the state of a required resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[serde(rename = "right")]
    Correct,
    /// The resource or one of its settings is missing. The text names the change that `apply` makes.
    Missing(String),
    /// The resource differs from its definition; a person must decide how to change it.
    #[serde(rename = "wrong")]
    Differs(String),
}

/// Describes a required resource and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequiredResource {
    /// Kind of the resource: `table`, `bucket`, `queue` or `events`.
    pub kind: &'static str,
    pub name: String,
    #[serde(flatten)]
    pub state: State,
    /// Property of the resource that people should know, although it is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Says what versioning of a state bucket means for deleted documents.
pub const VERSIONED: &str = "the bucket is versioned: deleted documents stay readable as noncurrent versions, until \
                             `docweir erase` or a lifecycle rule deletes these versions";

/// Returns the definitions of all tables.
pub fn tables(settings: &Settings) -> Vec<Table> {
    let options = &settings.dynamodb;
    control::tables(options).into_iter().chain([ledger::table(options), batches::table(options)]).collect()
}

/// Manages all resources that a configuration needs.
pub struct Infra {
    dynamo: Dynamo,
    tables: Vec<Table>,
    /// Buckets with their lifecycle rules.
    buckets: Vec<(Bucket, Vec<LifecycleRule>)>,
    /// Buckets and prefixes that hold objects of Docweir.
    places: Vec<(String, String)>,
    /// Encryption of new buckets. `None` means that S3 encrypts objects with keys of its own.
    encryption: Option<Encryption>,
    queues: QueueInfra,
}

impl Infra {
    pub async fn of(settings: &Settings) -> Self {
        let aws = Aws::find(settings.aws.clone()).await;
        let s3 = S3::new(&aws, &settings.s3);
        let (artefacts, prefix) = bucket_and_prefix(&settings.buckets.artefacts);
        let (vectors, below) = bucket_and_prefix(settings.buckets.vectors());
        let mut buckets = vec![(s3.bucket(artefacts), rules::archiving(prefix, settings.buckets.archive_days))];
        if vectors != artefacts {
            buckets.push((s3.bucket(vectors), rules::abandoned()));
        }
        let queues = QueueInfra::of(settings, &aws, &s3);
        Self {
            queues,
            dynamo: Dynamo::new(&aws, &settings.dynamodb.endpoint),
            tables: if settings.needs_tables() { tables(settings) } else { Vec::new() },
            buckets,
            places: [(artefacts, prefix), (vectors, below)].map(|(b, p)| (b.to_owned(), p.to_owned())).into(),
            encryption: (!settings.s3.encryption.is_empty())
                .then(|| Encryption { kind: settings.s3.encryption.clone(), kms_key: settings.s3.kms_key.clone() }),
        }
    }

    /// Returns the state of all resources.
    pub async fn look(&self) -> Result<Vec<RequiredResource>, Fault> {
        let mut things = Vec::new();
        for table in &self.tables {
            let state = self.table(table).await?;
            things.push(RequiredResource { kind: "table", name: table.name.clone(), state, note: None });
        }
        for (bucket, rules) in &self.buckets {
            let state = self.bucket(bucket, rules).await?;
            let versioned = bucket.exists().await? && bucket.is_versioned().await?;
            let note = versioned.then(|| VERSIONED.to_owned());
            things.push(RequiredResource { kind: "bucket", name: bucket.name().to_owned(), state, note });
        }
        things.extend(self.queues.look().await?);
        Ok(things)
    }

    /// Creates missing resources and adds missing settings. Existing settings are never changed, even if they are
    /// wrong.
    pub async fn apply(&self) -> Result<(), Fault> {
        for table in &self.tables {
            if matches!(self.table(table).await?, State::Missing(_)) {
                self.dynamo.create(table, TABLE_TIMEOUT).await?;
                for index in self.missing_indexes(table).await? {
                    self.dynamo.create_index(&table.name, index, TABLE_TIMEOUT).await?;
                }
            }
        }
        for (bucket, rules) in &self.buckets {
            if !matches!(self.bucket(bucket, rules).await?, State::Missing(_)) {
                continue;
            }
            if !bucket.exists().await? {
                bucket.create().await?;
                known(bucket.make_private().await)?;
                if let Some(encryption) = &self.encryption {
                    bucket.put_encryption(encryption).await?;
                }
            }
            known(bucket.put_lifecycle(rules).await)?;
        }
        self.queues.apply().await
    }

    /// Returns the indexes that an existing table lacks.
    async fn missing_indexes<'t>(&self, table: &'t Table) -> Result<Vec<&'t Index>, Fault> {
        let found = self.dynamo.describe(&table.name).await?.map(|found| found.indexes).unwrap_or_default();
        let is_missing = |index: &&Index| !found.iter().any(|found| found.name == index.name);
        Ok(table.indexes.iter().filter(is_missing).collect())
    }

    /// Returns the state of one table.
    pub async fn table(&self, table: &Table) -> Result<State, Fault> {
        Ok(match self.dynamo.describe(&table.name).await? {
            Some(found) => table_state(found, table),
            None => State::Missing("create the table with on-demand capacity".into()),
        })
    }

    fn prefixes(&self, bucket: &Bucket) -> impl Iterator<Item = &str> {
        self.places.iter().filter(|(name, _)| name == bucket.name()).map(|(_, prefix)| prefix.as_str())
    }

    async fn bucket(&self, bucket: &Bucket, rules: &[LifecycleRule]) -> Result<State, Fault> {
        if !bucket.exists().await? {
            return Ok(State::Missing(format!("create a private bucket with {} lifecycle rules", rules.len())));
        }
        let there = bucket.lifecycle().await?;
        let missing: Vec<&str> =
            rules.iter().filter(|rule| !there.contains(rule)).map(|rule| rule.id.as_str()).collect();
        if let Some(wrong) = self.wrong(bucket, &there).await? {
            let rules = missing.join(", ");
            // A bucket that differs is left as it is, so the rules of Docweir are not set either.
            return Ok(State::Differs(match missing.is_empty() {
                true => wrong,
                false => format!("{wrong}; lifecycle rules not set because of this: {rules}"),
            }));
        }
        Ok(match missing.is_empty() {
            true => State::Correct,
            false => State::Missing(format!("set the lifecycle rules {}", missing.join(", "))),
        })
    }

    /// Returns a description of what a person must change in a bucket. `rules` are the lifecycle rules of the bucket.
    async fn wrong(&self, bucket: &Bucket, rules: &[LifecycleRule]) -> Result<Option<String>, Fault> {
        let open = match bucket.is_private().await {
            Ok(private) => !private,
            // The endpoint does not support this setting.
            Err(fault) if matches!(fault.kind, FaultKind::Invalid | FaultKind::NotFound) => false,
            Err(fault) => return Err(fault),
        };
        if open {
            return Ok(Some("objects of the bucket can be made public; block public access".into()));
        }
        if let Some(wanted) = &self.encryption
            && bucket.encryption().await?.as_ref() != Some(wanted)
        {
            return Ok(Some(format!("the bucket must use encryption {} (`s3.encryption`)", wanted.kind)));
        }
        Ok(rules.iter().find_map(|rule| self.prefixes(bucket).find_map(|prefix| rules::harm(rule, prefix))))
    }
}

/// Ignores the error of a server that does not support a setting, and logs a warning instead. S3-compatible servers
/// of other vendors support fewer settings than AWS.
fn known(set: Result<(), Fault>) -> Result<(), Fault> {
    match set {
        Err(fault) if fault.kind == FaultKind::Invalid => {
            tracing::warn!(%fault, "setting not supported by the endpoint; skipped");
            Ok(())
        }
        other => other,
    }
}

/// Compares an existing table with its definition.
fn table_state(found: TableDescription, table: &Table) -> State {
    let (mut wrong, mut missing) = (Vec::new(), Vec::new());
    if (found.hash.as_str(), found.range.as_deref()) != (table.key.hash, table.key.range) {
        let range = found.range.unwrap_or_default();
        wrong.push(format!("the table's key is {} and {range}, not {:?}", found.hash, table.key));
    }
    for index in &table.indexes {
        match found.indexes.iter().find(|found| found.name == index.name) {
            None => missing.push(format!("create the index {}", index.name)),
            Some(found) if !found.serves_as(index) => wrong.push(format!(
                "the index {} must have the key {:?} and hold {}",
                index.name,
                index.key,
                index.holds.join(", ")
            )),
            Some(_) => {}
        }
    }
    if !found.ready {
        missing.push("wait until the table and its indexes are complete".to_owned());
    }
    match (found.expires.as_deref(), table.expires) {
        (found, wanted) if found == wanted => {}
        (Some("ttl"), Some(wanted)) => wrong.push(format!(
            "the time to live uses `ttl`, which deletes records of searchable documents; use `{wanted}` instead"
        )),
        (None, Some(_)) => missing.push("set the table's time to live".to_owned()),
        (found, wanted) => wrong.push(format!("the time to live uses {found:?}, not {wanted:?}")),
    }
    match (wrong.is_empty(), missing.is_empty()) {
        (true, true) => State::Correct,
        (true, false) => State::Missing(missing.join("; ")),
        (false, _) => {
            let not_done = missing.iter().map(|missing| format!("to do by hand: {missing}"));
            State::Differs(wrong.into_iter().chain(not_done).collect::<Vec<_>>().join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use docweir_aws::dynamo::table::{FoundIndex, Key};

    use super::*;

    #[test]
    fn a_table_is_correct_once_it_is_complete() {
        let key = Key { hash: "pk", range: Some("sk") };
        let index = Index { name: "by_status", key, holds: &["status"] };
        let table = Table { name: "t".into(), key, indexes: vec![index], expires: Some("expires_at") };
        let index = FoundIndex { name: "by_status".into(), hash: "pk".into(), range: Some("sk".into()), holds: None };
        let found = TableDescription {
            ready: true,
            hash: "pk".into(),
            range: Some("sk".into()),
            indexes: vec![index],
            on_demand: true,
            expires: Some("expires_at".into()),
        };
        assert_eq!(table_state(found.clone(), &table), State::Correct);
        let waits = State::Missing("wait until the table and its indexes are complete".into());
        assert_eq!(table_state(TableDescription { ready: false, ..found.clone() }, &table), waits);
        let missing = State::Missing("create the index by_status".into());
        assert_eq!(table_state(TableDescription { indexes: vec![], ..found }, &table), missing);
    }
}
