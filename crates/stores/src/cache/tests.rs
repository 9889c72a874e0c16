use std::path::Path;

use docweir_core::cache::{CacheOptions, EmbeddingCache, FindingsCache, Forget, NoCache};
use docweir_core::documents::Sha256Hex;
use docweir_core::model::{Metric, ModelIdentity};
use docweir_testkit::processes::SmallDisk;

use super::*;

fn model(weights: &str) -> ModelIdentity {
    ModelIdentity { id: "test".into(), weights: weights.into(), dimension: 4, metric: Metric::Cosine }
}

fn text(n: u32) -> Sha256Hex {
    Sha256Hex::of(&n.to_le_bytes())
}

fn vector(n: u32) -> Vec<f32> {
    vec![n as f32, -1.5, f32::MIN_POSITIVE, 0.1]
}

fn entries(range: std::ops::Range<u32>) -> Vec<(Sha256Hex, Vec<f32>)> {
    range.map(|n| (text(n), vector(n))).collect()
}

fn open(dir: &Path) -> SqliteEmbeddingCache {
    SqliteEmbeddingCache::open(&dir.join("embeddings.db"), CacheOptions::default())
}

async fn known(cache: &impl EmbeddingCache, range: std::ops::Range<u32>) -> usize {
    let texts: Vec<_> = range.clone().map(text).collect();
    let found = cache.get_many(&model("w"), &texts).await.unwrap();
    assert_eq!(found.len(), texts.len());
    for (n, found) in range.zip(&found) {
        assert!(found.as_ref().is_none_or(|v| *v == vector(n)), "wrong vector for {n}");
    }
    found.iter().flatten().count()
}

#[tokio::test]
async fn vectors_come_back_bit_by_bit_for_their_model_only() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    assert_eq!(known(&cache, 0..3).await, 0);
    cache.put_many(&model("w"), entries(0..2)).await.unwrap();
    cache.put_many(&model("w"), entries(1..2)).await.unwrap();
    assert_eq!(known(&cache, 0..3).await, 2);
    assert_eq!(cache.get_many(&model("other"), &[text(0)]).await.unwrap(), [None]);
    drop(cache);
    assert_eq!(known(&open(dir.path()), 0..3).await, 2, "after a restart");
}

#[tokio::test]
async fn a_vector_of_another_dimension_is_the_callers_mistake_and_no_number_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let error = cache.put_many(&model("w"), vec![(text(0), vec![0.0; 3])]).await.unwrap_err();
    assert_eq!(error.code, "wrong_dimension");
    cache.put_many(&model("w"), vec![(text(0), vec![f32::NAN, 0.0, 0.0, 0.0])]).await.unwrap();
    assert_eq!(known(&cache, 0..1).await, 0);
}

#[tokio::test]
async fn what_was_used_last_stays_when_the_file_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("embeddings.db");
    let options = CacheOptions { max_bytes: 1 << 20, ..Default::default() };
    let cache = SqliteEmbeddingCache::open(&path, options);
    cache.put_many(&model("w"), entries(0..100)).await.unwrap();
    for batch in 1..200 {
        assert_eq!(known(&cache, 0..100).await, 100, "batch {batch}");
        cache.put_many(&model("w"), entries(batch * 100..(batch + 1) * 100)).await.unwrap();
    }
    assert_eq!(known(&cache, 19_900..20_000).await, 100);
    assert_eq!(known(&cache, 100..200).await, 0, "the oldest are gone");
    let bytes = path.metadata().unwrap().len();
    assert!(bytes < (1 << 20) + (256 << 10), "the file has {bytes} bytes");
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("embeddings.db");
    for round in 0..2 {
        std::fs::write(&path, "this is no database, and long enough to be looked at".repeat(100)).unwrap();
        let cache = open(dir.path());
        cache.put_many(&model("w"), entries(0..10)).await.unwrap();
        assert_eq!(known(&cache, 0..10).await, 10, "round {round}");
        assert!(dir.path().join("embeddings.db.damaged").exists());
    }
    // This file belongs to another program: its tables differ from docweir's.
    std::fs::remove_file(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA user_version = 1; CREATE TABLE embeddings (x);").unwrap();
    drop(other);
    let cache = open(dir.path());
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    assert_eq!(known(&cache, 0..10).await, 10);
}

#[tokio::test]
async fn damage_that_shows_while_it_is_used_costs_no_document() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("embeddings.db");
    let cache = open(dir.path());
    cache.put_many(&model("w"), entries(0..5000)).await.unwrap();
    drop(cache);
    // The header stays; the rest is overwritten.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let cache = open(dir.path());
    assert_eq!(known(&cache, 0..10).await, 0);
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    assert_eq!(known(&cache, 0..10).await, 10, "the new file works");
}

