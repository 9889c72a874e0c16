//! Stores the ledger, batches and items in one file, so that one transaction can change a batch and its money.

use std::path::Path;

use crate::sqlite::{Database, Failure, OpenOptions, Schema};

/// Schema of the file. The application id spells `DWPD`.
const SCHEMA: Schema =
    Schema { application_id: 0x4457_5044, version: 4, tables: TABLES, upgrades: &[ORIGINS, UNCONFIRMED, TWINS] };

/// Statements that upgrade a file from version 1. They add the columns for records that come from users' tables.
const ORIGINS: &str = "
ALTER TABLE items ADD COLUMN origin TEXT;
ALTER TABLE items ADD COLUMN asks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE items ADD COLUMN told TEXT;
CREATE INDEX items_untold ON items (space, id) WHERE origin IS NOT NULL AND deleted = 0
    AND status IN ('SUCCESS', 'FAILED', 'NOISE') AND coalesce(told, '') <> asks || ' ' || version || ' ' || status;
";

/// Statement that upgrades a file from version 2. It adds the column for batches that may exist twice.
const UNCONFIRMED: &str = "ALTER TABLE batches ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0";

/// Statement that upgrades a file from version 3. It adds the column for the duplicates of a batch.
const TWINS: &str = "ALTER TABLE batches ADD COLUMN twins TEXT NOT NULL DEFAULT '[]'";

const TABLES: &str = "
-- One call or one batch. The amounts are the reservation until the entry is settled, and then the charge.
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    day TEXT NOT NULL,
    run TEXT NOT NULL,
    mode TEXT NOT NULL CHECK (mode IN ('live', 'batch')),
    stage TEXT NOT NULL,
    model TEXT NOT NULL,
    collection TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('RESERVED', 'SETTLED', 'IN_DOUBT')),
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    nanodollars INTEGER NOT NULL CHECK (nanodollars >= 0)
);
CREATE INDEX ledger_reserved ON ledger (run) WHERE state = 'RESERVED';
CREATE INDEX ledger_subject ON ledger (subject);
CREATE INDEX ledger_day ON ledger (day);

-- Sums of the ledger. Entries are deleted after a time; sums are kept.
CREATE TABLE ledger_sums (
    day TEXT NOT NULL,
    run TEXT NOT NULL,
    mode TEXT NOT NULL,
    stage TEXT NOT NULL,
    model TEXT NOT NULL,
    collection TEXT NOT NULL,
    state TEXT NOT NULL,
    calls INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    nanodollars INTEGER NOT NULL,
    PRIMARY KEY (day, run, mode, stage, model, collection, state)
) WITHOUT ROWID;
CREATE INDEX ledger_sums_run ON ledger_sums (run);

-- Items to embed: texts of documents (space 'texts/MODEL/DIMENSION') and records of collections.
CREATE TABLE items (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL,
    key TEXT NOT NULL,
    -- Grows with each change. It is the version of the row in the vector store.
    version INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('NONE', 'PENDING', 'SUCCESS', 'FAILED', 'NOISE')),
    deleted INTEGER NOT NULL DEFAULT 0,
    -- The display data have changed, the text has not: the stored vector is still valid.
    reuse INTEGER NOT NULL DEFAULT 0,
    input TEXT NOT NULL,
    input_sha256 BLOB NOT NULL CHECK (length(input_sha256) = 32),
    tokens INTEGER NOT NULL,
    -- Data that search shows: text, kind, source and metadata, in JSON. Empty for texts.
    shown TEXT NOT NULL,
    -- While PENDING: the batch or live call that has the item, and the hash of the sent text.
    batch TEXT,
    sent_sha256 BLOB,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    -- Version of the row in the vector store.
    stored INTEGER,
    -- Texts: the document that pays, and the vector until all waiting documents have it.
    payer TEXT,
    vector BLOB,
    -- Records from a table: the place in it (JSON), how often the table requested an embedding, and the mark of the last
    -- outcome that was written back.
    origin TEXT,
    asks INTEGER NOT NULL DEFAULT 0,
    told TEXT,
    UNIQUE (space, key)
);
CREATE INDEX items_by_status ON items (space, status, id);
CREATE INDEX items_waiting ON items (space, tokens) WHERE status = 'NONE' AND deleted = 0 AND reuse = 0;
CREATE INDEX items_to_refresh ON items (space) WHERE reuse = 1;
CREATE INDEX items_failed ON items (batch) WHERE status = 'FAILED';
CREATE INDEX items_by_batch ON items (batch, id) WHERE batch IS NOT NULL;
CREATE INDEX items_to_remove ON items (space) WHERE stored IS NOT NULL AND (deleted = 1 OR status = 'NOISE');
CREATE INDEX items_untold ON items (space, id) WHERE origin IS NOT NULL AND deleted = 0
    AND status IN ('SUCCESS', 'FAILED', 'NOISE') AND coalesce(told, '') <> asks || ' ' || version || ' ' || status;

-- Collections of records, and the model (JSON) of their vectors.
CREATE TABLE collections (name TEXT PRIMARY KEY, model TEXT NOT NULL) WITHOUT ROWID;

