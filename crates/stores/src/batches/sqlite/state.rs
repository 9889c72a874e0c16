//! Reads and writes single items in the form that the rules use.

use rusqlite::{OptionalExtension, Params, Row, ToSql, Transaction, params, params_from_iter};

use super::{Result, blob, signed, to_json, unsigned};
use crate::batches::NewItem;
use crate::batches::rules::{ItemContent, ItemState, ItemStatus, Step};

/// Holds an item as read from its row.
pub struct Known {
    pub id: i64,
    pub is_text: bool,
    pub state: ItemState,
}

/// Columns of a [`Known`]. The last column is true for an unwanted text, which is a text that no document waits for.
pub const KNOWN: &str = "id, shown = '', version, status, deleted, reuse, input_sha256, sent_sha256, batch, attempts, error, \
    stored, origin IS NOT NULL, asks, told, \
    shown = '' AND deleted = 0 AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.item = items.id)";

/// Number of columns in [`KNOWN`]. Further columns of a query begin at this index.
pub const KNOWN_COLUMNS: usize = 16;

/// Reads an item from a row that begins with the columns of [`KNOWN`].
pub fn known(row: &Row<'_>) -> Result<Known> {
    let number = |at: usize| -> Result<u64> { Ok(unsigned(row.get(at)?)) };
    let state = ItemState {
        version: number(2)?,
        // The table allows no other value.
        status: ItemStatus::parse(row.get_ref(3)?.as_str()?).unwrap_or(ItemStatus::None),
        deleted: row.get(4)?,
        unwanted: row.get(15)?,
        reuse: row.get(5)?,
        hash: row.get(6)?,
        sent: row.get(7)?,
        batch: row.get(8)?,
        attempts: number(9)?,
        error: row.get(10)?,
        stored: row.get::<_, Option<i64>>(11)?.map(unsigned),
        from_table: row.get(12)?,
        asks: number(13)?,
        told: row.get(14)?,
    };
    Ok(Known { id: row.get(0)?, is_text: row.get(1)?, state })
}

/// Finds an item by a condition on its row.
pub fn find(tx: &Transaction<'_>, condition: &str, values: impl Params) -> Result<Option<Known>> {
    let sql = format!("SELECT {KNOWN} FROM items WHERE {condition}");
    tx.prepare_cached(&sql)?.query_row(values, known).optional()
}

/// Finds an item by its row number.
pub fn by_row(tx: &Transaction<'_>, id: i64) -> Result<Option<Known>> {
    find(tx, "id = ?1", [id])
}

/// Holds a new or changed item in the form in which it is stored.
pub struct Put {
    pub input: String,
    pub tokens: u64,
    /// Display data as JSON; empty for texts.
    pub shown: String,
    /// Location in the record's table, as JSON.
    pub origin: Option<String>,
}

impl Put {
    /// Returns the stored form of a record.
    pub fn of(item: &NewItem) -> Result<Self> {
        let origin = item.origin.as_ref().map(to_json).transpose()?;
        // The keys of a map are sorted, so equal metadata have equal text.
        Ok(Self { input: item.input.clone(), tokens: item.tokens, shown: to_json(&item.shown)?, origin })
    }
}

/// Lists the data that a step may write in addition to the state.
#[derive(Clone, Copy)]
pub enum Given<'a> {
    Nothing,
    Put(&'a Put),
    Vector(&'a [f32]),
}

/// Writes a rule's decision about an item.
pub fn apply(tx: &Transaction<'_>, before: &Known, step: &Step, given: Given<'_>) -> Result<()> {
    match step {
        Step::Keep => Ok(()),
        Step::Delete => tx.prepare_cached("DELETE FROM items WHERE id = ?1")?.execute([before.id]).map(drop),
        Step::Write { state, content, .. } => {
            write(tx, before.id, state, *content, given)?;
            match before.is_text && before.state.is_open() && !state.is_open() {
                true => answered(tx, before.id),
                false => Ok(()),
            }
        }
    }
}

fn write(tx: &Transaction<'_>, id: i64, state: &ItemState, content: ItemContent, given: Given<'_>) -> Result<()> {
    let vector = match given {
        Given::Vector(vector) => Some(blob(vector)),
        _ => None,
    };
    let put = match given {
        Given::Put(put) => Some((&put.input, signed(put.tokens), &put.shown, &put.origin)),
        _ => None,
    };
    let (version, attempts, asks) = (signed(state.version), signed(state.attempts), signed(state.asks));
    let (status, stored) = (state.status.name(), state.stored.map(signed));
    let mut values: Vec<&dyn ToSql> =
        vec![&id, &version, &status, &state.deleted, &state.reuse, &state.hash, &state.sent];
    values.extend::<[&dyn ToSql; 6]>([&state.batch, &attempts, &state.error, &stored, &asks, &state.told]);
    let also = match (content, &put) {
        (ItemContent::Put, Some((input, tokens, shown, origin))) => {
            values.extend::<[&dyn ToSql; 4]>([input, tokens, shown, origin]);
            ", input = ?14, tokens = ?15, shown = ?16, origin = coalesce(?17, origin)"
        }
        (ItemContent::Origin, Some((.., origin))) => {
            values.push(origin);
            ", origin = ?14"
        }
        (ItemContent::Vector, _) => {
            values.push(&vector);
            ", vector = ?14"
        }
        (ItemContent::NoInput, _) => ", input = ''",
        (ItemContent::Nothing, _) => ", input = '', shown = '', origin = NULL, vector = NULL",
        (ItemContent::Same | ItemContent::Put | ItemContent::Origin, _) => "",
    };
    let sql = format!(
        "UPDATE items SET version = ?2, status = ?3, deleted = ?4, reuse = ?5, input_sha256 = ?6, sent_sha256 = ?7, \
         batch = ?8, attempts = ?9, error = ?10, stored = ?11, asks = ?12, told = ?13{also} WHERE id = ?1"
    );
    tx.prepare_cached(&sql)?.execute(params_from_iter(values)).map(drop)
}

/// Decrements the number of open texts of each document that waits for this text.
fn answered(tx: &Transaction<'_>, item: i64) -> Result<()> {
    let sql =
        "UPDATE waiting SET open = max(open - 1, 0) WHERE document IN (SELECT document FROM waits WHERE item = ?1)";
    tx.prepare_cached(sql)?.execute([item]).map(drop)
}

/// Inserts a new item and returns its row number. `payer` is the document that a text is charged to.
pub fn insert(
    tx: &Transaction<'_>,
    space: &str,
    key: &str,
    state: &ItemState,
    put: &Put,
    payer: Option<&str>,
) -> Result<i64> {
    let sql = "INSERT INTO items (space, key, version, status, input, input_sha256, tokens, shown, origin, asks, payer) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let (version, status, tokens, asks) =
        (signed(state.version), state.status.name(), signed(put.tokens), signed(state.asks));
    let values =
        params![space, key, version, status, put.input, state.hash, tokens, put.shown, put.origin, asks, payer];
    tx.prepare_cached(sql)?.execute(values)?;
    Ok(tx.last_insert_rowid())
}
