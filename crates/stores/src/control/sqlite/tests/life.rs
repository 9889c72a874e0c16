use super::*;
use crate::control::sqlite::operations::{PENDING_DOCUMENTS, URGENT_DOCUMENTS};

#[tokio::test]
async fn ten_thousand_events_of_one_microsecond_are_all_there() {
    let f = Fixture::new().await;
    let documents = (0..10_000).map(|i| document(&format!("{i}.pdf"), "x")).collect();
    let registered = f.store.register(documents).await.unwrap();
    assert!(registered.iter().all(|r| matches!(r, Registered::New(_))));
    assert_eq!(f.number("SELECT CAST(count(DISTINCT timestamp) AS REAL) FROM document_processing_audit"), 10_000.0);
    assert_eq!(f.store.counts().await.unwrap(), [("PENDING".to_owned(), 10_000)].into());
}

#[tokio::test]
async fn leases_of_the_dead_end_at_once() {
    let f = Fixture::new().await;
    for s in ["a", "b", "c"] {
        f.register_one(s).await;
    }
    f.store.claim("dead", LEASE, 2, None).await.unwrap();
    f.store.claim("alive", LEASE, 1, None).await.unwrap();
    assert_eq!(f.store.expire_leases_of_others("alive").await.unwrap(), 2);
    assert_eq!(f.store.expire_leases_of_others("alive").await.unwrap(), 0);
    assert_eq!(f.store.claim("alive", LEASE, 9, None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_stage_map_that_makes_no_sense_costs_only_work_and_a_bad_row_stands_in_nobodys_way() {
    let f = Fixture::new().await;
    let key = f.register_one("a").await;
    let claim = f.claim_one().await;
    f.store.apply(&claim.key, completed(Stage::Extraction)).await.unwrap();
    f.store.apply(&claim.key, completed(Stage::Chunking)).await.unwrap();
    let spoil = "UPDATE document_processing_control SET status = 'PENDING', \
        stage_status = json_set(stage_status, '$.chunking.status', 'DONE', '$.polishing', 1)";
    f.raw(spoil);
    let claim = f.claim_one().await;
    assert_eq!((claim.stage, claim.outputs.len()), (Stage::Chunking, 1));
    f.raw("UPDATE document_processing_control SET stage_status = '[]', status = 'PENDING'");
    assert_eq!(f.claim_one().await.stage, Stage::Extraction);

    let shell = rusqlite::Connection::open(f.path()).unwrap();
    for slip in ["status = 'pending'", "stage_status = '{'", "version = 0", "content_sha256 = 'x'"] {
        assert!(shell.execute(&format!("UPDATE document_processing_control SET {slip}"), []).is_err(), "{slip}");
    }
    f.raw("UPDATE document_processing_control SET status = 'PENDING', media_type = 'image/gif'");
    f.clock.advance(LEASE);
    let other = f.register_one("b").await;
    let claims = f.store.claim("o", LEASE, 1, None).await.unwrap();
    assert!(claims.is_empty() || claims[0].key.id == other.id);
    let claims = [claims, f.store.claim("o", LEASE, 1, None).await.unwrap()].concat();
    assert_eq!(claims.len(), 1);
    assert_eq!(f.store.counts().await.unwrap()["FAILED"], 1);
    let unreadable = f.store.record(&key.id).await.unwrap_err().to_string();
    assert!(unreadable.contains("`image/gif` is not a valid media_type; correct the row"), "{unreadable}");
}

#[tokio::test]
async fn more_parked_documents_than_one_step_takes() {
    let f = Fixture::new().await;
    f.store.register((0..1100).map(|i| document(&i.to_string(), "x")).collect()).await.unwrap();
    f.raw("UPDATE document_processing_control SET status = 'PARKED', parked_resume = '{\"on\":\"x\"}'");
    assert_eq!(f.store.resume(Some("x")).await.unwrap(), 1100);
}

#[tokio::test]
async fn expired_entries_go_and_records_stay() {
    let f = Fixture::new().await;
    let keep = f.register_one("keep").await;
    let claim = f.claim_one().await;
    finish(&f.store, &claim).await.unwrap();
    let gone = f.register_one("gone").await;
    f.store.request_delete(&gone.id).await.unwrap();
    let claim = f.claim_one().await;
    finish(&f.store, &claim).await.unwrap();
    f.store.register((0..2500).map(|i| document(&format!("n{i}"), "x")).collect()).await.unwrap();
    f.clock.advance(Duration::from_secs(181 * 86_400));
    let Fixture { dir, clock, store } = f;
    drop(store);
    let store = open(&dir.path().join("control.db"), &clock).await;
    let f = Fixture { dir, clock, store };
    f.register_one("new").await;
    let left = "SELECT CAST(count(*) AS REAL) FROM document_processing_audit";
    // The store prunes after it has answered.
    let pruned_to = async |rows: f64| {
        for _ in 0..500 {
            if f.number(left) == rows {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} entries are left, not {rows}", f.number(left));
    };
    pruned_to(1.0).await;
    // A process that runs for months removes what expires meanwhile.
    f.clock.advance(Duration::from_secs(181 * 86_400));
    f.register_one("newer").await;
    pruned_to(1.0).await;
    assert_eq!(f.store.record(&keep.id).await.unwrap().status, DocumentStatus::Completed);
    assert!(matches!(f.store.record(&gone.id).await, Err(ControlError::NotFound(_))));
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("control.db"), Arc::new(ManualClock::at(NOW)));
    let added = |line: &&str| {
        [
            "parent ",
            "children",
            "content_index",
            "urgent",
            "waits_for TEXT NOT NULL DEFAULT",
            "pending_index",
            "deleted_index",
        ]
        .iter()
        .any(|new| line.contains(new))
    };
    let (tables, _totals) = schema::SCHEMA.tables.split_once("CREATE TABLE document_totals").unwrap();
    let before: String = tables.lines().filter(|line| !added(line)).collect();
    assert_eq!(tables.lines().filter(added).count(), 9);
    let shell = rusqlite::Connection::open(&path).unwrap();
    shell.execute_batch(&before).unwrap();
    let (hash, fill) = ("a".repeat(64), "b".repeat(64));
    shell
        .execute_batch(&format!(
            "INSERT INTO document_processing_control (document_id, source, source_bucket, source_s3_key, created_at, version, \
             content_sha256, fingerprint, media_type, file_size_bytes, upload_timestamp, status, current_stage, updated_at, ttl) \
             VALUES ('doc_1', 'file:///mail', 'file://', '/mail', '2025-11-21T09:40:00.000000Z', 1, '{hash}', '{hash}', \
             'application/pdf', 10, '2025-11-21T09:40:00.000000Z', 'PENDING', 'SUBMITTED', '2025-11-21T09:40:00.000000Z', 0);
             PRAGMA application_id = {}; PRAGMA user_version = 1;",
            schema::SCHEMA.application_id
        ))
        .unwrap();
    let others = [
        ("doc_2", "IN_PROGRESS", r#"{"extraction":{"status":"COMPLETED"}}"#, None),
        ("doc_3", "QUARANTINED", "{}", Some(r#"{"code":"no_text"}"#)),
        ("doc_4", "QUARANTINED", "{}", Some("edited by hand, no JSON")),
        ("doc_5", "COMPLETED", "{}", None),
    ];
    for (id, status, stages, error) in others {
        let sql = "INSERT INTO document_processing_control (document_id, source, source_bucket, source_s3_key, created_at, \
             version, content_sha256, fingerprint, media_type, file_size_bytes, upload_timestamp, status, current_stage, \
             updated_at, ttl, stage_status, last_error) \
             VALUES (?1, ?1, '', '', '', 1, ?2, ?2, 'text/plain', 1, '', ?3, '', '', 0, ?4, ?5)";
        shell.execute(sql, rusqlite::params![id, fill, status, stages, error]).unwrap();
    }
    drop(shell);

    for _ in 0..2 {
        let store = open(&path, &clock).await;
        let record = store.by_source("file:///mail").await.unwrap().unwrap();
        assert_eq!((record.parent, record.children, record.children_content), (None, vec![], None));
    }
    let store = open(&path, &clock).await;
    let counted = |list: &[(&str, u64)]| list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    let statuses: StatusCounts = counted(&[("COMPLETED", 1), ("IN_PROGRESS", 1), ("PENDING", 1), ("QUARANTINED", 2)]);
    assert_eq!(store.counts().await.unwrap(), statuses);
    // An older program, which does not know the new column, may still write to the file.
    let shell = rusqlite::Connection::open(&path).unwrap();
    let copied = "INSERT INTO document_processing_control (document_id, source, source_bucket, source_s3_key, \
         created_at, version, content_sha256, fingerprint, media_type, file_size_bytes, upload_timestamp, status, \
         current_stage, updated_at, ttl) \
         SELECT 'doc_6', 'doc_6', '', '', '', 1, content_sha256, fingerprint, media_type, 1, '', 'PENDING', '', '', 0 \
         FROM document_processing_control LIMIT 1";
    shell.execute(copied, []).unwrap();
    assert_eq!(store.waiting().await.unwrap().steps, counted(&[("chunk", 1), ("extract", 2)]));
    shell.execute("UPDATE document_processing_control SET status = 'FAILED' WHERE document_id = 'doc_6'", []).unwrap();
    assert_eq!(store.waiting().await.unwrap().steps, counted(&[("chunk", 1), ("extract", 1)]));
    shell.execute("UPDATE document_processing_control SET status = 'PENDING' WHERE document_id = 'doc_6'", []).unwrap();
    assert_eq!(store.waiting().await.unwrap().steps, counted(&[("chunk", 1), ("extract", 2)]));
    shell.execute("DELETE FROM document_processing_control WHERE document_id = 'doc_6'", []).unwrap();
    drop(shell);
    let (steps, reasons) = (counted(&[("chunk", 1), ("extract", 1)]), counted(&[("no_text", 1), ("unknown", 1)]));
    assert_eq!(store.waiting().await.unwrap(), WaitCounts { steps, reasons });
    let content = Sha256Hex::parse(&hash).unwrap();
    assert_eq!(store.with_contents(&[content]).await.unwrap().len(), 1);
    let claim = store.claim("owner", LEASE, 1, None).await.unwrap().remove(0);
    let changes = store.set_children(&claim.key, vec![conformance::child(&claim, "a", "1")]).await.unwrap();
    assert_eq!(store.record(&claim.key.id).await.unwrap().children, [changes.registered[0].key().id.clone()]);
}

/// A claim must not read documents that it does not return.
#[tokio::test]
async fn claims_read_no_more_than_they_return() {
    let f = Fixture::new().await;
    let shell = rusqlite::Connection::open(f.path()).unwrap();
    let plan = |condition: &str| -> String {
        let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM document_processing_control WHERE {condition}");
        let mut statement = shell.prepare(&sql).unwrap();
        let rows = statement.raw_query().mapped(|row| row.get::<_, String>("detail"));
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    };
    let conditions = [
        (URGENT_DOCUMENTS, "USING INDEX urgent_index"),
        (PENDING_DOCUMENTS, "USING INDEX pending_index (status=?)"),
        ("status = 'DELETED' ORDER BY updated_at LIMIT 9", "USING INDEX deleted_index (status=?)"),
    ];
    for (condition, index) in conditions {
        let plan = plan(condition);
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{condition}: {plan}");
    }
}

#[tokio::test]
async fn a_moved_file_keeps_its_document_and_only_loading_is_left_to_do() {
    let f = Fixture::new().await;
    let content = Sha256Hex::of(b"one");
    let found = async || -> Vec<String> {
        let mut found: Vec<String> = f
            .store
            .with_contents(std::slice::from_ref(&content))
            .await
            .unwrap()
            .into_iter()
            .map(|r| r.source)
            .collect();
        found.sort();
        found
    };
    let done = f.register_one("done").await;
    finish(&f.store, &f.claim_one().await).await.unwrap();
    let begun = f.register_one("begun").await;
    let claim = f.claim_one().await;
    for transition in [started(Stage::Extraction), completed(Stage::Extraction)] {
        f.store.apply(&claim.key, transition).await.unwrap();
    }
    let waits = f.register_one("waits").await;
    let gone = f.register_one("gone").await;
    f.store.request_delete(&gone.id).await.unwrap();
    assert_eq!(found().await, ["file:///begun", "file:///done", "file:///waits"]);

    let table = [
        (&done.id, "file:///new/done", 2, Some(Stage::Loading)),
        (&begun.id, "file:///new/begun", 1, Some(Stage::Chunking)),
        (&waits.id, "file:///new/waits", 1, Some(Stage::Extraction)),
    ];
    for (id, source, version, left) in table {
        let key = f.store.relocate(id, source, MediaType::Pdf).await.unwrap();
        assert_eq!((&key.id, key.version), (id, version), "{source}");
        let record = f.store.by_source(source).await.unwrap().unwrap();
        assert_eq!((record.status, rules::first_unfinished(&record)), (DocumentStatus::Pending, left), "{source}");
        assert_eq!((record.source_bucket.as_str(), record.source_s3_key.as_str()), ("file://", &source[7..]));
    }
    assert_eq!(f.store.by_source("file:///done").await.unwrap(), None);
    assert_eq!(found().await, ["file:///new/begun", "file:///new/done", "file:///new/waits"]);
    let late = f.store.apply(&claim.key, started(Stage::Chunking)).await;
    assert!(matches!(late, Err(ControlError::Fenced(_))), "the work under the old source ends: {late:?}");
    // Another type, and an extraction that failed because the file was gone, begin with the file again.
    let retyped = f.store.relocate(&done.id, "file:///new/done.md", MediaType::Markdown).await.unwrap();
    let record = f.store.record(&done.id).await.unwrap();
    assert_eq!((retyped.version, rules::first_unfinished(&record)), (3, Some(Stage::Extraction)));
    assert_eq!(record.media_type, MediaType::Markdown);
    f.raw("UPDATE document_processing_control SET status = 'QUARANTINED', error_stage = 'extraction' WHERE source = 'file:///new/waits'");
    f.store.relocate(&waits.id, "file:///newer/waits", MediaType::Pdf).await.unwrap();
    assert_eq!(f.store.record(&waits.id).await.unwrap().status, DocumentStatus::Pending);
    for (id, source) in [(&done.id, "file:///newer/waits"), (&gone.id, "file:///elsewhere")] {
        let refused = f.store.relocate(id, source, MediaType::Pdf).await;
        assert!(matches!(refused, Err(ControlError::Refused(_))), "{source}: {refused:?}");
    }
}
