//! Tests the behaviour that every target must have.
//!
//! A crate that implements a target calls the macro `docweir_target::target_conformance!(world())`, which defines one
//! test per behaviour. A [`World`] provides a fresh, empty collection. A test can open the collection a second time,
//! and can make the world lose the replies to writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::documents::DocumentId;
use docweir_core::error::ErrorClass;

use crate::testing::{delete, document, id, model};
use crate::{Capabilities, LoadedVersion, Target, TargetWriter, Write};

/// Provides a collection for one test.
#[async_trait]
pub trait World: Send + Sync {
    /// Opens the collection as a new process would.
    async fn open(&self) -> Arc<dyn Target>;

    /// Opens the collection with the given limits for one call.
    async fn limited(&self, capabilities: Capabilities) -> Arc<dyn Target>;

    /// Makes the world lose the replies to writes, or stops the losses. The write itself is applied even if its reply
    /// is lost. Returns `false` if this world cannot lose replies.
    fn lose_replies(&self, _lose: bool) -> bool {
        false
    }

    /// Returns the maximum time between the reply to a write and the moment when the write is visible.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }
}

/// Defines one test per behaviour. `$world` is a future that returns a fresh world. If the world needs a server that
/// is not available, the future returns `None`.
#[macro_export]
macro_rules! target_conformance {
    ($world:expr, $($behaviour:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $behaviour() {
            if let Some(world) = $world.await {
                $crate::conformance::$behaviour(&world).await;
            }
        })*
    };
    ($world:expr) => {
        $crate::target_conformance!(
            $world,
            a_document_is_there_with_all_it_has,
            the_highest_version_wins_in_any_order,
            a_deletion_is_a_version,
            a_new_version_leaves_nothing_of_the_old,
            a_document_without_rows_is_there,
            writing_again_changes_nothing,
            a_lost_reply_is_mended_by_writing_again,
            two_writers_disturb_nobody,
            a_write_is_based_on_what_was_fixed,
            documents_are_listed_in_pages,
            what_is_too_much_or_wrong_is_refused_as_a_whole,
            another_model_is_refused_before_anything_is_written,
            what_was_written_is_there_for_another_process,
        );
    };
}

/// Writes through a new writer.
async fn write(target: &Arc<dyn Target>, writes: Vec<Write>) {
    target.clone().writer().write(writes, &model(3)).await.unwrap();
}

async fn held(target: &Arc<dyn Target>, documents: &[&str]) -> Vec<Option<(u64, u32)>> {
    let ids: Vec<DocumentId> = documents.iter().map(|name| id(name)).collect();
    let held = target.held(&ids).await.unwrap();
    held.into_iter().map(|held| held.map(|LoadedVersion { version, rows }| (version, rows))).collect()
}

