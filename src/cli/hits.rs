//! Formats a found passage for the terminal.

use std::path::Path;

use docweir_index::search::explain::{Explanation, HybridParts};
use docweir_records::ItemKind;

use super::output::{Out, printable};
use crate::intake::source;
use crate::search::Passage;

/// Returns the heading of a search result, followed by the passage as it appears in the document.
pub fn lines(rank: usize, hit: &Passage, out: &Out, here: &Path) -> Vec<String> {
    let mut head = vec![
        out.bold(&format!("{rank}.")),
        out.green(&format!("{:.3}", hit.score)),
        out.bold(&source::display(&hit.uri, here)),
    ];
    head.extend(pages(hit).map(|p| out.dim(&p)));
    if ItemKind::is_name(&hit.kind) {
        head.push(out.dim(&printable(&hit.chunk)));
    }
    if !hit.heading_path.is_empty() {
        // A heading is text of the document and may contain control characters; here it must stay on one line.
        let path = hit.heading_path.join(" > ").replace(['\n', '\t'], " ");
        head.push(out.dim(&printable(&path)));
    }
    let explained = hit.explanation.iter().flat_map(|parts| explained(hit, parts));
    let mut lines = vec![head.join("  ")];
    lines.extend(explained.map(|line| out.dim(&printable(&line))));
    lines.push(marked(&hit.text, &hit.matches, out));
    lines
}

/// Returns lines that show how the score of a passage came about.
fn explained(hit: &Passage, parts: &Explanation) -> Vec<String> {
    let Explanation { words, document, context, .. } = parts;
    let [before, after] = parts.neighbours.map(|score| score.map_or("none".to_owned(), |s| format!("{s:.3}")));
    let beside = format!("neighbours {before} and {after}, {context:.2} of each");
    let score = hit.score;
    let mut lines = match (parts.hybrid, hit.vector_score) {
        (Some(HybridParts { vector, words: scaled, weight }), cosine) => {
            let (rest, cosine) = (1.0 - weight, cosine.unwrap_or_default());
            let own = weight * vector + rest * scaled;
            vec![
                format!("   own {own:.3} = {weight:.2} × vector {vector:.3} + {rest:.2} × words {scaled:.3}"),
                format!("   score {score:.3} from own and {beside}"),
                format!("   vector: cosine {cosine:.3}; words: BM25 {words:.3}"),
            ]
        }
        (None, Some(_)) => vec![format!("   score {score:.3} is the cosine")],
        (None, None) => {
            vec![format!("   score {score:.3} from words {words:.3} and {beside}, plus document {document:.3}")]
        }
    };
    if !parts.terms.is_empty() {
        let terms: Vec<String> = parts.terms.iter().map(|t| format!("{} {:.3}", t.term, t.score)).collect();
        lines.push(format!("   words: {}", terms.join(" + ")));
    }
    lines
}

/// Returns the page numbers of a passage (`p. 3`, `pp. 3-4`), or `None` if the document has no pages.
fn pages(hit: &Passage) -> Option<String> {
    let (first, last) = (hit.page_first, hit.page_last);
    match hit.boxes.is_empty() && first == 1 && last == 1 {
        true => None,
        false if first == last => Some(format!("p. {first}")),
        false => Some(format!("pp. {first}-{last}")),
    }
}

/// Returns the verbatim text with the matched words highlighted. `matches` holds ranges of code points in ascending
/// order.
fn marked(text: &str, matches: &[(u32, u32)], out: &Out) -> String {
    if !out.colour {
        return printable(text);
    }
    let mut line = String::with_capacity(text.len() + 16 * matches.len());
    let mut rest = text;
    let mut at = 0;
    for &(start, end) in matches {
        let (start, end) = (start as usize, end as usize);
        if start < at || end <= start {
            continue;
        }
        let (before, from) = rest.split_at(byte(rest, start - at));
        let (word, after) = from.split_at(byte(from, end - start));
        line.push_str(&printable(before));
        line.push_str(&out.mark(&printable(word)));
        (rest, at) = (after, end);
    }
    line.push_str(&printable(rest));
    line
}

