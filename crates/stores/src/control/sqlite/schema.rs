//! Defines the tables of the control store and the version of these tables.
//!
//! The tables and columns have the names that are used in the system that docweir replaces; docweir adds further
//! columns. The `CHECK` constraints catch mistakes of a person who edits a row by hand.

use crate::sqlite::Schema;

/// Schema of the control store. The application id spells `DCWR`.
pub const SCHEMA: Schema =
    Schema { application_id: 0x4443_5752, version: 5, tables: TABLES, upgrades: &[CHILDREN, CONTENTS, URGENT, TOTALS] };

/// Statements that upgrade a file to version 2, which supports documents within documents.
const CHILDREN: &str = "
ALTER TABLE document_processing_control ADD COLUMN parent TEXT;
ALTER TABLE document_processing_control ADD COLUMN children TEXT NOT NULL DEFAULT '[]';
ALTER TABLE document_processing_control ADD COLUMN children_content TEXT;
";

/// Statement that upgrades a file to version 3, which finds documents by their content.
const CONTENTS: &str = "CREATE INDEX content_index ON document_processing_control (content_sha256);";

/// Statements that upgrade a file to version 4, which finds the work that a user asked for without reading the queue.
const URGENT: &str = "
ALTER TABLE document_processing_control ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
UPDATE document_processing_control SET urgent = 1 WHERE status = 'PENDING' AND intent = 'DELETE';
CREATE INDEX urgent_index ON document_processing_control (updated_at) WHERE urgent = 1;
";

/// Expands to the value of `waits_for` as SQL. [`waits_for`](crate::control::rules::waits_for) is the same rule for
/// records; this one serves rows that no rule of the program has written.
macro_rules! waits_for {
    () => {
        "CASE
    WHEN status = 'QUARANTINED' THEN
        coalesce(CASE WHEN json_valid(last_error) THEN json_extract(last_error, '$.code') END, 'unknown')
    WHEN status NOT IN ('PENDING', 'PARKED') THEN ''
    WHEN intent = 'DELETE' THEN 'delete'
    WHEN json_extract(stage_status, '$.extraction.status') IS NOT 'COMPLETED' THEN 'extract'
    WHEN json_extract(stage_status, '$.chunking.status') IS NOT 'COMPLETED' THEN 'chunk'
    WHEN json_extract(stage_status, '$.enrichment.status') IS NOT 'COMPLETED' THEN 'enrich'
    WHEN json_extract(stage_status, '$.embedding.status') IS NOT 'COMPLETED' THEN 'embed'
    WHEN json_extract(stage_status, '$.loading.status') IS NOT 'COMPLETED' THEN 'load'
    ELSE 'extract' END"
    };
}

/// Expands to the table of totals and its triggers. The triggers keep the totals right whoever changes a row, so that
/// reading them takes the same time however many documents there are. They need no work while a document goes from
/// stage to stage, because documents in progress are few and counted by reading their records. If the status changes
/// and `waits_for` does not, or a new row lacks it, a person or an older program has written the row. SQLite does not
/// define which of two triggers runs first, so each only adds or subtracts.
macro_rules! totals {
    () => {
        concat!(
            "
CREATE TABLE document_totals (
    status TEXT NOT NULL,
    waits_for TEXT NOT NULL,
    documents INTEGER NOT NULL,
    PRIMARY KEY (status, waits_for)
) WITHOUT ROWID;
CREATE TRIGGER total_of_new AFTER INSERT ON document_processing_control BEGIN
    INSERT INTO document_totals VALUES (NEW.status, NEW.waits_for, 1)
        ON CONFLICT (status, waits_for) DO UPDATE SET documents = documents + 1;
END;
CREATE TRIGGER total_of_changed AFTER UPDATE OF status, waits_for ON document_processing_control
WHEN OLD.status <> NEW.status OR OLD.waits_for <> NEW.waits_for BEGIN
    INSERT INTO document_totals VALUES (OLD.status, OLD.waits_for, -1)
        ON CONFLICT (status, waits_for) DO UPDATE SET documents = documents - 1;
    INSERT INTO document_totals VALUES (NEW.status, NEW.waits_for, 1)
        ON CONFLICT (status, waits_for) DO UPDATE SET documents = documents + 1;
END;
CREATE TRIGGER total_of_removed AFTER DELETE ON document_processing_control BEGIN
    INSERT INTO document_totals VALUES (OLD.status, OLD.waits_for, -1)
        ON CONFLICT (status, waits_for) DO UPDATE SET documents = documents - 1;
END;
CREATE TRIGGER waits_for_of_new AFTER INSERT ON document_processing_control
WHEN NEW.waits_for = '' AND NEW.status IN ('PENDING', 'PARKED', 'QUARANTINED') BEGIN
    UPDATE document_processing_control SET waits_for = ",
            waits_for!(),
            "
    WHERE document_id = NEW.document_id AND processing_version = NEW.processing_version;
END;
CREATE TRIGGER waits_for_by_hand AFTER UPDATE OF status ON document_processing_control
WHEN OLD.waits_for = NEW.waits_for
    AND (OLD.status IN ('PENDING', 'PARKED')) + 2 * (OLD.status = 'QUARANTINED')
        <> (NEW.status IN ('PENDING', 'PARKED')) + 2 * (NEW.status = 'QUARANTINED') BEGIN
    UPDATE document_processing_control SET waits_for = ",
            waits_for!(),
            "
    WHERE document_id = NEW.document_id AND processing_version = NEW.processing_version;
END;
"
        )
    };
}

