//! Measures Docweir's side of the comparison with other vector stores.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use docweir_core::cancel::Cancel;
use docweir_index::compaction::{CompactionOptions, Compactor, Installed, Mode as Compaction};
use docweir_index::{Filter, Mode, SearchRequest, View};
use serde_json::json;

use crate::{block_on, cpu_seconds, documents, model, open, status};

const DIMENSION: usize = 384;
const K: usize = 10;
/// Number of rows per commit. The other vector stores write batches of the same size.
const BATCH: usize = 5_000;

pub fn run(data: &Path, size: &str) {
    let work = tempfile::tempdir_in(data).unwrap();
    for phase in ["ingest", "open", "query", "compact", "open", "query"] {
        eprintln!("docweir, {size}, {phase}");
        let program = std::env::current_exe().unwrap();
        let status =
            Command::new(program).args(["phase", phase]).arg(data).arg(size).arg(work.path()).status().unwrap();
        assert!(status.success());
    }
}

pub fn phase(phase: &str, data: &Path, size: &str, work: &Path) {
    let compacted = work.join("compacted").exists();
    let build = if compacted { "compacted" } else { "deltas" };
    let tell = Teller { size, build };
    match phase {
        "ingest" => ingest(&tell, data, size, &work.join("store")),
        "compact" => {
            compact(&tell, &work.join("store"));
            File::create(work.join("compacted")).unwrap();
        }
        "open" => open_cold(&tell, data, &work.join("store")),
        "query" => queries(&tell, data, size, &work.join("store")),
        _ => panic!("no phase {phase}"),
    }
}

struct Teller<'a> {
    size: &'a str,
    build: &'a str,
}

impl Teller<'_> {
    fn line(&self, what: &str, detail: &str, threads: usize, (value, unit): (f64, &str), recall: Option<f64>) {
        let setting = if detail.is_empty() { self.build.to_owned() } else { format!("{}, {detail}", self.build) };
        let version = env!("CARGO_PKG_VERSION");
        println!(
            "{}",
            json!({"engine": "docweir", "version": version, "size": self.size, "what": what, "setting": setting,
                "threads": threads, "value": value, "unit": unit, "recall": recall})
        );
    }
}

fn rows(size: &str) -> usize {
    match size {
        "10k" => 10_000,
        "100k" => 100_000,
        "1m" => 1_000_000,
        _ => panic!("unknown size {size}; choose 10k, 100k or 1m"),
    }
}

