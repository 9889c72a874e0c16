//! Compares search with brute force, and tests which requests are refused.

use std::sync::Arc;

use docweir_objects::memory::Faults;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{delete, id, model, objects, row, store, unit};
use crate::{DocumentRows, VectorStore, Write};

const WORDS: [&str; 6] = ["lease", "fence", "store", "epoch", "delta", "row"];

fn upsert(name: &str, version: u64, rows: &[(Vec<f32>, String)]) -> Write {
    let rows = rows.iter().enumerate();
    Write::Upsert(DocumentRows {
        document_id: id(name),
        version,
        source: format!("file:///{name}.pdf"),
        parent: None,
        metadata: json!({"tenant": if name < "doc_3" { "acme" } else { "other" }}).as_object().unwrap().clone(),
        rows: rows.map(|(i, (v, t))| row(name, version, i as u32, t, v.clone())).collect(),
    })
}

async fn commit(store: &Arc<VectorStore>, writes: Vec<Write>) {
    store.writer().commit(writes, &model(3)).await.unwrap();
}

fn vector() -> impl Strategy<Value = Vec<f32>> {
    // Use few distinct values, so that ties occur.
    proptest::collection::vec(-2..=2i8, 3)
        .prop_filter("not zero", |v| v.iter().any(|x| *x != 0))
        .prop_map(|v| unit(&v.into_iter().map(f32::from).collect::<Vec<_>>()))
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 1..8).prop_map(|w| w.join(" "))
}

/// Describes one document: its number from 0 to 5, and the vectors and texts of its rows.
type Change = (u8, Vec<(Vec<f32>, String)>);

fn commits() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let document = (0..6u8, proptest::collection::vec((vector(), text()), 0..4));
    proptest::collection::vec(proptest::collection::vec(document, 1..4), 1..6)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Checks that search gives the same result as a loop over all visible rows. Covers every mode, with and without
    /// a filter, over many files with superseded rows. Also checks that the scores are identical if all documents are
    /// in a single file.
    #[test]
    fn finds_what_brute_force_finds(
        commits in commits(), query in vector(), words in text(), k in 1..8usize, weight in 0.0..=1.0f32,
        only_acme in any::<bool>(), mode in 0..3u8,
    ) {
        block_on(async {
            let s = store(&objects(0, Faults::default()));
            let mut latest = std::collections::BTreeMap::new();
            for (i, documents) in commits.iter().enumerate() {
                let version = i as u64 + 1;
                let mut writes = Vec::new();
                for (n, rows) in documents {
                    writes.push(upsert(&format!("doc_{n}"), version, rows));
                    latest.insert(*n, writes[writes.len() - 1].clone());
                }
                commit(&s, writes).await;
            }
            let one = store(&objects(0, Faults::default()));
            commit(&one, latest.values().cloned().collect()).await;
            let (many, one) = (s.view().await.unwrap(), one.view().await.unwrap());
            let mode = [Mode::Vector, Mode::FullText, Mode::Hybrid { weight }][usize::from(mode)];
            let filter = only_acme.then(|| "tenant=acme".parse().unwrap());
            let request = SearchRequest {
                mode, filter, ..SearchRequest::new(words.clone(), Some(query.clone()), k)
            };
            let hits = many.search(&request).unwrap();
            let same = one.search(&request).unwrap();
            prop_assert_eq!(&hits, &same, "division into files changes nothing");

            // Compute exact scores of all visible rows by brute force.
            let all = SearchRequest { k: 1000, mode: Mode::FullText, filter: None, ..request.clone() };
            let bm25: std::collections::HashMap<_, _> =
                one.search(&all).unwrap().into_iter().map(|h| (h.chunk_id, (h.bm25_score.unwrap(), h.score))).collect();
            // Chunk, its scores, and the scores of its neighbours.
            let mut rows: Vec<(String, Pair, [Option<Pair>; 2])> = Vec::new();
            for write in latest.values().filter(|w| !only_acme || w.document_id().as_str() < "doc_3") {
                let pairs: Vec<Pair> = write.rows().iter().map(|row| Pair {
                    vector: row.vector.iter().zip(&query).map(|(a, b)| a * b).sum(),
                    bm25: bm25.get(&row.chunk_id).map_or(0.0, |(own, _)| *own),
                }).collect();
                for (i, row) in write.rows().iter().enumerate() {
                    let beside = [i.checked_sub(1).map(|i| pairs[i]), pairs.get(i + 1).copied()];
                    rows.push((row.chunk_id.clone(), pairs[i], beside));
                }
            }
            let pairs: Vec<Pair> = rows.iter().map(|r| r.1).collect();
            let fusion = Fusion::of(&pairs, weight, Default::default());
            let mut expected: Vec<(String, f32)> = rows.iter().filter_map(|(id, pair, beside)| match mode {
                Mode::Vector => Some((id.clone(), pair.vector)),
                Mode::FullText => bm25.get(id).map(|(_, in_context)| (id.clone(), *in_context)),
                Mode::Hybrid { .. } => Some((id.clone(), fusion.in_context(*pair, *beside, 0.2))),
            }).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            expected.truncate(k);
            prop_assert_eq!(hits.len(), expected.len());
            for (hit, (_, score)) in hits.iter().zip(&expected) {
                prop_assert!((hit.score - score).abs() < 1e-5, "{} instead of {score}", hit.score);
            }
            prop_assert!(hits.windows(2).all(|w| w[0].score > w[1].score
                || (w[0].score == w[1].score && w[0].chunk_id < w[1].chunk_id)));
            Ok(())
        })?;
    }
}

