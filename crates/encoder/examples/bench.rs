//! Measures the speed of the forward pass for every kernel that this CPU supports, or only for the named kernels.
//! Usage: `bench MODEL_FOLDER [KERNEL…]`.
//!
//! Runs each measurement many times, on one thread and on all cores, and prints the highest speed. The speed is in
//! tokens per second of wall-clock time, and on Linux also in tokens per second of CPU time. The speed by CPU time
//! remains meaningful while other processes use the machine.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints its measurements")]

use std::path::PathBuf;
use std::time::Instant;

use docweir_encoder::{Encoder, EncoderFiles, Kernel, LoadOptions};

const ROUNDS: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args();
    let folder = arguments.nth(1).map(PathBuf::from).ok_or("usage: bench MODEL_FOLDER [KERNEL…]")?;
    let named = arguments.map(|a| a.parse()).collect::<Result<Vec<Kernel>, String>>()?;
    let kernels = if named.is_empty() { Kernel::ALL.to_vec() } else { named };
    let cores = std::thread::available_parallelism()?.get();
    for kernel in kernels.into_iter().filter(|k| k.is_available()) {
        let start = Instant::now();
        let options = LoadOptions { kernel: Some(kernel), max_tokens: Some(256) };
        let encoder = Encoder::load_files(&EncoderFiles::in_folder(&folder), options)?;
        println!("{kernel}: loaded in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
        let word = encoder.tokenize("lease").get(1).copied().unwrap_or_default();
        for (name, length, count) in [("texts of 256 tokens", 256, 1), ("texts of 20 tokens", 20, 19)] {
            let text: Vec<u32> = (0..length).map(|i| word + i % 7).collect();
            let texts = vec![text.as_slice(); count];
            for threads in [1, cores] {
                let (mut wall, mut cpu) = (f64::INFINITY, f64::INFINITY);
                for _ in 0..ROUNDS {
                    let start = Instant::now();
                    let spent = std::thread::scope(|scope| {
                        let run = || {
                            let before = cpu_seconds();
                            let vectors = encoder.encode_tokens(&texts)?;
                            assert_eq!(vectors.len(), count);
                            Ok::<_, docweir_encoder::EncoderError>(cpu_seconds() - before)
                        };
                        let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
                        all.into_iter()
                            .map(|t| t.join().map_err(|_| "a thread panicked"))
                            .collect::<Result<Vec<_>, _>>()
                    })?;
                    wall = wall.min(start.elapsed().as_secs_f64());
                    cpu = cpu.min(spent.into_iter().sum::<Result<f64, _>>()?);
                }
                let tokens = (threads * count) as f64 * f64::from(length);
                let (wall, cpu) = (tokens / wall, tokens / cpu);
                println!("{kernel}: {name}, {threads} threads: {wall:.0} tokens/s, {cpu:.0} per CPU second");
            }
        }
    }
    let encoder = Encoder::load(&folder)?;
    let text = "The lease is fenced by its epoch; a stale holder's commit fails, and Zürich notices. ".repeat(2000);
    let start = Instant::now();
    let tokens = encoder.count_tokens(&text);
    println!("tokenizer: {:.1} M tokens/s", tokens as f64 / start.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

/// Returns the CPU time of this thread in seconds, or 0 if the system does not report it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}
