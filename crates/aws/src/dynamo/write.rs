//! Defines writes of single items. A write is sent on its own or as part of a transaction.

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{ConditionCheck, Delete, Put, TransactWriteItem, Update};

use super::{Expression, Item};

/// Describes a write of one item.
#[derive(Clone, Debug)]
pub enum Write {
    /// Creates an item, or replaces the whole item if it exists.
    Put {
        table: String,
        item: Item,
        condition: Option<Expression>,
    },
    /// Changes some attributes of an item. Creates the item if it does not exist, unless the condition prevents this.
    Update {
        table: String,
        key: Item,
        update: Expression,
        condition: Option<Expression>,
    },
    Delete {
        table: String,
        key: Item,
        condition: Option<Expression>,
    },
    /// Changes nothing, but fails the whole transaction if the condition does not hold. Only allowed in a
    /// transaction.
    Check {
        table: String,
        key: Item,
        condition: Expression,
    },
}

impl Write {
    pub(super) fn into_item(self) -> Result<TransactWriteItem, BuildError> {
        let item = TransactWriteItem::builder();
        Ok(match self {
            Self::Put { table, item: attributes, condition } => {
                let condition = condition.unwrap_or_default();
                let put = Put::builder()
                    .table_name(table)
                    .set_item(Some(attributes))
                    .set_condition_expression(condition.text())
                    .set_expression_attribute_names(condition.names())
                    .set_expression_attribute_values(condition.values());
                item.put(put.build()?).build()
            }
            Self::Update { table, key, update, condition } => {
                let condition = condition.unwrap_or_default();
                let both = update.clone().and(condition.clone());
                let call = Update::builder()
                    .table_name(table)
                    .set_key(Some(key))
                    .set_update_expression(update.text())
                    .set_condition_expression(condition.text())
                    .set_expression_attribute_names(both.names())
                    .set_expression_attribute_values(both.values());
                item.update(call.build()?).build()
            }
            Self::Delete { table, key, condition } => {
                let condition = condition.unwrap_or_default();
                let delete = Delete::builder()
                    .table_name(table)
                    .set_key(Some(key))
                    .set_condition_expression(condition.text())
                    .set_expression_attribute_names(condition.names())
                    .set_expression_attribute_values(condition.values());
                item.delete(delete.build()?).build()
            }
            Self::Check { table, key, condition } => {
                let check = ConditionCheck::builder()
                    .table_name(table)
                    .set_key(Some(key))
                    .set_condition_expression(condition.text())
                    .set_expression_attribute_names(condition.names())
                    .set_expression_attribute_values(condition.values());
                item.condition_check(check.build()?).build()
            }
        })
    }

    /// Estimates the size that DynamoDB counts for the write, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { item, .. } => super::value::bytes(item),
            Self::Update { key, update, .. } => {
                super::value::bytes(key) + super::value::bytes(&update.values().unwrap_or_default())
            }
            Self::Delete { key, .. } | Self::Check { key, .. } => super::value::bytes(key),
        }
    }
}