/// Waits until the target holds the expected version of each document. Stops waiting once the lag of the world has
/// passed.
async fn expect(world: &dyn World, target: &Arc<dyn Target>, documents: &[&str], expected: &[Option<(u64, u32)>]) {
    const LOOK: Duration = Duration::from_millis(50);
    for _ in 0..=world.lag().as_millis() / LOOK.as_millis() {
        if held(target, documents).await == expected {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(held(target, documents).await, expected);
}

async fn texts(target: &Arc<dyn Target>, document: &str) -> Vec<String> {
    let rows = target.rows(&[id(document)]).await.unwrap();
    rows.into_iter().flatten().map(|row| row.text).collect()
}

pub async fn a_document_is_there_with_all_it_has(world: &dyn World) {
    let target = world.open().await;
    assert_eq!(target.model().await.unwrap(), None);
    assert_eq!(held(&target, &["doc_a"]).await, [None]);
    let Write::Upsert(written) = document("doc_a", 1, &["one", "two", "three"]) else { unreachable!() };
    write(&target, vec![Write::Upsert(written.clone())]).await;
    expect(world, &target, &["doc_a", "doc_b"], &[Some((1, 3)), None]).await;
    let rows = target.rows(&[id("doc_b"), id("doc_a")]).await.unwrap();
    assert_eq!(rows[0], []);
    assert_eq!(rows[1].len(), 3);
    for (read, wrote) in rows[1].iter().zip(&written.rows) {
        let near = read.vector.iter().zip(&wrote.vector).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near, "{:?} instead of {:?}", read.vector, wrote.vector);
        let mut read = read.clone();
        read.vector.clone_from(&wrote.vector);
        assert_eq!(read, *wrote);
    }
    assert_eq!(target.model().await.unwrap(), Some(model(3)));
}

pub async fn the_highest_version_wins_in_any_order(world: &dyn World) {
    let target = world.open().await;
    write(&target, vec![document("doc_a", 3, &["third"])]).await;
    write(&target, vec![document("doc_a", 2, &["second", "of two"])]).await;
    expect(world, &target, &["doc_a"], &[Some((3, 1))]).await;
    assert_eq!(texts(&target, "doc_a").await, ["third"]);
    // The same holds within one call.
    write(&target, vec![document("doc_a", 5, &["fifth"]), document("doc_a", 4, &["fourth"])]).await;
    expect(world, &target, &["doc_a"], &[Some((5, 1))]).await;
    assert_eq!(texts(&target, "doc_a").await, ["fifth"]);
}

pub async fn a_deletion_is_a_version(world: &dyn World) {
    let target = world.open().await;
    write(&target, vec![document("doc_a", 1, &["one"]), document("doc_b", 1, &["one"])]).await;
    write(&target, vec![delete("doc_a", 2)]).await;
    expect(world, &target, &["doc_a", "doc_b"], &[None, Some((1, 1))]).await;
    assert_eq!(texts(&target, "doc_a").await, [""; 0]);
    // A version older than the deletion does not bring the document back; a newer version does.
    write(&target, vec![document("doc_a", 1, &["one"])]).await;
    expect(world, &target, &["doc_a"], &[None]).await;
    write(&target, vec![document("doc_a", 3, &["three"])]).await;
    expect(world, &target, &["doc_a"], &[Some((3, 1))]).await;
    // At equal versions the deletion wins.
    write(&target, vec![document("doc_b", 2, &["two"]), delete("doc_b", 2)]).await;
    expect(world, &target, &["doc_b"], &[None]).await;
    // A document that never existed can be deleted.
    write(&target, vec![delete("doc_c", 1)]).await;
    expect(world, &target, &["doc_c"], &[None]).await;
}

pub async fn a_new_version_leaves_nothing_of_the_old(world: &dyn World) {
    let target = world.open().await;
    write(&target, vec![document("doc_a", 1, &["one", "two", "three", "four"])]).await;
    write(&target, vec![document("doc_a", 2, &["new"])]).await;
    expect(world, &target, &["doc_a"], &[Some((2, 1))]).await;
    assert_eq!(texts(&target, "doc_a").await, ["new"]);
}

pub async fn a_document_without_rows_is_there(world: &dyn World) {
    let target = world.open().await;
    write(&target, vec![document("doc_a", 1, &["one"])]).await;
    write(&target, vec![document("doc_a", 2, &[])]).await;
    expect(world, &target, &["doc_a"], &[Some((2, 0))]).await;
    assert_eq!(texts(&target, "doc_a").await, [""; 0]);
}

pub async fn writing_again_changes_nothing(world: &dyn World) {
    let target = world.open().await;
    let writes = || vec![document("doc_a", 1, &["one", "two"]), delete("doc_b", 4)];
    let mut writer = target.clone().writer();
    for _ in 0..3 {
        writer.write(writes(), &model(3)).await.unwrap();
    }
    write(&target, writes()).await;
    expect(world, &target, &["doc_a", "doc_b"], &[Some((1, 2)), None]).await;
    assert_eq!(texts(&target, "doc_a").await, ["one", "two"]);
    assert_eq!(target.list(None, 10).await.unwrap().len(), 1);
}

pub async fn a_lost_reply_is_mended_by_writing_again(world: &dyn World) {
    let target = world.open().await;
    write(&target, vec![document("doc_a", 1, &["one"])]).await;
    if !world.lose_replies(true) {
        return;
    }
    let mut writer = target.clone().writer();
    let writes = || vec![document("doc_a", 2, &["two"]), document("doc_b", 1, &["one", "two"])];
    let first = writer.write(writes(), &model(3)).await;
    world.lose_replies(false);
    if let Err(error) = first {
        assert!(error.class.is_temporary(), "{error:?}");
        writer.write(writes(), &model(3)).await.unwrap();
    }
    expect(world, &target, &["doc_a", "doc_b"], &[Some((2, 1)), Some((1, 2))]).await;
    assert_eq!(texts(&target, "doc_b").await, ["one", "two"]);
}

pub async fn two_writers_disturb_nobody(world: &dyn World) {
    let (a, b) = (world.open().await, world.open().await);
    let (mut one, mut two): (Box<dyn TargetWriter>, _) = (a.clone().writer(), b.clone().writer());
    for version in 1..=4 {
        let (mine, theirs) = (document("doc_a", version, &["a"]), document("doc_b", version, &["b", "b"]));
        let model = model(3);
        let (first, second) = tokio::join!(one.write(vec![mine], &model), two.write(vec![theirs], &model));
        first.unwrap();
        second.unwrap();
    }
    for target in [&a, &b] {
        expect(world, target, &["doc_a", "doc_b"], &[Some((4, 1)), Some((4, 2))]).await;
    }
}

pub async fn a_write_is_based_on_what_was_fixed(world: &dyn World) {
    let target = world.open().await;
    let mut writer = target.clone().writer();
    writer.begin().await.unwrap();
    // A newer version is written in between. The write that is based on the older state does not hide the newer
    // version.
    write(&target, vec![document("doc_a", 2, &["newer"])]).await;
    writer.write(vec![document("doc_a", 1, &["older"])], &model(3)).await.unwrap();
    expect(world, &target, &["doc_a"], &[Some((2, 1))]).await;
    // A writer that began and was dropped does not block other writers.
    writer.begin().await.unwrap();
    drop(writer);
    write(&target, vec![document("doc_a", 3, &["newest"])]).await;
    expect(world, &target, &["doc_a"], &[Some((3, 1))]).await;
}

pub async fn documents_are_listed_in_pages(world: &dyn World) {
    let target = world.open().await;
    let names: Vec<String> = (0..25).map(|n| format!("doc_{n:02}")).collect();
    write(&target, names.iter().rev().map(|name| document(name, 1, &["x"])).collect()).await;
    write(&target, vec![delete("doc_07", 2)]).await;
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let expected: Vec<_> = all.iter().map(|name| (*name != "doc_07").then_some((1, 1))).collect();
    expect(world, &target, &all, &expected).await;
    let (mut listed, mut after) = (BTreeMap::new(), None);
    loop {
        let page = target.list(after.as_ref(), 7).await.unwrap();
        assert!(page.len() <= 7 && page.is_sorted_by(|a, b| a.0 < b.0), "{page:?}");
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        listed.extend(page);
    }
    let expected: Vec<_> = names.iter().filter(|name| *name != "doc_07").map(|name| id(name)).collect();
    assert_eq!(listed.keys().cloned().collect::<Vec<_>>(), expected);
}

pub async fn what_is_too_much_or_wrong_is_refused_as_a_whole(world: &dyn World) {
    let target = world.open().await;
    let wrong = |change: fn(&mut crate::DocumentRows)| {
        let Write::Upsert(mut rows) = document("doc_bad", 1, &["one", "two"]) else { unreachable!() };
        change(&mut rows);
        Write::Upsert(rows)
    };
    let table: [(Write, &str); 4] = [
        (wrong(|d| d.rows[1].vector = vec![0.6, 0.8]), "2 dimensions"),
        (wrong(|d| d.rows[1].vector = vec![f32::NAN, 0.0, 0.0]), "NaN"),
        (wrong(|d| d.rows[1].vector = vec![0.5, 0.0, 0.0]), "length 0.5"),
        (wrong(|d| d.rows[1].chunk_id = d.rows[0].chunk_id.clone()), "empty or duplicate id"),
    ];
    for (bad, reason) in table {
        let checked = bad.check(&model(3), &target.capabilities()).unwrap_err();
        assert!(checked.to_string().contains(reason), "{checked}");
        let writes = vec![document("doc_good", 1, &["x"]), bad];
        let error = target.clone().writer().write(writes, &model(3)).await.unwrap_err();
        assert!(error.class == ErrorClass::Permanent && error.message.contains(reason), "{error:?}");
    }
    assert_eq!(target.clone().writer().write(Vec::new(), &model(3)).await.unwrap_err().class, ErrorClass::Permanent);
    let none = Capabilities::default();
    let limits = [
        Capabilities { max_documents: 1, ..none.clone() },
        Capabilities { max_rows: 2, ..none.clone() },
        Capabilities { max_bytes: 100, ..none },
    ];
    for limit in limits {
        let limited = world.limited(limit.clone()).await;
        let writes = vec![document("doc_good", 1, &["one", "two"]), document("doc_more", 1, &["three"])];
        let error = limited.clone().writer().write(writes, &model(3)).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Permanent, "{limit:?}: {error:?}");
    }
    assert_eq!(held(&target, &["doc_good", "doc_bad", "doc_more"]).await, [None, None, None]);
}

