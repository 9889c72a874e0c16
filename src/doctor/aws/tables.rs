//! Checks each table: whether it has the required definition, and whether it can be read and written.

use docweir_aws::dynamo::table::Table;
use docweir_aws::dynamo::{AttributeValue, Dynamo, Expression, Item, Query, Write};
use docweir_aws::{Fault, FaultKind};
use ulid::Ulid;

use super::{blamed, within};
use crate::config::Settings;
use crate::doctor::Finding;
use crate::infra::{self, Infra, State};

const CHECK: &str = "table";

pub async fn examine(settings: &Settings, dynamo: &Dynamo, each: &mut dyn FnMut(Finding)) {
    let infra = Infra::of(settings).await;
    for table in infra::tables(settings) {
        let found = within(settings, async {
            Ok(match infra.table(&table).await? {
                State::Correct => used(dynamo, &table).await?,
                State::Missing(what) => {
                    let text = format!("differs from the required definition: {what}");
                    Finding::problem(CHECK, &table.name, text, "`docweir infra apply` changes it")
                }
                State::Differs(text) => {
                    let fix = "recreate or correct the table by hand; `docweir infra check` lists all differences";
                    Finding::problem(CHECK, &table.name, text, fix)
                }
            })
        });
        each(found.await.unwrap_or_else(|fault| blamed(CHECK, &table.name, "be inspected", &fault)));
    }
}

/// Tests reads and writes with an item that does not exist. Every write has a condition that cannot be met, so the item
/// is never created. A permitted write fails because of its condition; a forbidden write fails because of the missing
/// permission.
async fn used(dynamo: &Dynamo, table: &Table) -> Result<Finding, Fault> {
    let name = Ulid(fastrand::u128(..)).to_string();
    let key = |what: &str| -> Item {
        let text = AttributeValue::S(format!("doctor-{what}-{name}"));
        let names = [Some(table.key.hash), table.key.range].into_iter().flatten();
        names.map(|attribute| (attribute.to_owned(), text.clone())).collect()
    };
    let there = || Some(Expression::new("attribute_exists(#h)").name("#h", table.key.hash));
    if let Err(fault) = dynamo.get(&table.name, key("get"), true).await {
        return Ok(blamed(CHECK, &table.name, "be read", &fault));
    }
    if let Err(fault) = dynamo.get_many(&table.name, vec![key("get")], true).await {
        return Ok(blamed(CHECK, &table.name, "be read", &fault));
    }
    for index in table.indexes.iter().map(|i| (Some(i.name.to_owned()), i.key.hash)).chain([(None, table.key.hash)]) {
        let (index, hash) = index;
        let asked = Expression::new("#h = :h").name("#h", hash).string(":h", "doctor");
        let query = Query { table: table.name.clone(), index, key: asked, limit: Some(1), ..Query::default() };
        if let Err(fault) = dynamo.query(&query).await {
            return Ok(blamed(CHECK, &table.name, "be queried", &fault));
        }
    }
    let update = Expression::new("SET #d = :d").name("#d", "doctor").string(":d", "1");
    let writes = vec![
        Write::Put { table: table.name.clone(), item: key("put"), condition: there() },
        Write::Update { table: table.name.clone(), key: key("update"), update, condition: there() },
        Write::Delete { table: table.name.clone(), key: key("delete"), condition: there() },
    ];
    Ok(match dynamo.transact(&name, writes).await {
        Err(cancelled) if cancelled.fault.kind == FaultKind::Condition => {
            Finding::fine(CHECK, &table.name, "can be read and written")
        }
        Err(cancelled) => blamed(CHECK, &table.name, "be written", &cancelled.fault),
        Ok(()) => {
            let text = "the server ignores the conditions of writes, so work would be done twice";
            Finding::problem(CHECK, &table.name, text, "use a server that honours conditions")
        }
    })
}