#[test]
fn threads_change_nothing() {
    block_on(async {
        let s = store(&objects(0, Faults::default()));
        let mut random = fastrand::Rng::with_seed(7);
        for n in 0..3 {
            let rows: Vec<_> = (0..12_000)
                .map(|i| (unit(&[random.f32() - 0.5, random.f32() - 0.5, random.f32() + 0.1]), format!("t{i}")))
                .collect();
            commit(&s, vec![upsert(&format!("doc_{n}"), 1, &rows)]).await;
        }
        commit(&s, vec![delete("doc_1", 2)]).await;
        let view = s.view().await.unwrap();
        let request = SearchRequest { mode: Mode::Vector, ..SearchRequest::new("", Some(unit(&[0.3, -0.2, 0.9])), 50) };
        let one = view.search(&request).unwrap();
        assert!(one.iter().all(|h| h.document != id("doc_1")));
        for threads in [2, 3, 64] {
            assert_eq!(view.search(&SearchRequest { threads, ..request.clone() }).unwrap(), one);
        }
    });
}

#[test]
fn a_hit_tells_where_it_stands() {
    block_on(async {
        let s = store(&objects(0, Faults::default()));
        let rows = [
            (unit(&[1.0, 0.0, 0.0]), "Nothing here".to_owned()),
            (unit(&[0.0, 1.0, 0.0]), "Der «Café» lease".to_owned()),
        ];
        commit(&s, vec![upsert("doc_a", 4, &rows)]).await;
        let view = s.view().await.unwrap();
        let hits = view.search(&SearchRequest::new("cafe LEASE", None, 5)).unwrap();
        assert_eq!(hits.len(), 1);
        let hit = &hits[0];
        assert_eq!((hit.document.as_str(), hit.version, hit.source.as_str()), ("doc_a", 4, "file:///doc_a.pdf"));
        assert_eq!((hit.chunk_id.as_str(), hit.ordinal, hit.pages), ("doc_a-4-1", 1, (2, 3)));
        assert_eq!(hit.heading_path, ["Top", "Unter"]);
        assert_eq!((hit.boxes.len(), hit.boxes[0].page, hit.boxes[0].bbox), (1, 1, [1.0, 2.5, 3.0, 4.0]));
        assert_eq!((hit.span.start, hit.span.end_byte), (1, 20));
        assert_eq!(hit.matches, [(5, 9), (11, 16)]);
        assert!(hit.vector_score.is_none() && hit.bm25_score.is_some_and(|own| own > 0.0));
        let by_heading = view.search(&SearchRequest::new("unter", None, 5)).unwrap();
        assert_eq!((by_heading.len(), by_heading[0].matches.len()), (1, 0), "headings are searched with the text");
    });
}