-- Documents that wait for texts. `open` counts the texts that have no vector and have not failed.
CREATE TABLE waits (
    document TEXT NOT NULL,
    item INTEGER NOT NULL,
    PRIMARY KEY (document, item)
) WITHOUT ROWID;
CREATE INDEX waits_by_item ON waits (item);
CREATE TABLE waiting (
    document TEXT PRIMARY KEY,
    open INTEGER NOT NULL CHECK (open >= 0),
    -- If 1, too few texts wait for a batch: the document embeds its texts itself.
    live INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX waiting_ready ON waiting (document) WHERE open = 0 OR live = 1;

CREATE TABLE batches (
    id TEXT PRIMARY KEY,
    space TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('PENDING', 'VALIDATING', 'IN_PROGRESS', 'FINALIZING', 'COMPLETED', 'FAILED',
        'EXPIRED', 'CANCELING', 'CANCELLED')),
    -- The model (JSON) of its vectors, and the endpoint that processes the batch.
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    items INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    -- Id of its entry in the ledger.
    entry INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    -- Progress of the submission: file uploaded, submission requested, submission confirmed.
    input_file_id TEXT,
    asked_at TEXT,
    provider_id TEXT,
    submitted_at TEXT,
    -- Last status from the provider.
    checked_at TEXT,
    output_file_id TEXT,
    error_file_id TEXT,
    expires_at TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    -- If 1, a user requested cancellation.
    cancel INTEGER NOT NULL DEFAULT 0,
    warned INTEGER NOT NULL DEFAULT 0,
    -- Number of its items by outcome.
    stored INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    stale INTEGER NOT NULL DEFAULT 0,
    returned INTEGER NOT NULL DEFAULT 0,
    charged_tokens INTEGER,
    error TEXT,
    -- Lines of its file that the provider reports as invalid, in JSON.
    error_lines TEXT NOT NULL DEFAULT '[]',
    ended_at TEXT,
    -- If 1, the creation was repeated without a confirmation.
    unconfirmed INTEGER NOT NULL DEFAULT 0,
    -- Ids of its duplicates at the provider whose cost is in the ledger, in JSON.
    twins TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX batches_at_provider ON batches (provider_id) WHERE provider_id IS NOT NULL;
CREATE INDEX batches_open ON batches (created_at) WHERE ended_at IS NULL;
-- Tokens per paying document of a batch, while the batch is open.
CREATE TABLE batch_shares (
    batch TEXT NOT NULL,
    subject TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    PRIMARY KEY (batch, subject)
) WITHOUT ROWID;
";

/// Opens the file and creates it if it is missing. Blocks the thread.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Database, Failure> {
    Database::open(path, &SCHEMA, options)
}

/// Opens the file like [`open`]. If this process may not write, opens the file for reading.
pub fn open_to_read(path: &Path, options: &OpenOptions) -> Result<Database, Failure> {
    Database::open_to_read(path, &SCHEMA, options)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rusqlite::Connection;

    use super::*;

    /// Returns the schema version, the columns of `batches`, and the columns and indexes of `items` in order.
    fn shape(path: &Path) -> (i64, Vec<String>) {
        let file = Connection::open(path).unwrap();
        let version = file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        let sql = "SELECT name FROM pragma_table_info('items') UNION ALL SELECT name FROM pragma_table_info('batches') UNION ALL SELECT name FROM pragma_index_list('items') ORDER BY name";
        let names = file.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        (version, names)
    }

    #[test]
    fn a_file_of_the_first_version_is_brought_to_this_one_and_keeps_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
        let first = |text: &str, from: &str, to: &str| {
            let (before, rest) = text.split_once(from).unwrap();
            format!("{before}{}", rest.split_once(to).unwrap().1)
        };
        let tables = first(TABLES, "    -- Records from a table", "told TEXT,\n");
        let tables = first(&tables, "CREATE INDEX items_untold", ";\n");
        let tables = first(&tables, ",\n    -- If 1, the creation", "twins TEXT NOT NULL DEFAULT '[]'");
        let file = Connection::open(&old).unwrap();
        file.execute_batch(&tables).unwrap();
        file.pragma_update(None, "application_id", SCHEMA.application_id).unwrap();
        file.pragma_update(None, "user_version", 1).unwrap();
        let sql = "INSERT INTO items (space, key, version, status, input, input_sha256, tokens, shown) \
            VALUES ('s', 'k', 7, 'SUCCESS', 't', zeroblob(32), 1, '{}')";
        file.execute(sql, []).unwrap();
        drop(file);
        let options = OpenOptions::durable(Duration::from_secs(5), 100, 64);
        for path in [&old, &new, &old] {
            open(path, &options).unwrap();
        }
        assert_eq!(shape(&old), shape(&new));
        assert_eq!(shape(&old).0, SCHEMA.version);
        let kept = Connection::open(&old).unwrap();
        let kept =
            kept.query_row("SELECT version, asks FROM items WHERE key = 'k'", [], |r| Ok((r.get(0)?, r.get(1)?)));
        assert_eq!(kept.unwrap(), (7, 0));
    }
}
