//! Tests extraction of the shared corpus, if it is available. No file may cause a panic. On every page, blocks, lines
//! and words must be in order and disjoint, and all boxes finite.

use std::path::PathBuf;

use super::super::*;

fn shared() -> Option<PathBuf> {
    let near = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("DOCWEIR_SHARED").map_or(near, PathBuf::from).join("corpus/pdf");
    folder.is_dir().then_some(folder)
}

fn check(page: &Page) {
    let text = &page.text;
    assert!(!text.contains('\0'));
    let mut at = 0;
    for block in &page.blocks {
        let (start, end) = (block.range.start as usize, block.range.end as usize);
        assert!(at <= start && start < end, "blocks are disjoint, in order and not empty");
        assert!(text[at..start].trim().is_empty(), "blocks cover all but white space");
        assert!(text.is_char_boundary(start) && text.is_char_boundary(end));
        assert!(block.bbox.is_some_and(|b| b.iter().all(|v| v.is_finite())));
        at = end;
    }
    assert!(text[at..].trim().is_empty());
    for placed in page.words.iter().chain(&page.lines) {
        assert!(!placed.range.of(text).is_empty(), "{:?}", placed.range);
        assert!(placed.bbox.iter().all(|v| v.is_finite()));
        assert!(placed.bbox[0] <= placed.bbox[2] && placed.bbox[1] <= placed.bbox[3], "{:?}", placed.bbox);
    }
    for cell in &page.cells {
        assert_eq!(page.blocks[cell.block as usize].kind, docweir_core::model::BlockKind::Table);
        assert!(text.is_char_boundary(cell.range.start as usize) && text.is_char_boundary(cell.range.end as usize));
        assert!(cell.range.of(text).is_empty() == cell.bbox.is_none() && cell.rows > 0 && cell.columns > 0);
    }
    assert!(page.words.windows(2).all(|w| w[0].range.end <= w[1].range.start), "words are disjoint and in order");
    assert!(page.lines.windows(2).all(|w| w[0].range.end <= w[1].range.start), "lines are disjoint and in order");
}

/// Returns the notes about characters that the layout lost.
fn defects(document: &ExtractedDocument) -> Vec<&String> {
    document.notes.iter().filter(|note| note.contains("a defect")).collect()
}

#[test]
fn every_page_keeps_the_promises_of_the_model() {
    let Some(folder) = shared() else {
        eprintln!("skipped: the shared corpus is not here");
        return;
    };
    let options = ExtractOptions { accept_textless: true, ..Default::default() };
    let mut pages = 0;
    for entry in std::fs::read_dir(folder.join("groundtruth")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "pdf") {
            continue;
        }
        let document = extract_in_process(std::fs::read(&path).unwrap(), MediaType::Pdf, &options)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(document.pages.iter().zip(1..).all(|(p, n)| p.number == n));
        document.pages.iter().for_each(check);
        assert_eq!(defects(&document), Vec::<&String>::new(), "{}", path.display());
        pages += document.pages.len();
    }
    assert!(pages > 200, "{pages}");
}

#[test]
fn odd_and_damaged_files_keep_them_too_or_are_refused() {
    let Some(folder) = shared() else {
        eprintln!("skipped: the shared corpus is not here");
        return;
    };
    // Skip lopdf: only a child process contains its memory use.
    let options = ExtractOptions { document_info: false, ..Default::default() };
    let (mut read, mut refused) = (0, 0);
    for entry in std::fs::read_dir(folder.join("robust")).unwrap() {
        let path = entry.unwrap().path();
        match extract_in_process(std::fs::read(&path).unwrap(), MediaType::Pdf, &options) {
            Ok(document) => {
                document.pages.iter().for_each(check);
                assert_eq!(defects(&document), Vec::<&String>::new(), "{}", path.display());
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.class, docweir_core::error::ErrorClass::Permanent, "{}: {error}", path.display());
                refused += 1;
            }
        }
    }
    assert!(read > 500 && read > 3 * refused, "{read} read, {refused} refused");
}
