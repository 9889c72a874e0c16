//! Converts a PDF to Markdown in a child process with limits. The child process runs this same program. Run it with
//! `cargo run -p docweir-extract --example first_page [FILE]`.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use docweir_core::cancel::Cancel;
use docweir_extract::{ChildProgram, ExtractOptions, Extractor, InputHint, detect, extract_in_process, worker_main};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // With this argument, the program is the child process. It must set its limits before it does anything else.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "__extract-worker") {
        return Ok(worker_main());
    }
    let documents = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/documents");
    let file = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(documents).join("annual-report-2025.pdf"), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(in_a_child(&file))?;

    // Without a child process, extract only input that you trust.
    let notes = std::fs::read(PathBuf::from(documents).join("operations-notes.md"))?;
    let media_type = detect(&notes, Some("operations-notes.md"))?;
    let document = extract_in_process(notes, media_type, &ExtractOptions::default())?;
    println!(
        "in this process: {} with {} blocks",
        media_type.as_str(),
        document.pages.iter().map(|p| p.blocks.len()).sum::<usize>()
    );
    Ok(ExitCode::SUCCESS)
}

async fn in_a_child(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut extractor = Extractor::new(ExtractOptions::default(), ChildProgram::this_program()?);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let hint = InputHint { name, ..InputHint::default() };
    let document = extractor.extract(File::open(path)?, hint, &Cancel::default()).await?;
    let first = document.pages.first().ok_or("a document has a page")?;
    println!(
        "{} pages, {} words and {} blocks on the first",
        document.pages.len(),
        first.words.len(),
        first.blocks.len()
    );
    println!("children started: {}", extractor.stats().children_started);
    println!("---\n{}\n---", first.text);
    Ok(())
}
