//! Converts documents to Markdown files, for measurements: `cargo run --release -p docweir-extract --example markdown --
//! OUT FILE…` writes `OUT/NAME.md` for each `FILE`. The documents are read in this process, so they must be trusted.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints its results")]

use std::path::Path;
use std::process::ExitCode;

use docweir_extract::formats::markdown;
use docweir_extract::{ExtractOptions, detect, extract_in_process};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let out = arguments.next().ok_or("name a folder to write to, then the files to read")?;
    std::fs::create_dir_all(&out)?;
    let (mut pages, mut failed) = (0, 0);
    for file in arguments {
        let path = Path::new(&file);
        let name = path.file_stem().ok_or("not a file")?.to_string_lossy();
        let bytes = std::fs::read(path)?;
        let read = detect(&bytes, path.to_str()).and_then(|t| extract_in_process(bytes, t, &ExtractOptions::default()));
        match read {
            Ok(document) => {
                pages += document.pages.len();
                std::fs::write(Path::new(&out).join(format!("{name}.md")), markdown(&document))?;
            }
            Err(error) => {
                failed += 1;
                eprintln!("{name}: {error}");
            }
        }
    }
    println!("{pages} pages written, {failed} files refused");
    Ok(ExitCode::SUCCESS)
}
