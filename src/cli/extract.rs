//! Implements `docweir extract`, which converts a document to Markdown, JSON, the form of Docling, text or HTML.
//!
//! The command needs no index and changes nothing. The document goes to standard output, and the notes about it to standard
//! error.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::ops::RangeInclusive;
use std::path::Path;

use docweir_core::cancel::Cancel;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::files::open_regular;
use docweir_core::model::ExtractedDocument;
use docweir_extract::{ChildProgram, ExtractOptions, Extractor, InputHint, formats};

use super::args;
use super::context::Context;
use super::output::{plural, print_error};
use crate::exit::{Exit, Failure};

/// Largest page number that a range without an end includes.
const LAST: u32 = u32::MAX;

pub fn run(context: &Context, args: &args::Extract) -> Result<Exit, Failure> {
    let config = context.config()?;
    let options = config.settings.extract.options.clone();
    let (file, path) = match args.file.to_str() {
        Some("-") => (standard_input(options.limits.input_bytes)?, None),
        _ => {
            let path = Path::new(&args.file);
            let file = open_regular(path).map_err(|e| Failure::no(format!("cannot open {}: {e}", path.display())))?;
            (file, Some(path))
        }
    };
    let shown = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let name = path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let read = context.block_on(read(options, file, name, &Cancel::default()))?;
    let mut document = read.map_err(|e| failed("extract", &shown, &e))?;
    if let Some(wanted) = &args.pages {
        keep_pages(&mut document, wanted, &shown)?;
    }
    for note in &document.notes {
        print_error(format!("note: {note}"));
    }
    let out = &context.out;
    match args.format {
        args::DocumentFormat::Markdown => out.line(formats::markdown(&document)),
        args::DocumentFormat::Text => out.line(formats::text(&document)),
        args::DocumentFormat::Html => out.line(formats::html(&document)),
        args::DocumentFormat::Json => out.json(&document),
        args::DocumentFormat::Docling => {
            let stem = path.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
            out.json(&formats::docling(&document, stem.as_deref().unwrap_or("document")));
        }
    }
    Ok(Exit::Success)
}

/// Extracts a file in a child process. `name` is its name, which tells Markdown from plain text.
///
/// # Errors
/// The outer error says that the path of this program is not known; the inner error is that of the document.
pub(super) async fn read(
    options: ExtractOptions,
    file: File,
    name: Option<String>,
    cancel: &Cancel,
) -> Result<Result<ExtractedDocument, StageError>, Failure> {
    let program = ChildProgram::this_program();
    let program = program.map_err(|e| Failure::system(format!("cannot find the path of this program: {e}")))?;
    let mut extractor = Extractor::new(options, program);
    let extracted = extractor.extract(file, InputHint { media_type: None, name }, cancel).await;
    extractor.shut_down();
    Ok(extracted)
}

/// Returns the failure of a command whose document was refused or could not be read.
pub(super) fn failed(verb: &str, shown: &str, error: &StageError) -> Failure {
    let exit = if error.class == ErrorClass::System { Exit::System } else { Exit::Failed };
    Failure::new(exit, format!("cannot {verb} {shown}: {}: {error}", error.code))
}

/// Copies standard input to a temporary file, because parsers read a document in any order.
fn standard_input(limit: u64) -> Result<File, Failure> {
    let copy = || -> std::io::Result<(File, u64)> {
        let mut file = tempfile::tempfile()?;
        let bytes = std::io::copy(&mut std::io::stdin().lock().take(limit + 1), &mut file)?;
        file.flush()?;
        file.rewind()?;
        Ok((file, bytes))
    };
    let (file, bytes) = copy().map_err(|e| Failure::system(format!("cannot read standard input: {e}")))?;
    if bytes > limit {
        let text = format!(
            "standard input has more than {limit} bytes: raise `extract.options.limits.input_bytes` or split the document"
        );
        return Err(Failure::no(text));
    }
    Ok(file)
}

fn keep_pages(document: &mut ExtractedDocument, wanted: &PageRanges, shown: &str) -> Result<(), Failure> {
    let count = document.pages.len() as u64;
    document.pages.retain(|page| wanted.0.iter().any(|range| range.contains(&page.number)));
    if document.pages.is_empty() {
        let text = format!("{shown} has {}; `--pages` names none of them", plural(count, "page"));
        return Err(Failure::no(text));
    }
    Ok(())
}

/// Holds ranges of pages, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRanges(Vec<RangeInclusive<u32>>);

impl std::str::FromStr for PageRanges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a list of pages; examples: 3, 3-7, 12-, 1,4-6");
        let number = |part: &str| part.trim().parse::<u32>().ok().filter(|n| *n > 0);
        let range = |part: &str| -> Option<RangeInclusive<u32>> {
            let range = match part.split_once('-') {
                None => number(part).map(|page| page..=page),
                Some((from, "")) => number(from).map(|from| from..=LAST),
                Some((from, to)) => number(from).zip(number(to)).map(|(from, to)| from..=to),
            };
            range.filter(|range| !range.is_empty())
        };
        text.split(',').map(|part| range(part).ok_or_else(wrong)).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_pages() {
        let parse = |text: &str| text.parse::<PageRanges>().map(|ranges| ranges.0);
        assert_eq!(parse("3"), Ok(vec![3..=3]));
        assert_eq!(parse("1,4-6, 9-"), Ok(vec![1..=1, 4..=6, 9..=LAST]));
        for wrong in ["", "0", "7-3", "a", "-3", "1,,2", "1-2-3"] {
            assert!(parse(wrong).is_err_and(|e| e.contains("3-7")), "{wrong}");
        }
    }
}
