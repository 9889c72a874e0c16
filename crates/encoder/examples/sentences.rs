//! Compares sentences by meaning, on the CPU: `cargo run -p docweir-encoder --example sentences [MODEL_FOLDER]`.
//!
//! The folder contains `model.safetensors`, `tokenizer.json` and `config.json` of all-MiniLM-L6-v2 or a similar
//! model. Without a folder, the example uses the model that `docweir ingest` has fetched into the user's cache.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::path::PathBuf;

use docweir_encoder::Encoder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from).or_else(cached) else {
        println!("no model in the cache; pass a folder with model.safetensors, tokenizer.json and config.json");
        return Ok(());
    };
    let encoder = Encoder::load(&folder)?;
    println!(
        "{} dimensions, {} tokens at most, kernel {}",
        encoder.dimension(),
        encoder.max_tokens(),
        encoder.kernel()
    );
    let texts =
        ["how is a stale lease fenced?", "writes with an old epoch are refused", "cats sleep for most of the day"];
    let vectors = encoder.encode(&texts)?;
    let [question, rest @ ..] = vectors.as_slice() else { return Err("no vectors".into()) };
    for (text, vector) in texts.iter().skip(1).zip(rest) {
        let cosine: f32 = question.iter().zip(vector).map(|(a, b)| a * b).sum();
        println!("{cosine:.3}  {text}");
    }
    Ok(())
}

/// Returns the folder of a model in `docweir`'s cache, or `None` if the cache contains no model.
fn cached() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let folders = std::fs::read_dir(cache.join("docweir").join("models")).ok()?;
    folders.filter_map(|entry| Some(entry.ok()?.path())).find(|folder| folder.join("model.safetensors").exists())
}