#[test]
fn filters_choose_rows() {
    block_on(async {
        let s = store(&objects(0, Faults::default()));
        let rows = |n: usize| -> Vec<_> { (0..n).map(|i| (unit(&[1.0, i as f32, 1.0]), "x".to_owned())).collect() };
        commit(&s, vec![upsert("doc_1", 1, &rows(4)), upsert("doc_5", 1, &rows(2))]).await;
        let view = s.view().await.unwrap();
        let found = |filter: Filter| {
            let request = SearchRequest { filter: Some(filter), ..SearchRequest::new("x", None, 100) };
            let mut ids: Vec<String> = view.search(&request).unwrap().into_iter().map(|h| h.chunk_id).collect();
            ids.sort();
            ids.iter().map(|i| i.replace("doc_", "").replace("-1-", ".")).collect::<Vec<_>>().join(" ")
        };
        for (filter, expected) in [
            ("document=doc_5", "5.0 5.1"),
            ("document!=doc_5", "1.0 1.1 1.2 1.3"),
            ("source^=file:///doc_1", "1.0 1.1 1.2 1.3"),
            ("tenant=acme", "1.0 1.1 1.2 1.3"),
            ("tenant=acme,other", "1.0 1.1 1.2 1.3 5.0 5.1"),
            ("n>=2", "1.2 1.3"),
            ("n>2", "1.3"),
            ("n<1", "1.0 5.0"),
            ("n<=0", "1.0 5.0"),
            ("n=1,3", "1.1 1.3 5.1"),
            // Row n spans pages n + 1 and n + 2.
            ("page=2", "1.0 1.1 5.0 5.1"),
            ("page>=4", "1.2 1.3"),
            ("page<2", "1.0 5.0"),
            ("tags=t1", "1.1 5.1"),
            ("language=eng", "1.0 1.2 5.0"),
            ("language!=eng", "1.1 1.3 5.1"),
            ("kind=text", "1.0 1.1 1.2 1.3 5.0 5.1"),
            ("kind=table", ""),
            ("chunk^=doc_5-1-1", "5.1"),
            ("nowhere=1", ""),
            ("tenant>3", ""),
        ] {
            assert_eq!(found(filter.parse().unwrap()), expected, "{filter}");
        }
        let parse = |f: &[&str]| f.iter().map(|f| f.parse().unwrap()).collect::<Vec<Filter>>();
        assert_eq!(found(Filter::All(parse(&["n>=1", "document=doc_1", "n<3"]))), "1.1 1.2");
        assert_eq!(found(Filter::Any(parse(&["n=3", "document=doc_5"]))), "1.3 5.0 5.1");
        assert_eq!(found(Filter::Not(Box::new(Filter::Any(parse(&["n=0", "n=1"]))))), "1.2 1.3");
        assert_eq!(found(Filter::All(vec![])), "1.0 1.1 1.2 1.3 5.0 5.1");
        assert_eq!(found(Filter::Any(vec![])), "");
    });
}

#[test]
fn senseless_requests_are_refused_with_a_reason() {
    block_on(async {
        let s = store(&objects(0, Faults::default()));
        commit(&s, vec![upsert("doc_1", 1, &[(unit(&[1.0, 0.0, 0.0]), "x".into())])]).await;
        let view = s.view().await.unwrap();
        let with = |change: fn(&mut SearchRequest)| {
            let mut request = SearchRequest::new("x", Some(vec![1.0, 0.0, 0.0]), 5);
            change(&mut request);
            view.search(&request)
        };
        type Change = fn(&mut SearchRequest);
        let table: [(Change, &str); 8] = [
            (|r| r.k = 0, "0 results"),
            (|r| r.k = 1_001, "1 to 1000"),
            (|r| r.vector = None, "needs the query's vector"),
            (|r| r.vector = Some(vec![1.0; 4]), "4 dimensions"),
            (|r| r.vector = Some(vec![0.0; 3]), "length 0"),
            (|r| r.vector = Some(vec![f32::NAN; 3]), "length NaN"),
            (|r| r.mode = Mode::Hybrid { weight: 1.5 }, "weight"),
            (|r| r.text = "x".repeat(10_001), "10000 characters"),
        ];
        for (change, word) in table {
            let e = with(change).unwrap_err().to_string();
            assert!(e.contains(word), "{e}");
        }
        assert_eq!(with(|r| r.text.clear()).unwrap().len(), 1, "hybrid without words ranks by vector");
        let scaled = with(|r| r.vector = Some(vec![5.0, 0.0, 0.0])).unwrap();
        assert_eq!(scaled[0].vector_score, Some(1.0), "a query vector of any length is scaled to length 1");
        assert!(view.search(&SearchRequest::new("", None, 5)).unwrap().is_empty());
    });
}

/// Checks that searches by codes find the nearest rows of embeddings in a narrow cone, with and without a filter.
#[test]
fn vectors_in_a_narrow_cone_are_found() {
    let (dimension, rows) = (128, 3_000u32);
    let mut rng = fastrand::Rng::with_seed(17);
    let mut draw = || -> Vec<f32> {
        let beside: Vec<f32> = (0..dimension).map(|_| (0..6).map(|_| rng.f32() - 0.5).sum()).collect();
        unit(&beside.iter().enumerate().map(|(i, b)| if i == 0 { 20.0 } else { *b }).collect::<Vec<_>>())
    };
    block_on(async {
        let s = store(&objects(0, Faults::default()));
        for name in ["doc_1", "doc_5"] {
            let rows: Vec<_> = (0..rows / 2).map(|_| (draw(), String::new())).collect();
            s.writer().commit(vec![upsert(name, 1, &rows)], &model(dimension as u32)).await.unwrap();
        }
        let view = s.view().await.unwrap();
        let mut right = 0;
        for n in 0..20 {
            let filter = (n % 2 == 0).then(|| "tenant=acme".parse().unwrap());
            let request = SearchRequest { mode: Mode::Vector, filter, ..SearchRequest::new("", Some(draw()), 10) };
            let found = |exact| view.search(&SearchRequest { exact, ..request.clone() }).unwrap();
            let (coded, exact) = (found(false), found(true));
            right += coded.iter().filter(|hit| exact.contains(hit)).count();
        }
        assert!(right >= 195, "recall {}", right as f32 / 200.0);
    });
}