#[tokio::test]
async fn a_row_that_rotted_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    let other = rusqlite::Connection::open(dir.path().join("embeddings.db")).unwrap();
    let spoilt = other.execute("UPDATE entries SET value = zeroblob(16) WHERE rowid = 1", []).unwrap();
    let short = other.execute("UPDATE entries SET value = x'00' WHERE rowid = 2", []).unwrap();
    assert_eq!((spoilt, short), (1, 1));
    assert_eq!(known(&cache, 0..10).await, 8);
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    assert_eq!(known(&cache, 0..10).await, 10, "they can be stored again");
}

#[tokio::test]
async fn a_newer_cache_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("embeddings.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 7;").unwrap();
    let cache = open(dir.path());
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    assert_eq!(known(&cache, 0..10).await, 0);
    assert_eq!(other.query_row("SELECT count(*) FROM theirs", [], |r| r.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn vectors_of_the_first_form_are_known() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let cache = open(dir.path());
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    drop(cache);
    let old = rusqlite::Connection::open(dir.path().join("embeddings.db")).unwrap();
    let back = "ALTER TABLE entries RENAME COLUMN value TO vector; ALTER TABLE entries RENAME TO embeddings; \
        PRAGMA user_version = 1;";
    old.execute_batch(back).unwrap();
    drop(old);
    let cache = open(dir.path());
    assert_eq!(known(&cache, 0..10).await, 10);
    cache.put_many(&model("w"), entries(10..20)).await.unwrap();
    assert_eq!(known(&cache, 0..20).await, 20);
}

#[tokio::test]
async fn findings_are_kept_by_question_and_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("findings.db");
    let cache = SqliteFindingsCache::open(&path, CacheOptions::for_findings());
    let texts = [text(0), text(1)];
    cache.put_many("entities/en", vec![(text(0), b"found".to_vec()), (text(1), Vec::new())]).await;
    drop(cache);
    let cache = SqliteFindingsCache::open(&path, CacheOptions::for_findings());
    assert_eq!(cache.get_many("entities/en", &texts).await, [Some(b"found".to_vec()), Some(Vec::new())]);
    assert_eq!(cache.get_many("entities/de", &texts).await, [None, None]);
    assert_eq!(cache.forget(Forget::Texts(texts.to_vec())).await.unwrap(), 2);
    assert_eq!(cache.get_many("entities/en", &texts).await, [None, None]);
}

#[tokio::test]
async fn a_full_or_missing_disk_costs_no_document() {
    let cache = open(Path::new("/nonexistent/folder"));
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    assert_eq!(known(&cache, 0..10).await, 0);

    let Some(disk) = SmallDisk::new(256 * 1024) else { return };
    let cache = open(disk.path());
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    cache.put_many(&model("w"), entries(10..20_000)).await.unwrap();
    assert_eq!(known(&cache, 0..10).await, 10, "entries from before the disk was full");
}

#[tokio::test]
async fn what_is_forgotten_is_gone_from_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    cache.put_many(&model("other"), entries(0..1)).await.unwrap();
    let damaged = dir.path().join("embeddings.db.damaged");
    std::fs::write(&damaged, "vectors").unwrap();
    assert_eq!(cache.forget(Forget::Texts(vec![text(0), text(1), text(77)])).await.unwrap(), 3);
    assert_eq!((known(&cache, 0..10).await, damaged.exists()), (8, false));
    assert_eq!(cache.forget(Forget::Everything).await.unwrap(), 8);
    assert_eq!(known(&cache, 0..10).await, 0);
    for name in ["embeddings.db", "embeddings.db-wal"] {
        let body = std::fs::read(dir.path().join(name)).unwrap_or_default();
        let held = vector(5).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        assert!(!body.windows(held.len()).any(|w| w == held), "{name} still contains a vector");
    }

    cache.put_many(&model("w"), entries(0..10)).await.unwrap();
    drop(cache);
    let off = CacheOptions { enabled: false, ..Default::default() };
    let cache = SqliteEmbeddingCache::open(&dir.path().join("embeddings.db"), off);
    cache.forget(Forget::Texts(vec![text(0)])).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a disabled cache keeps nothing");
}

#[tokio::test]
async fn no_cache_knows_nothing() {
    EmbeddingCache::put_many(&NoCache, &model("w"), entries(0..10)).await.unwrap();
    assert_eq!(known(&NoCache, 0..10).await, 0);
    let options = CacheOptions { enabled: false, ..Default::default() };
    let dir = tempfile::tempdir().unwrap();
    let off = SqliteEmbeddingCache::open(&dir.path().join("e.db"), options);
    off.put_many(&model("w"), entries(0..10)).await.unwrap();
    assert_eq!(known(&off, 0..10).await, 0);
    assert!(dir.path().read_dir().unwrap().next().is_none(), "no file is created");
}

#[test]
fn the_defaults_are_in_range() {
    assert_eq!(CacheOptions::default().problems(), []);
}
