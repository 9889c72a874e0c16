//! Runs random steps on a store and checks that the invariants hold.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

/// Checks three invariants under random steps. An item is in one batch at a time. A result is stored only for the text
/// that was sent. When all batches have ended, every remaining item waits again, is done or has failed. Each case runs
/// on a fresh world that `world` creates.
pub fn nothing_is_lost_doubled_or_stale<W: World>(cases: u32, world: impl AsyncFn() -> W) {
    let configuration = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    proptest::test_runner::TestRunner::new(configuration)
        .run(&prop::collection::vec((0u8..7, 0usize..6, 0usize..4), 1..60), |steps| {
            runtime.block_on(async { one(&world().await, steps).await });
            Ok(())
        })
        .unwrap();
}

async fn one(w: &dyn World, steps: Vec<(u8, usize, usize)>) {
    let d = BatchFixture::records(w);
    let mut sent: BTreeMap<String, HashMap<String, String>> = BTreeMap::new();
    let mut truth: HashMap<String, String> = HashMap::new();
    for (n, (what, which, text)) in steps.into_iter().enumerate() {
        let (key, input) = (format!("k{which}"), format!("text {text}"));
        let open = sent.keys().nth(which % sent.len().max(1)).cloned();
        match (what, open) {
            (0 | 1, _) => {
                d.put(&[(&key, &input)]).await;
                truth.insert(key, input);
            }
            (2, _) => {
                d.b().delete(&d.space, vec![key.clone()]).await.unwrap();
                truth.remove(&key);
            }
            (3, _) => {
                let id = format!("b{n}");
                let requests = d.pack(&id, 1 + text).await;
                let all = sent.values().flat_map(|b| b.keys());
                for key in &requests {
                    let current = truth.get(key).cloned();
                    assert!(current.is_some(), "{key} was sent although it was deleted");
                    let twice = all.clone().filter(|k| *k == key).count();
                    let elsewhere = sent.values().filter(|b| b.get(key) == current.as_ref()).count();
                    assert!(twice == 0 || elsewhere <= twice);
                }
                if !requests.is_empty() {
                    sent.insert(id, requests.into_iter().map(|k| (k.clone(), truth[&k].clone())).collect());
                }
            }
            (4, Some(id)) => {
                // Every result is reported; some are reported twice.
                let keys: Vec<&str> = sent[&id].keys().map(String::as_str).collect();
                let found = d.b().sent(&id, keys.iter().map(|k| (*k).to_owned()).collect()).await.unwrap();
                for found in found.iter().flatten() {
                    assert_eq!(Some(&sent[&id][&found.key]), truth.get(&found.key), "stale");
                    assert_eq!(&found.shown.as_ref().unwrap().text, &truth[&found.key]);
                }
                d.harvest(&id, &keys).await;
            }
            (5, Some(id)) => {
                sent.remove(&id);
                d.end(&id, BatchStatus::Completed, 1).await;
            }
            (6, Some(id)) => {
                let key = sent[&id].keys().next().cloned().unwrap();
                d.b().refused(&id, vec![Refusal { key, error: "500".into(), again: true }], 1_000).await.unwrap();
            }
            _ => {}
        }
    }
    for id in sent.keys() {
        d.end(id, BatchStatus::Completed, 1).await;
    }
    let [none, pending, success, failed, noise] = d.counts().await;
    assert_eq!((none + success + failed, pending, noise), (truth.len() as u64, 0, 0));
}
