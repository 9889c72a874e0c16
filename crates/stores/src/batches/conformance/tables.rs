//! Tests records that came from users' tables.

use super::*;

pub async fn a_table_is_owed_an_answer_until_it_was_told_this_one(w: &dyn World) {
    let fixture = BatchFixture::records(w);
    let (b, space) = (fixture.b(), &fixture.space);
    let owed = async |except: &[&str]| {
        let except: Vec<String> = except.iter().map(|table| (*table).to_owned()).collect();
        let mut owed = b.untold(space, &except, 10).await.unwrap();
        owed.sort_by(|a, b| a.key.cmp(&b.key));
        owed
    };
    let told = async |owed: &[PendingOutcome]| {
        b.told(owed.iter().map(|o| (o.item.clone(), o.mark.clone())).collect()).await.unwrap()
    };
    let brief = |owed: &[PendingOutcome]| {
        owed.iter().map(|o| format!("{} {} {}", o.key, o.version, o.outcome.name())).collect::<Vec<_>>()
    };
    fixture.put(&[("file", "f")]).await;
    let of_tables =
        vec![item_of("t", "a", "one"), item_of("t", "b", "two"), item_of("u", "c", "three"), item_of("t", "d", "")];
    assert_eq!(b.put(space, of_tables).await.unwrap(), Put { new: 4, noise: 1, ..Put::default() });
    assert_eq!(brief(&owed(&[]).await), ["d 1 NOISE"], "only noise has an outcome so far");
    fixture.pack("b1", 10).await;
    let sent = b.sent("b1", vec!["a".into(), "file".into()]).await.unwrap();
    let origins: Vec<_> = sent.iter().map(|s| s.as_ref().unwrap().origin.clone()).collect();
    assert_eq!(origins, [item_of("t", "a", "").origin, None]);
    assert!(fixture.harvest("b1", &["a", "c", "file"]).await.is_empty());
    let refusal = Refusal { key: "b".into(), error: "400".into(), again: false };
    b.refused("b1", vec![refusal], 3).await.unwrap();
    let all = owed(&[]).await;
    assert_eq!(brief(&all), ["a 1 SUCCESS", "b 1 FAILED", "c 1 SUCCESS", "d 1 NOISE"]);
    assert_eq!((all[0].text.as_str(), all[0].kind.as_str(), all[2].origin.table.as_str()), ("one", "line", "u"));
    assert_eq!(brief(&owed(&["t"]).await), ["c 1 SUCCESS"]);
    assert_eq!(owed(&["t", "u"]).await, []);
    told(&all).await;
    told(&all).await;
    assert_eq!(owed(&[]).await, []);
    // A table that requests a done record again gets a new outcome. An outcome of the earlier request does not
    // confirm it.
    assert_eq!(b.put(space, vec![item_of("t", "a", "one")]).await.unwrap(), Put { unchanged: 1, ..Put::default() });
    told(&all).await;
    let again = owed(&[]).await;
    assert_eq!(brief(&again), ["a 1 SUCCESS"]);
    told(&again).await;
    assert_eq!(owed(&[]).await, []);
    assert!(!b.is_any_waiting(space).await.unwrap(), "the request must not embed the record again");
    // A failed record is tried again if its table requests it, but not if a file contains it.
    assert_eq!(b.put(space, vec![item("b", "two")]).await.unwrap(), Put { unchanged: 1, failed: 1, ..Put::default() });
    assert_eq!(b.put(space, vec![item_of("t", "b", "two")]).await.unwrap(), Put { changed: 1, ..Put::default() });
    assert!(b.is_any_waiting(space).await.unwrap());
    // A record that a file changes still belongs to its table. If only its display data change, its outcome is written
    // back after its row is rewritten.
    assert_eq!(b.put(space, vec![item("c", "other")]).await.unwrap().changed, 1);
    let mut other = item_of("t", "a", "one");
    other.shown.source = "file:///other".into();
    assert_eq!(b.put(space, vec![other]).await.unwrap().changed, 1);
    assert_eq!(owed(&[]).await, []);
    let refresh = b.to_refresh(space, 10).await.unwrap();
    b.refreshed(refresh.into_iter().map(|sent| (sent.item, sent.version, true)).collect()).await.unwrap();
    assert_eq!(brief(&owed(&[]).await), ["a 2 SUCCESS"]);
    fixture.pack("b2", 10).await;
    assert!(fixture.harvest("b2", &["b", "c"]).await.is_empty());
    assert_eq!(brief(&owed(&[]).await), ["a 2 SUCCESS", "b 1 SUCCESS", "c 2 SUCCESS"]);
    // A record deleted here is no longer written back.
    b.delete(space, vec!["a".into()]).await.unwrap();
    assert_eq!(brief(&owed(&[]).await), ["b 1 SUCCESS", "c 2 SUCCESS"]);
}

pub async fn what_its_table_has_no_more_is_forgotten_by_its_version(w: &dyn World) {
    let fixture = BatchFixture::records(w);
    let (b, space) = (fixture.b(), &fixture.space);
    b.put(space, vec![item_of("t", "a", "one"), item_of("t", "b", "two")]).await.unwrap();
    fixture.pack("b1", 10).await;
    let sent = b.sent("b1", vec!["a".into(), "b".into()]).await.unwrap();
    let names: Vec<(ItemId, u64)> = sent.into_iter().flatten().map(|sent| (sent.item, sent.version)).collect();
    // One record was ingested again before it was forgotten.
    b.put(space, vec![item_of("t", "b", "another")]).await.unwrap();
    assert_eq!(b.forget(names.clone()).await.unwrap(), 1);
    assert_eq!(b.forget(names).await.unwrap(), 0, "a repeat changes nothing");
    assert_eq!(fixture.harvest("b1", &["a", "b"]).await, ["a", "b"]);
    assert_eq!(fixture.pack("b2", 10).await, ["b"], "the record waits with its new text");
    assert!(fixture.harvest("b2", &["b"]).await.is_empty());
    // The stored row is removed from the collection.
    let owed = b.untold(space, &[], 10).await.unwrap();
    assert_eq!(b.forget(vec![(owed[0].item.clone(), owed[0].version)]).await.unwrap(), 1);
    let removals = b.removals(space, 10).await.unwrap();
    assert_eq!(removals.iter().map(|r| (r.key.as_str(), r.version)).collect::<Vec<_>>(), [("b", 3)]);
    assert_eq!(b.untold(space, &[], 10).await.unwrap(), []);
}
