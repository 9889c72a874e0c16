//! Creates and describes tables, their indexes and the expiry of their items.

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
    GlobalSecondaryIndexDescription, GlobalSecondaryIndexUpdate, IndexStatus, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TableStatus, TimeToLiveSpecification,
};
use tokio::time::{Duration, sleep};

use super::{Dynamo, told};
use crate::fault::{Fault, FaultKind};

/// Names the hash attribute and the range attribute of a key. Both attributes hold strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub hash: &'static str,
    pub range: Option<&'static str>,
}

/// Describes an index to create. `holds` lists the attributes that the index contains in addition to the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    pub name: &'static str,
    pub key: Key,
    pub holds: &'static [&'static str],
}

/// Describes a table to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub key: Key,
    pub indexes: Vec<Index>,
    /// Attribute that holds the expiry time of each item, in Unix seconds.
    pub expires: Option<&'static str>,
}

/// Describes an existing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDescription {
    pub ready: bool,
    pub hash: String,
    pub range: Option<String>,
    pub indexes: Vec<FoundIndex>,
    pub on_demand: bool,
    pub expires: Option<String>,
}

/// Describes an existing index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundIndex {
    pub name: String,
    pub hash: String,
    pub range: Option<String>,
    /// Attributes that the index contains in addition to the keys; `None` means all attributes.
    pub holds: Option<Vec<String>>,
}

impl FoundIndex {
    fn of(index: &GlobalSecondaryIndexDescription) -> Self {
        let key = |kind: KeyType| {
            index.key_schema().iter().find(|k| *k.key_type() == kind).map(|k| k.attribute_name().to_owned())
        };
        let projection = index.projection();
        let all = projection.and_then(|p| p.projection_type()) == Some(&ProjectionType::All);
        let some = projection.map(|p| p.non_key_attributes().to_vec()).unwrap_or_default();
        Self {
            name: index.index_name().unwrap_or_default().to_owned(),
            hash: key(KeyType::Hash).unwrap_or_default(),
            range: key(KeyType::Range),
            holds: (!all).then_some(some),
        }
    }

    /// Returns whether this index can replace the index `wanted`: it has the same key, and contains at least the
    /// attributes of `wanted`.
    pub fn serves_as(&self, wanted: &Index) -> bool {
        let held = |name: &&str| self.holds.as_ref().is_none_or(|held| held.iter().any(|h| h == *name));
        self.hash == wanted.key.hash && self.range.as_deref() == wanted.key.range && wanted.holds.iter().all(held)
    }
}

impl Dynamo {
    /// Returns the description of a table, or `None` if the table does not exist.
    pub async fn describe(&self, table: &str) -> Result<Option<TableDescription>, Fault> {
        let Some(found) = self.keys_of(table).await? else { return Ok(None) };
        let expiry = told("DescribeTimeToLive", self.client.describe_time_to_live().table_name(table).send().await)?;
        Ok(Some(TableDescription { expires: expiry.time_to_live_description.and_then(|d| d.attribute_name), ..found }))
    }