fn numbers(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn ingest(tell: &Teller<'_>, data: &Path, size: &str, store: &Path) {
    let texts: Vec<String> =
        BufReader::new(File::open(data.join("texts100k.txt")).unwrap()).lines().map(Result::unwrap).collect();
    let query = floats(&numbers(&data.join("queries.f32"))[..4 * DIMENSION]);
    let mut base = File::open(data.join(format!("base{size}.f32"))).unwrap();
    let (wall, used) = (Instant::now(), cpu_seconds());
    block_on(async {
        let vectors = open(store);
        let mut writer = vectors.writer();
        let mut buffer = vec![0; 4 * DIMENSION * BATCH];
        for first in (0..rows(size)).step_by(BATCH) {
            base.read_exact(&mut buffer).unwrap();
            let writes = documents(first, &floats(&buffer), DIMENSION, |row| texts[row % texts.len()].clone());
            writer.commit(writes, &model(DIMENSION as u32)).await.unwrap();
        }
        let found = vectors.view().await.unwrap().search(&request(&query)).unwrap();
        assert_eq!(found.len(), K);
    });
    let n = rows(size) as f64;
    tell.line("ingest_wall", "", 1, (n / wall.elapsed().as_secs_f64(), "vectors/s"), None);
    tell.line("ingest_cpu", "", 1, (n / (cpu_seconds() - used), "vectors/CPU s"), None);
    tell.line("peak_rss_bytes", "", 1, (status("VmHWM:") as f64, "bytes"), None);
}

fn compact(tell: &Teller<'_>, store: &Path) {
    let (wall, used) = (Instant::now(), cpu_seconds());
    let report = block_on(async {
        let mut compactor = Compactor::new(open(store), CompactionOptions::default());
        let (manifest, inputs, why) = compactor.due(Compaction::All).await.unwrap().unwrap();
        let staged = compactor.merge(&manifest, &inputs, why, &Cancel::default()).await.unwrap();
        assert!(matches!(compactor.install(&staged, 1).await.unwrap(), Installed::Yes(_)));
        staged.report
    });
    let n = report.output_rows as f64;
    tell.line("compact_wall", "", 2, (n / wall.elapsed().as_secs_f64(), "vectors/s"), None);
    tell.line("compact_cpu", "", 2, (n / (cpu_seconds() - used), "vectors/CPU s"), None);
    tell.line("compact_peak_anonymous_bytes", "", 2, (report.peak_memory_bytes as f64, "bytes"), None);
}

fn request(query: &[f32]) -> SearchRequest {
    SearchRequest { mode: Mode::Vector, ..SearchRequest::new("", Some(query.to_vec()), K) }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn open_cold(tell: &Teller<'_>, data: &Path, store: &Path) {
    let query = floats(&numbers(&data.join("queries.f32"))[..4 * DIMENSION]);
    for path in files(store) {
        let file = File::open(path).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let started = Instant::now();
    block_on(async {
        let view = open(store).view().await.unwrap();
        tell.line("view_cold_ms", "reopened", 1, (started.elapsed().as_secs_f64() * 1e3, "ms"), None);
        view.search(&request(&query)).unwrap();
    });
    tell.line("open_cold_ms", "reopened", 1, (started.elapsed().as_secs_f64() * 1e3, "ms"), None);
    // Only live files are counted, because merged files remain for a while.
    let manifest = block_on(open(store).manifest()).unwrap().unwrap();
    let live: u64 = manifest.live.iter().map(|f| f.bytes).sum();
    tell.line("disk_bytes", "reopened", 1, (live as f64, "bytes"), None);
}

/// Returns, for each query, the ten best of the rows that match a filter. The search is exact.
fn exact(view: &View, queries: &[Vec<f32>], filter: Option<&Filter>) -> Vec<Vec<String>> {
    let one = |query: &Vec<f32>| {
        let request = SearchRequest { exact: true, filter: filter.cloned(), ..request(query) };
        view.search(&request).unwrap().into_iter().map(|h| h.chunk_id).collect()
    };
    queries.iter().map(one).collect()
}

fn queries(tell: &Teller<'_>, data: &Path, size: &str, store: &Path) {
    let expected: Vec<Vec<String>> = numbers(&data.join(format!("exact{size}.u32")))
        .as_chunks::<4>()
        .0
        .chunks(K)
        .map(|ids| ids.iter().map(|id| u32::from_le_bytes(*id).to_string()).collect())
        .collect();
    let all = floats(&numbers(&data.join("queries.f32")));
    let queries: Vec<Vec<f32>> = all.chunks_exact(DIMENSION).take(expected.len()).map(<[f32]>::to_vec).collect();
    let view = block_on(async { open(store).view().await.unwrap() });
    let ask = |what: &str, detail: &str, expected: &[Vec<String>], change: &dyn Fn(&mut SearchRequest)| {
        let requests: Vec<SearchRequest> = queries
            .iter()
            .map(|query| {
                let mut request = request(query);
                change(&mut request);
                request
            })
            .collect();
        requests.iter().take(10).for_each(|r| drop(view.search(r).unwrap()));
        let (wall, used) = (Instant::now(), cpu_seconds());
        let (mut asked, mut right) = (0, 0);
        while asked < expected.len() || cpu_seconds() - used < 2.0 {
            let n = asked % expected.len();
            let hits = view.search(&requests[n]).unwrap();
            if asked < expected.len() {
                right += hits.iter().filter(|h| expected[n].contains(&h.chunk_id)).count();
            }
            asked += 1;
            if asked >= 20 && cpu_seconds() - used > 20.0 {
                break;
            }
        }
        let threads = requests[0].threads;
        let judged = asked.min(expected.len());
        let recall = Some(right as f64 / expected[..judged].iter().map(Vec::len).sum::<usize>() as f64);
        tell.line(what, detail, threads, (asked as f64 / (cpu_seconds() - used), "queries/CPU s"), recall);
        let each = wall.elapsed().as_secs_f64() * 1e3 / asked as f64;
        tell.line(&what.replace("cpu", "wall").replace("filter", "wall_filter"), detail, threads, (each, "ms"), recall);
    };
    ask("query_cpu", "", &expected, &|_| {});
    ask("query_cpu", "two threads", &expected, &|r| r.threads = 2);
    ask("query_cpu", "exact", &expected, &|r| r.exact = true);
    for percent in [1, 10, 50] {
        let filter: Filter = format!("bucket<{percent}").parse().unwrap();
        // At a million rows, 200 queries are enough: an exact answer takes 0.2 s.
        let some = &queries[..queries.len().min(200)];
        let under = exact(&view, some, Some(&filter));
        ask(&format!("query_filter_{percent}"), "", &under, &|r| r.filter = Some(filter.clone()));
    }
    tell.line("peak_rss_bytes", "reopened", 1, (status("VmHWM:") as f64, "bytes"), None);
    tell.line("anonymous_bytes", "reopened", 1, (status("RssAnon:") as f64, "bytes"), None);
}