/// Statements that upgrade a file to version 5, which counts documents as they change. Its indexes on the time of the
/// last change contain no documents in progress, because their time changes with each stage.
const TOTALS: &str = concat!(
    "
DROP INDEX IF EXISTS status_updated_index;
CREATE INDEX pending_index ON document_processing_control (status, updated_at) WHERE status = 'PENDING';
CREATE INDEX deleted_index ON document_processing_control (status, updated_at) WHERE status = 'DELETED';
ALTER TABLE document_processing_control ADD COLUMN waits_for TEXT NOT NULL DEFAULT '';
UPDATE document_processing_control SET waits_for = ",
    waits_for!(),
    " WHERE status IN ('PENDING', 'PARKED', 'QUARANTINED');
",
    totals!(),
    "
INSERT INTO document_totals SELECT status, waits_for, count(*) FROM document_processing_control GROUP BY 1, 2;
"
);

const TABLES: &str = concat!(
    "
CREATE TABLE document_processing_control (
    document_id TEXT NOT NULL CHECK (document_id <> ''),
    processing_version TEXT NOT NULL DEFAULT 'v1',
    source TEXT NOT NULL,
    source_bucket TEXT NOT NULL,
    source_s3_key TEXT NOT NULL,
    created_at TEXT NOT NULL,
    max_retries INTEGER NOT NULL DEFAULT 3,
    version INTEGER NOT NULL CHECK (version >= 1),
    content_sha256 TEXT NOT NULL CHECK (length(content_sha256) = 64),
    fingerprint TEXT NOT NULL CHECK (length(fingerprint) = 64),
    media_type TEXT NOT NULL,
    file_size_bytes INTEGER NOT NULL,
    upload_timestamp TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN
        ('PENDING', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'PARKED', 'QUARANTINED', 'DELETED')),
    intent TEXT NOT NULL DEFAULT 'PROCESS' CHECK (intent IN ('PROCESS', 'DELETE')),
    quarantine_artefact TEXT,
    quarantine_original TEXT,
    loaded_version INTEGER,
    parked_reason TEXT,
    parked_resume TEXT,
    parked_until TEXT,
    lease_owner TEXT,
    lease_expires_at TEXT,
    epoch INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    tenant TEXT NOT NULL DEFAULT '',
    weight INTEGER NOT NULL DEFAULT 1,
    completed_at TEXT,
    parent TEXT,
    children TEXT NOT NULL DEFAULT '[]',
    children_content TEXT,
    urgent INTEGER NOT NULL DEFAULT 0 CHECK (urgent IN (0, 1)),
    current_stage TEXT NOT NULL,
    stage_status TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(stage_status)),
    retry_count INTEGER NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    interruptions INTEGER NOT NULL DEFAULT 0 CHECK (interruptions >= 0),
    last_error TEXT,
    error_stage TEXT,
    updated_at TEXT NOT NULL,
    ttl INTEGER NOT NULL,
    waits_for TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (document_id, processing_version)
);
CREATE UNIQUE INDEX source_index ON document_processing_control (source);
CREATE INDEX content_index ON document_processing_control (content_sha256);
CREATE INDEX pending_index ON document_processing_control (status, updated_at) WHERE status = 'PENDING';
CREATE INDEX deleted_index ON document_processing_control (status, updated_at) WHERE status = 'DELETED';
CREATE INDEX status_id_index ON document_processing_control (status, document_id);
CREATE INDEX urgent_index ON document_processing_control (updated_at) WHERE urgent = 1;
CREATE INDEX parked_event_index ON document_processing_control (parked_resume) WHERE status = 'PARKED';
CREATE INDEX parked_until_index ON document_processing_control (parked_until) WHERE parked_until IS NOT NULL;

CREATE TABLE document_processing_audit (
    document_id TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    event_type TEXT NOT NULL,
    stage TEXT,
    status TEXT,
    processing_version TEXT NOT NULL,
    metadata TEXT NOT NULL,
    worker_id TEXT,
    duration_seconds REAL,
    output_s3_key TEXT,
    error_type TEXT,
    error_message TEXT,
    ttl INTEGER NOT NULL,
    PRIMARY KEY (document_id, timestamp)
);

CREATE TABLE pipeline_metrics_daily (
    date TEXT NOT NULL,
    metric_type TEXT NOT NULL,
    value REAL NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (date, metric_type)
) WITHOUT ROWID;
",
    totals!()
);