pub async fn another_model_is_refused_before_anything_is_written(world: &dyn World) {
    let target = world.open().await;
    target.check_model(&model(3)).await.unwrap();
    write(&target, vec![document("doc_a", 1, &["one"])]).await;
    target.check_model(&model(3)).await.unwrap();
    let same_size = docweir_core::model::ModelIdentity { weights: "others".into(), ..model(3) };
    for other in [model(4), same_size] {
        let error = target.check_model(&other).await.unwrap_err();
        assert!(error.class == ErrorClass::System && error.message.contains("`test`"), "{error:?}");
    }
    let Write::Upsert(mut rows) = document("doc_b", 1, &["one"]) else { unreachable!() };
    rows.rows[0].vector = vec![0.5; 4];
    let error = target.clone().writer().write(vec![Write::Upsert(rows)], &model(4)).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::System, "{error:?}");
    assert_eq!(held(&target, &["doc_b"]).await, [None]);
    // A deletion needs no model.
    write(&target, vec![delete("doc_a", 2)]).await;
    expect(world, &target, &["doc_a"], &[None]).await;
}

pub async fn what_was_written_is_there_for_another_process(world: &dyn World) {
    let target = world.open().await;
    write(&target, vec![document("doc_a", 7, &["one", "two"])]).await;
    drop(target);
    let again = world.open().await;
    expect(world, &again, &["doc_a"], &[Some((7, 2))]).await;
    assert_eq!(texts(&again, "doc_a").await, ["one", "two"]);
    assert_eq!(again.model().await.unwrap(), Some(model(3)));
}