fn texts(store: &str, texts: &[&str]) -> Write {
    upsert(store, 1, &texts.iter().map(|text| (unit(&[1.0, 0.0, 0.0]), (*text).to_owned())).collect::<Vec<_>>())
}

/// Checks that phrases restrict full-text and hybrid searches, however many better rows lack the phrase.
#[test]
fn a_phrase_must_occur() {
    block_on(async {
        let s = store(&objects(0, Faults::default()));
        let scattered = vec!["fence lease fence lease fence"; 60];
        commit(
            &s,
            vec![texts("doc_1", &scattered), texts("doc_2", &["a longer text about a lease fence in the store"])],
        )
        .await;
        let view = s.view().await.unwrap();
        let found = |text: &str, mode, k| {
            let request = SearchRequest { mode, ..SearchRequest::new(text, Some(unit(&[1.0, 0.1, 0.0])), k) };
            view.search(&request).unwrap().iter().map(|hit| hit.document.to_string()).collect::<Vec<_>>()
        };
        for mode in [Mode::FullText, Mode::default()] {
            assert_eq!(found("\"lease fence in\"", mode, 5), [id("doc_2").to_string()], "{mode:?}");
            assert_eq!(found("\"lease store\"", mode, 5), [""; 0], "{mode:?}");
            assert_eq!(found("\"lease fence\"", mode, 100).len(), 61, "{mode:?}");
        }
        assert_eq!(found("\"lease store\"", Mode::Vector, 5).len(), 5);
    });
}

#[test]
fn results_of_one_document_are_limited() {
    block_on(async {
        let s = store(&objects(0, Faults::default()));
        let writes = (0..5).map(|n| texts(&format!("doc_{n}"), &vec!["lease"; 40 - n])).collect();
        commit(&s, writes).await;
        let view = s.view().await.unwrap();
        for mode in [Mode::FullText, Mode::Vector, Mode::default()] {
            for (per_document, k, expected) in [(Some(1), 4, 4), (Some(1), 9, 5), (Some(2), 9, 9), (Some(2), 99, 10)] {
                let request = SearchRequest {
                    mode,
                    per_document,
                    ..SearchRequest::new("lease", Some(unit(&[1.0, 0.0, 0.1])), k)
                };
                let hits = view.search(&request).unwrap();
                let most = hits.iter().map(|h| hits.iter().filter(|o| o.document == h.document).count()).max();
                assert_eq!((hits.len(), most), (expected, per_document), "{mode:?}");
                assert!(hits.windows(2).all(|w| w[0].score >= w[1].score));
            }
        }
    });
}

/// Checks that the parts of an explanation add up to the score.
#[test]
fn an_explanation_adds_up() {
    block_on(async {
        let s = store(&objects(0, Faults::default()));
        let rows = ["a lease", "the lease of a fence", "nothing here", "fence"];
        commit(&s, vec![texts("doc_1", &rows), texts("doc_2", &rows[1..2]), texts("doc_3", &rows[2..])]).await;
        let view = s.view().await.unwrap();
        for mode in [Mode::FullText, Mode::Hybrid { weight: 0.3 }] {
            let request = SearchRequest {
                mode,
                explain: true,
                ..SearchRequest::new("fence and lease", Some(unit(&[1.0, 0.4, 0.0])), 9)
            };
            let hits = view.search(&request).unwrap();
            assert!(hits.len() >= 5, "{mode:?}");
            for hit in hits {
                let parts = hit.explanation.unwrap();
                let words: f32 = parts.terms.iter().map(|term| term.score).sum();
                assert!((words - parts.words).abs() < 1e-5, "{parts:?}");
                let own = parts.hybrid.map_or(words, |h| h.weight * h.vector + (1.0 - h.weight) * h.words);
                let beside: f32 = parts.neighbours.iter().map(|score| score.unwrap_or(own / 2.0)).sum();
                let in_context = (own + parts.context * beside) / (1.0 + 2.0 * parts.context);
                let score = if parts.hybrid.is_some() { in_context } else { in_context + parts.document };
                assert!((score - hit.score).abs() < 1e-5, "{} {score} {parts:?}", hit.score);
            }
        }
        assert!(view.search(&SearchRequest::new("lease", None, 1)).unwrap()[0].explanation.is_none());
    });
}