    /// Returns the description of a table without its expiry. This saves one call compared with [`Dynamo::describe`].
    pub async fn keys_of(&self, table: &str) -> Result<Option<TableDescription>, Fault> {
        let described = told("DescribeTable", self.client.describe_table().table_name(table).send().await);
        let table_of = match described {
            Ok(answer) => answer.table,
            Err(fault) if fault.kind == FaultKind::NotFound => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let Some(found) = table_of else { return Ok(None) };
        let key = |kind: KeyType| {
            found.key_schema().iter().find(|k| *k.key_type() == kind).map(|k| k.attribute_name().to_owned())
        };
        Ok(Some(TableDescription {
            ready: found.table_status() == Some(&TableStatus::Active)
                && found.global_secondary_indexes().iter().all(is_complete),
            hash: key(KeyType::Hash).unwrap_or_default(),
            range: key(KeyType::Range),
            indexes: found.global_secondary_indexes().iter().map(FoundIndex::of).collect(),
            on_demand: found.billing_mode_summary().and_then(|b| b.billing_mode()) == Some(&BillingMode::PayPerRequest),
            expires: None,
        }))
    }

    /// Creates a table and waits until it is active. If the table already exists, the call only enables the expiry of
    /// its items.
    pub async fn create(&self, table: &Table, timeout: Duration) -> Result<(), Fault> {
        let invalid = |e: BuildError| Fault::new(FaultKind::Invalid, "not sent", e.to_string());
        let mut names = vec![table.key.hash];
        names.extend(table.key.range);
        for index in &table.indexes {
            names.push(index.key.hash);
            names.extend(index.key.range);
        }
        names.sort_unstable();
        names.dedup();
        let mut call = self
            .client
            .create_table()
            .table_name(&table.name)
            .billing_mode(BillingMode::PayPerRequest)
            .set_key_schema(Some(schema(table.key).map_err(invalid)?));
        for name in names {
            let definition = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            call = call.attribute_definitions(definition.build().map_err(invalid)?);
        }
        for index in &table.indexes {
            let made = GlobalSecondaryIndex::builder()
                .index_name(index.name)
                .set_key_schema(Some(schema(index.key).map_err(invalid)?))
                .projection(projection(index));
            call = call.global_secondary_indexes(made.build().map_err(invalid)?);
        }
        match told("CreateTable", call.send().await) {
            Ok(_) => {}
            // The table exists, or another process is creating it.
            Err(fault) if fault.kind == FaultKind::Conflict => {}
            Err(fault) => return Err(fault),
        }
        self.wait(&table.name, timeout).await?;
        let Some(attribute) = table.expires else { return Ok(()) };
        if self.describe(&table.name).await?.is_some_and(|found| found.expires.as_deref() == Some(attribute)) {
            return Ok(());
        }
        let expiry = TimeToLiveSpecification::builder().enabled(true).attribute_name(attribute);
        let expiry = expiry.build().map_err(invalid)?;
        let call = self.client.update_time_to_live().table_name(&table.name).time_to_live_specification(expiry);
        told("UpdateTimeToLive", call.send().await).map(drop)
    }

    /// Adds an index to an existing table, and waits until it is complete. DynamoDB creates one index at a time.
    pub async fn create_index(&self, table: &str, index: &Index, timeout: Duration) -> Result<(), Fault> {
        let invalid = |e: BuildError| Fault::new(FaultKind::Invalid, "not sent", e.to_string());
        let create = CreateGlobalSecondaryIndexAction::builder()
            .index_name(index.name)
            .set_key_schema(Some(schema(index.key).map_err(invalid)?))
            .projection(projection(index));
        let update = GlobalSecondaryIndexUpdate::builder().create(create.build().map_err(invalid)?).build();
        let mut call = self.client.update_table().table_name(table).global_secondary_index_updates(update);
        for name in [Some(index.key.hash), index.key.range].into_iter().flatten() {
            let definition = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            call = call.attribute_definitions(definition.build().map_err(invalid)?);
        }
        told("UpdateTable", call.send().await)?;
        self.wait(table, timeout).await
    }

    /// Deletes a table and all its items.
    pub async fn drop_table(&self, table: &str) -> Result<(), Fault> {
        told("DeleteTable", self.client.delete_table().table_name(table).send().await).map(drop)
    }

    async fn wait(&self, table: &str, timeout: Duration) -> Result<(), Fault> {
        let ready = async {
            loop {
                if self.describe(table).await?.is_some_and(|found| found.ready) {
                    return Ok(());
                }
                sleep(Duration::from_millis(200)).await;
            }
        };
        match tokio::time::timeout(timeout, ready).await {
            Ok(ready) => ready,
            Err(_) => {
                let text = format!(
                    "table {table} or one of its indexes is still being created after {} s; run the command again later",
                    timeout.as_secs()
                );
                Err(Fault::new(FaultKind::Unknown, "timeout", text))
            }
        }
    }
}

/// Returns whether an index holds all items. A server that does not report the state of an index creates it at once.
fn is_complete(index: &GlobalSecondaryIndexDescription) -> bool {
    index.index_status().is_none_or(|status| *status == IndexStatus::Active)
}

fn projection(index: &Index) -> Projection {
    let projection = Projection::builder();
    let projection = match index.holds {
        [] => projection.projection_type(ProjectionType::KeysOnly),
        holds => holds
            .iter()
            .fold(projection.projection_type(ProjectionType::Include), |p, name| p.non_key_attributes(*name)),
    };
    projection.build()
}

fn schema(key: Key) -> Result<Vec<KeySchemaElement>, BuildError> {
    let element = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let mut schema = vec![element(key.hash, KeyType::Hash)?];
    if let Some(range) = key.range {
        schema.push(element(range, KeyType::Range)?);
    }
    Ok(schema)
}
