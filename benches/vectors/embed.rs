//! Creates the vectors for the benchmark by embedding real sentences with the production model.
//!
//! ```text
//! embed DIR MODEL TEXT…
//! ```
//! DIR receives the output files. MODEL is a folder with model.safetensors and tokenizer.json. Each TEXT is a text or
//! Markdown file.
//!
//! Each row is the vector of one sentence or of two or three consecutive sentences. No text occurs twice, and the texts
//! are shuffled with a fixed seed. In addition, 1,000 sentences serve as queries; no row's text contains them.
//!
//! The data set of a million rows consists of 100,000 original vectors and nine noisy copies of each. A copy is made
//! by adding a random vector of length about 0.3 to the original vector and normalising the sum to length one.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use docweir_encoder::Encoder;
use unicode_segmentation::UnicodeSegmentation;

const DIMENSION: usize = 384;
const ROWS: usize = 100_000;
const QUERIES: usize = 1_000;
/// Number of queries in the data set of a million rows. The exact answer to each of these queries is computed.
const QUERIES_OF_A_MILLION: usize = 200;
const K: usize = 10;

pub fn run(data: &Path, model: &Path, texts: &[&str]) {
    let encoder = Encoder::load(model).unwrap();
    let (queries, rows) = pieces(texts, &encoder);
    assert!(rows.len() == ROWS, "only {} distinct pieces of text; pass more files", rows.len());
    std::fs::create_dir_all(data).unwrap();
    std::fs::write(data.join("texts100k.txt"), rows.join("\n") + "\n").unwrap();
    let queries = embed(&encoder, &queries);
    let base = embed(&encoder, &rows);
    write(&data.join("queries.f32"), &queries);
    for (name, n) in [("10k", 10_000), ("100k", ROWS)] {
        write(&data.join(format!("base{name}.f32")), &base[..n * DIMENSION]);
        exact(&data.join(format!("exact{name}.u32")), &queries, &base[..n * DIMENSION]);
    }
    let million = perturbed(base);
    write(&data.join("base1m.f32"), &million);
    exact(&data.join("exact1m.u32"), &queries[..QUERIES_OF_A_MILLION * DIMENSION], &million);
}

/// Returns two lists: the texts of the queries, and the texts of the rows. No row contains a sentence that is also a
/// query.
fn pieces(files: &[&str], encoder: &Encoder) -> (Vec<String>, Vec<String>) {
    let mut sentences: Vec<Vec<String>> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
        // A line is a paragraph or part of one, so windows do not cross its end.
        for line in text.lines() {
            let whole = line.unicode_sentences().map(|s| s.split_whitespace().collect::<Vec<_>>().join(" "));
            sentences.push(whole.filter(|s| s.split(' ').count() >= 4).collect());
        }
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut single: Vec<String> = sentences.iter().flatten().cloned().collect::<HashSet<_>>().into_iter().collect();
    single.sort_unstable();
    random.shuffle(&mut single);
    let queries: Vec<String> = single.split_off(single.len().saturating_sub(QUERIES));
    let kept_back: HashSet<&String> = queries.iter().collect();
    let windows = sentences.iter().flat_map(|line| (1..=3).flat_map(|n| line.windows(n)));
    let rows = windows.filter(|w| !w.iter().any(|s| kept_back.contains(s))).map(|w| w.join(" "));
    let fits = |text: &String| encoder.count_tokens(text) <= 60;
    let mut rows: Vec<String> = rows.filter(fits).collect::<HashSet<_>>().into_iter().collect();
    rows.sort_unstable();
    random.shuffle(&mut rows);
    rows.truncate(ROWS);
    (queries, rows)
}

fn embed(encoder: &Encoder, texts: &[String]) -> Vec<f32> {
    let halves: Vec<&[String]> = texts.chunks(texts.len().div_ceil(2)).collect();
    std::thread::scope(|scope| {
        let one = |half: &[String]| -> Vec<f32> {
            half.chunks(256)
                .flat_map(|texts| {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    encoder.encode(&texts).unwrap().into_iter().flatten().collect::<Vec<f32>>()
                })
                .collect()
        };
        let parts: Vec<_> = halves.into_iter().map(|half| scope.spawn(move || one(half))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// Returns ten variants of each row. The first variant is the original row.
fn perturbed(base: Vec<f32>) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(2);
    let mut million = base.clone();
    let scale = 0.3 / (DIMENSION as f32 / 3.0).sqrt();
    for _ in 1..10 {
        for row in base.chunks_exact(DIMENSION) {
            let noisy: Vec<f32> = row.iter().map(|x| x + scale * (2.0 * random.f32() - 1.0)).collect();
            let length = noisy.iter().map(|x| x * x).sum::<f32>().sqrt();
            million.extend(noisy.iter().map(|x| x / length));
        }
    }
    million
}

fn exact(path: &Path, queries: &[f32], base: &[f32]) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    for query in queries.chunks_exact(DIMENSION) {
        let score = |row: &[f32]| docweir_index::search::flat::dot(query, row);
        let mut scores: Vec<(f32, u32)> = base.chunks_exact(DIMENSION).map(score).zip(0..).collect();
        scores.select_nth_unstable_by(K, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores.truncate(K);
        scores.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores.iter().for_each(|(_, row)| out.write_all(&row.to_le_bytes()).unwrap());
    }
}

fn write(path: &Path, numbers: &[f32]) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    numbers.iter().for_each(|x| out.write_all(&x.to_le_bytes()).unwrap());
}
