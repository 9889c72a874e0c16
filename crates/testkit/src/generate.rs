//! Generates whole documents from a seed.
//!
//! Each page of a generated document contains its [`marker`] once, in running text.

use crate::pdf::{Pdf, PdfPage};
use crate::prose::{Chance, heading, marker, paragraph};

/// Returns a PDF of about 2 kB, which most tests and benchmarks read. Each of its two pages has a heading and about
/// 200 words.
pub fn two_pages(seed: u64) -> Vec<u8> {
    pages(2, seed)
}

/// Returns a PDF of `count` pages. Each page is like a page of [`two_pages`].
pub fn pages(count: usize, seed: u64) -> Vec<u8> {
    long_pages(count, 0, seed)
}

/// Returns a PDF like that of [`pages`]. Each page has `more` additional paragraphs of about 90 words.
pub fn long_pages(count: usize, more: usize, seed: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    let mut pdf = Pdf::new(&title(seed));
    for page in 1..=count {
        let written = PdfPage::new()
            .heading(&format!("{page}. {}", heading(&mut chance)))
            .paragraph(&paragraph(&mut chance, 6))
            .paragraph(&format!("{} {}", paragraph(&mut chance, 4), mention(seed, page)))
            .paragraph(&paragraph(&mut chance, 6));
        pdf = pdf.page((0..more).fold(written, |written, _| written.paragraph(&paragraph(&mut chance, 6))));
    }
    pdf.to_bytes()
}

/// Returns a PDF with one page for each text and one paragraph for each line of a text. A line that begins with `# `
/// becomes a heading. Characters outside Latin-1 become question marks.
pub fn with_text(texts: &[&str]) -> Vec<u8> {
    let mut pdf = Pdf::new("given text");
    for text in texts {
        let page = text.lines().filter(|line| !line.trim().is_empty()).fold(PdfPage::new(), |page, line| {
            match line.strip_prefix("# ") {
                Some(heading) => page.heading(heading),
                None => page.paragraph(line),
            }
        });
        pdf = pdf.page(page);
    }
    pdf.to_bytes()
}

/// Returns Markdown with headings on two levels. Its sections contain a list, a table, code or a quotation in turn.
/// The text contains the marker of page 1.
pub fn markdown(seed: u64, sections: usize) -> String {
    let mut chance = Chance::new(seed);
    let mut out = format!("# {}\n\n{} {}\n", title(seed), paragraph(&mut chance, 4), mention(seed, 1));
    for section in 1..=sections {
        out += &format!("\n## {section}. {}\n\n{}\n\n", heading(&mut chance), paragraph(&mut chance, 5));
        out += &match section % 4 {
            0 => format!("> {}\n", paragraph(&mut chance, 2)),
            1 => (0..4).map(|_| format!("- {}\n", paragraph(&mut chance, 1))).collect(),
            2 => {
                let rows =
                    (2020..2025).map(|year| format!("| {year} | {} | {} |\n", chance.below(900), chance.below(90)));
                format!("| year | documents | refused |\n| --- | ---: | ---: |\n{}", rows.collect::<String>())
            }
            _ => format!("```text\ncount = {}\n```\n", chance.below(10_000)),
        };
    }
    out
}

/// Returns paragraphs of plain text, separated by empty lines. The text contains the marker of page 1.
pub fn plain_text(seed: u64, paragraphs: usize) -> String {
    let mut chance = Chance::new(seed);
    let mut out = format!("{}\n\n{}\n", title(seed).to_uppercase(), mention(seed, 1));
    for _ in 0..paragraphs {
        out += &format!("\n{}\n", paragraph(&mut chance, 5));
    }
    out
}

fn title(seed: u64) -> String {
    format!("Harbour papers, number {seed}")
}

fn mention(seed: u64, page: usize) -> String {
    format!("This was filed under {}.", marker(seed, page))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(bytes: &[u8], page: u32) -> String {
        lopdf::Document::load_mem(bytes).unwrap().extract_text(&[page]).unwrap().replace('\n', " ")
    }

    #[test]
    fn each_page_holds_its_own_marker_once() {
        let bytes = two_pages(41);
        for (page, other) in [(1, 2), (2, 1)] {
            let text = text_of(&bytes, page);
            assert_eq!(text.matches(&marker(41, page as usize)).count(), 1, "{text}");
            assert!(!text.contains(&marker(41, other)));
            assert!(text.split_whitespace().count() > 150, "{text}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_seed_others() {
        assert_eq!(two_pages(5), two_pages(5));
        assert_ne!(two_pages(5), two_pages(6));
        assert_eq!(pages(3, 5).windows(11).filter(|w| w == b"/Type/Page/").count(), 3);
        assert!(two_pages(5).len() < 5_000, "10,000 of them must fit anywhere");
    }

    #[test]
    fn given_text_comes_back_page_by_page() {
        let bytes = with_text(&["# First\none (1)", "two \\ é"]);
        assert_eq!(text_of(&bytes, 1).split_whitespace().collect::<Vec<_>>(), ["First", "one", "(1)"]);
        assert_eq!(text_of(&bytes, 2).trim(), "two \\ é");
    }

    #[test]
    fn markdown_and_text_hold_what_they_promise() {
        let text = markdown(3, 4);
        for part in ["# Harbour", "\n## 4. ", "\n- ", "| --- |", "```text", "\n> ", &marker(3, 1)] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(plain_text(3, 7).split("\n\n").count(), 9);
        assert!(plain_text(3, 7).contains(&marker(3, 1)));
    }
}