/// Returns the byte offset of character `n` of the text, counted from 0. If the text has no character `n`, returns
/// the length of the text in bytes.
fn byte(text: &str, n: usize) -> usize {
    text.char_indices().nth(n).map_or(text.len(), |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::DocumentId;
    use docweir_core::model::Span;
    use docweir_index::search::explain::TermScore;

    use super::*;

    fn hit(text: &str, matches: &[(u32, u32)]) -> Passage {
        Passage {
            score: 0.8734,
            vector_score: Some(0.5),
            bm25_score: None,
            document: DocumentId::mint(0, 1),
            version: 2,
            source: "/home/me/a b.pdf".into(),
            uri: "file:///home/me/a%20b.pdf".into(),
            parent: None,
            chunk: "c1".into(),
            kind: "text".into(),
            page_first: 3,
            page_last: 4,
            span: Span { start: 0, end: 5, start_byte: 0, end_byte: 6 },
            boxes: Vec::new(),
            heading_path: vec!["2 Fencing".into(), "2.1 \x1b[2J".into()],
            language: Some("eng".into()),
            text: text.into(),
            matches: matches.to_vec(),
            metadata: serde_json::Map::new(),
            explanation: None,
        }
    }

    #[test]
    fn a_head_line_and_the_text_as_it_stands() {
        let plain = Out { colour: false };
        let shown = lines(1, &hit("a lease\n\n  is  held", &[(2, 7)]), &plain, Path::new("/home/me"));
        assert_eq!(shown[0], "1.  0.873  a b.pdf  pp. 3-4  2 Fencing > 2.1 \u{fffd}[2J");
        assert_eq!(shown[1], "a lease\n\n  is  held");
    }

    #[test]
    fn matched_words_are_marked_by_code_points_and_nothing_escapes() {
        let out = Out { colour: true };
        let shown = marked("für \x1b größe, für", &[(0, 3), (6, 11), (13, 16)], &out);
        let m = |w: &str| format!("\x1b[1;33m{w}\x1b[0m");
        assert_eq!(shown, format!("{} \u{fffd} {}, {}", m("für"), m("größe"), m("für")));
        let wrong = marked("abc", &[(2, 9), (1, 2), (4, 3), (7, 8)], &out);
        assert_eq!(wrong, format!("ab{}", m("c")), "ranges that can't be are survived");
    }

    #[test]
    fn an_explanation_names_every_part_of_the_score() {
        let terms = [("lease", 4.0), ("fence", 2.5)].map(|(term, score)| TermScore { term: term.into(), score });
        let parts = Explanation {
            terms: terms.to_vec(),
            words: 6.5,
            document: 1.25,
            neighbours: [Some(0.5), None],
            context: 0.2,
            hybrid: None,
        };
        let words = "   words: lease 4.000 + fence 2.500";
        let beside = "neighbours 0.500 and none, 0.20 of each";
        let mut passage = hit("a lease", &[]);
        passage.vector_score = None;
        let full_text = format!("   score 0.873 from words 6.500 and {beside}, plus document 1.250");
        assert_eq!(explained(&passage, &parts), [&full_text, words]);
        passage.vector_score = Some(0.5);
        let vector = Explanation { terms: Vec::new(), ..parts.clone() };
        assert_eq!(explained(&passage, &vector), ["   score 0.873 is the cosine"]);
        let hybrid = HybridParts { vector: 0.5, words: 1.0, weight: 0.4 };
        let hybrid = Explanation { hybrid: Some(hybrid), ..parts };
        let expected = [
            "   own 0.800 = 0.40 × vector 0.500 + 0.60 × words 1.000",
            &format!("   score 0.873 from own and {beside}"),
            "   vector: cosine 0.500; words: BM25 6.500",
            words,
        ];
        assert_eq!(explained(&passage, &hybrid), expected);
    }

    #[test]
    fn a_text_file_has_no_page() {
        let mut one = hit("x", &[]);
        (one.page_first, one.page_last) = (1, 1);
        assert_eq!(pages(&one), None);
        (one.page_first, one.page_last) = (2, 2);
        assert_eq!(pages(&one).as_deref(), Some("p. 2"));
    }
}
