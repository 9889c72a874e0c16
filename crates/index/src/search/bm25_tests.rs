//! Compares the scores with the formula.

use proptest::prelude::*;

use super::*;
use crate::columns::DocumentEntry;
use crate::options::Stemming;
use crate::search::query::Query;
use crate::search::stems;
use crate::testing::id;

const WORDS: [&str; 8] = ["lease", "fence", "store", "epoch", "delta", "row", "page", "query"];

/// Holds a document: whether it is visible, and its passages.
type Given = (bool, Vec<String>);

/// Holds the postings, documents and visible rows of a file.
struct Held(Postings, Documents, Bits);

fn held(given: &[Given], language: &str) -> Held {
    let rules = stems::rules(language, Stemming::Language);
    let entry = |(at, (_, rows)): (usize, &Given)| DocumentEntry {
        id: id(&format!("doc_{at:04}")),
        version: 1,
        rows: rows.len() as u32,
        tombstone: false,
        source: String::new(),
        parent: None,
        metadata: serde_json::Map::new(),
    };
    let entries: Vec<_> = given.iter().enumerate().map(entry).collect();
    let documents = Documents::of_entries(&entries);
    let texts = || given.iter().flat_map(|(_, rows)| rows);
    let mut bits = Bits::none(texts().count());
    (0..given.len()).filter(|&at| given[at].0).for_each(|at| bits.set_range(documents.rows(at)));
    Held(Postings::build(texts().map(|text| (text, rules))), documents, bits)
}

fn sources(files: &[Held]) -> Vec<Source<'_>> {
    files.iter().map(|Held(postings, documents, visible)| Source { postings, documents, visible }).collect()
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').filter(|w| !w.is_empty()).collect()
}

/// Computes the scores of each passage and of each document by the formula, word by word.
fn direct(given: &[Given], query: &str) -> Vec<(f64, Vec<f64>)> {
    let shown: Vec<&Vec<String>> =
        given.iter().filter(|(shown, rows)| *shown && !rows.is_empty()).map(|d| &d.1).collect();
    let total: f64 = shown.iter().flat_map(|rows| rows.iter()).map(|text| words(text).len() as f64).sum();
    let mean = |count: usize| (total / count.max(1) as f64).max(1.0);
    let (row_mean, document_mean) = (mean(shown.iter().map(|rows| rows.len()).sum()), mean(shown.len()));
    let all: f64 = shown.iter().map(|rows| (rows.len() as f64).sqrt()).sum();
    let score = |text: &str, mean: f64| {
        let text = words(text);
        let of = |word: &&str| {
            let having = |rows: &&Vec<String>| rows.iter().filter(|row| words(row).contains(word)).count() as f64;
            let frequency: f64 = shown.iter().map(having).map(f64::sqrt).sum();
            let count = text.iter().filter(|w| *w == word).count() as f64;
            let idf = (1.0 + (all - frequency + 0.5).max(0.5) / (frequency + 0.5)).ln();
            idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * text.len() as f64 / mean))
        };
        words(query).iter().map(of).sum::<f64>()
    };
    let of_document = |(shown, rows): &Given| match shown {
        true => (score(&rows.join(" "), document_mean), rows.iter().map(|row| score(row, row_mean)).collect()),
        false => (0.0, vec![0.0; rows.len()]),
    };
    given.iter().map(of_document).collect()
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..12).prop_map(|w| w.join(" "))
}

fn close(ours: f32, theirs: f64) -> bool {
    (f64::from(ours) - theirs).abs() < 1e-3
}

proptest! {
    /// Splits the same documents into files in several ways. Checks that the scores always equal the formula.
    #[test]
    fn scores_are_the_formula_s(
        given in proptest::collection::vec((any::<bool>(), proptest::collection::vec(text(), 0..5)), 1..12),
        cut in proptest::collection::vec(0..12usize, 0..4),
        query in text(),
        context in prop_oneof![Just(0.0f32), 0.0..0.5f32],
    ) {
        let mut cuts: Vec<usize> = cut.into_iter().map(|c| c.min(given.len())).chain([0, given.len()]).collect();
        cuts.sort_unstable();
        let files: Vec<Held> = cuts.windows(2).map(|w| held(&given[w[0]..w[1]], "")).collect();
        let sources = sources(&files);
        let totals = Totals::of(&sources);
        let scores = Scores::of(&sources, &totals, &Query::parse(&query, &[]).terms);
        let expected = direct(&given, &query);
        for (file, w) in cuts.windows(2).enumerate() {
            let mut each = std::collections::BTreeMap::new();
            scores.each_in_context(&sources[file], file, context, |row, score| {
                each.insert(row, score);
            });
            let mut row = 0;
            for (at, (of_document, of_rows)) in expected[w[0]..w[1]].iter().enumerate() {
                prop_assert!(close(scores.document(file, at), *of_document));
                for (place, own) in of_rows.iter().enumerate() {
                    prop_assert!(close(scores.own(file, row), *own), "{} {own}", scores.own(file, row));
                    let beside = |at: Option<usize>| at.and_then(|at| of_rows.get(at)).copied().unwrap_or(own / 2.0);
                    let sum = beside(place.checked_sub(1)) + beside(Some(place + 1));
                    let c = f64::from(context);
                    let in_context = (own + c * sum) / (1.0 + 2.0 * c) + 0.5 * of_document;
                    match each.get(&row) {
                        Some(score) => prop_assert!(close(*score, in_context), "{score} {in_context}"),
                        None => prop_assert!(*own == 0.0),
                    }
                    row += 1;
                }
            }
        }
    }
}

#[test]
fn the_exact_form_of_a_word_comes_before_its_other_forms() {
    let one = |text: &str| (true, vec![text.to_owned()]);
    let filler = || (0..20).map(|n| one(&format!("row {n}")));
    let given: Vec<Given> =
        [one("a lease here"), one("the leases here"), one("leasing is here")].into_iter().chain(filler()).collect();
    let files = [held(&given, "eng")];
    let sources = sources(&files);
    let rules = [stems::rules("eng", Stemming::Language).unwrap()];
    let score = |query: &str| -> Vec<f32> {
        let scores = Scores::of(&sources, &Totals::of(&sources), &Query::parse(query, &rules).terms);
        (0..3).map(|row| scores.own(0, row)).collect()
    };
    for (query, best) in [("lease", 0), ("leases", 1), ("leasing", 2)] {
        let scores = score(query);
        assert!(scores.iter().all(|score| *score > 0.0), "{query} {scores:?}");
        assert!((0..3).filter(|row| *row != best).all(|row| scores[row] < scores[best]), "{query} {scores:?}");
    }
    // A quoted word is found only in its exact form.
    assert_eq!(score("\"lease\"").iter().filter(|score| **score > 0.0).count(), 1);
}

#[test]
fn rows_of_another_language_are_found_by_the_exact_form() {
    let files = [held(&[(true, vec!["leases".to_owned()])], "eng"), held(&[(true, vec!["leases".to_owned()])], "")];
    let sources = sources(&files);
    let rules = [stems::rules("eng", Stemming::Language).unwrap()];
    let scores = Scores::of(&sources, &Totals::of(&sources), &Query::parse("leases", &rules).terms);
    assert_eq!(scores.own(0, 0), scores.own(1, 0));
}
