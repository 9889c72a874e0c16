//! Formats the artefact of each stage for the terminal.

use docweir_core::model::{Chunk, Chunks, EmbeddedDocument, ExtractedDocument, Mention};

use super::output::{Out, count, plural, printable};

/// Number of vector components that are shown.
const COMPONENTS: usize = 8;

/// Formats an extracted document as markdown, page by page.
pub fn extracted(document: &ExtractedDocument, out: &Out) -> Vec<String> {
    let mut lines = Vec::new();
    let info = &document.info;
    for (name, value) in [("title", &info.title), ("author", &info.author), ("created", &info.created)] {
        lines.extend(value.as_ref().map(|v| format!("{} {}", out.dim(name), printable(&v.replace('\n', " ")))));
    }
    for page in &document.pages {
        let mut head = format!("--- page {}", page.number);
        if page.width > 0.0 {
            head.push_str(&format!(", {:.0} x {:.0} pt", page.width, page.height));
        }
        let words = page.words.len() as u64;
        head.push_str(&format!(", {}, {}", plural(page.blocks.len() as u64, "block"), plural(words, "placed word")));
        lines.push(out.dim(&head));
        lines.push(printable(&page.text));
    }
    lines.extend(notes(&document.notes, out));
    lines
}

/// Formats each chunk with its text and its number of characters and tokens.
pub fn chunked(chunks: &Chunks, out: &Out) -> Vec<String> {
    let mut lines = Vec::new();
    for chunk in &chunks.chunks {
        lines.push(head(chunk, out));
        lines.push(printable(&chunk.content));
        lines.push(String::new());
    }
    lines.push(sums(chunks, out));
    lines.extend(notes(&chunks.notes, out));
    lines
}

/// Formats each chunk with its findings.
pub fn enriched(chunks: &Chunks, out: &Out) -> Vec<String> {
    let mut lines = Vec::new();
    for chunk in &chunks.chunks {
        lines.push(head(chunk, out));
        let Some(findings) = &chunk.findings else { continue };
        let mut list = |name: &str, items: Vec<String>| {
            if !items.is_empty() {
                lines.push(format!("  {} {}", out.dim(&format!("{name:<13}")), printable(&items.join(", "))));
            }
        };
        list("language", findings.language.iter().map(|l| format!("{} ({:.2})", l.code, l.confidence)).collect());
        list("key phrases", findings.key_phrases.clone());
        list("entities", findings.entities.iter().map(found).collect());
        list("patterns", findings.patterns.iter().map(found).collect());
        list("personal data", findings.personal_data.iter().map(found).collect());
        list("sentiment", findings.sentiment.iter().map(|s| s.label.name().to_lowercase()).collect());
    }
    lines.push(String::new());
    lines.push(sums(chunks, out));
    let language = chunks.language.as_ref().map(|l| format!("language {} ({:.2})", l.code, l.confidence));
    lines.extend(language);
    if chunks.pii_redacted > 0 {
        lines.push(format!("{} written in place of personal data", plural(chunks.pii_redacted, "placeholder")));
    }
    lines.extend(notes(&chunks.notes, out));
    lines
}

/// Formats a finding as `MONEY "$3.2 million" at 10-22`. The text is left out if the finding is personal data,
/// because artefacts do not store such text.
fn found(found: &Mention) -> String {
    let text = if found.text.is_empty() { String::new() } else { format!(" \"{}\"", found.text.replace('\n', " ")) };
    format!("{}{text} at {}-{}", found.kind, found.start, found.end)
}

/// Formats each chunk with the length and first components of its vector.
pub fn embedded(document: &EmbeddedDocument, out: &Out) -> Vec<String> {
    let mut lines = Vec::new();
    for (chunk, vector) in document.chunks.chunks.iter().zip(&document.vectors) {
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        let first: Vec<String> = vector.iter().take(COMPONENTS).map(|x| format!("{x:+.4}")).collect();
        let more = if vector.len() > COMPONENTS { " …" } else { "" };
        lines.push(head(chunk, out));
        lines.push(format!("  length {norm:.4}, {} dimensions: {}{more}", vector.len(), first.join(" ")));
    }
    lines.push(String::new());
    lines.push(format!("{}, {}", sums(&document.chunks, out), plural(document.usage.tokens, "token")));
    lines.extend(notes(&document.notes, out));
    lines
}

/// Formats the heading of a chunk: `#3  table  pp. 2-3  1,203 characters  311 tokens  Results > Table 2`.
fn head(chunk: &Chunk, out: &Out) -> String {
    let (first, last) = chunk.pages;
    let pages = if first == last { format!("p. {first}") } else { format!("pp. {first}-{last}") };
    let kind = docweir_target::rows::kind_name(chunk.kind);
    let characters = plural(chunk.content.chars().count() as u64, "character");
    let mut head = vec![
        out.bold(&format!("#{}", chunk.ordinal)),
        kind.to_owned(),
        pages,
        characters,
        plural(chunk.tokens.into(), "token"),
    ];
    if !chunk.heading_path.is_empty() {
        head.push(out.dim(&printable(&chunk.heading_path.join(" > ").replace('\n', " "))));
    }
    head.join("  ")
}

fn sums(chunks: &Chunks, out: &Out) -> String {
    let sizes: Vec<usize> = chunks.chunks.iter().map(|c| c.content.chars().count()).collect();
    let (Some(least), Some(most)) = (sizes.iter().min(), sizes.iter().max()) else {
        return out.yellow("no chunks: the document contains no text");
    };
    let mean = sizes.iter().sum::<usize>() / sizes.len().max(1);
    let (least, mean, most) = (count(*least as u64), count(mean as u64), count(*most as u64));
    out.bold(&format!("{}, {least} to {most} characters, {mean} on average", plural(sizes.len() as u64, "chunk")))
}

fn notes(notes: &[String], out: &Out) -> Vec<String> {
    notes.iter().map(|note| format!("{} {}", out.yellow("note:"), printable(&note.replace('\n', " ")))).collect()
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::MediaType;
    use docweir_core::model::{ChunkKind, DocumentInfo, Findings, Language, Page, Span, Usage};

    use super::*;

    const PLAIN: Out = Out { colour: false };

    fn chunk() -> Chunk {
        let found =
            |kind: &str, text: &str| Mention { kind: kind.into(), text: text.into(), start: 3, end: 9, score: 0.9 };
        let findings = Findings {
            language: Some(Language { code: "eng".into(), confidence: 0.987 }),
            key_phrases: vec!["stale lease".into(), "fence".into()],
            patterns: vec![found("MONEY", "$3.2\nm")],
            personal_data: vec![found("EMAIL", "")],
            ..Findings::default()
        };
        Chunk {
            id: "c".into(),
            ordinal: 3,
            kind: ChunkKind::Table,
            content: "größe \x1b".into(),
            heading_path: vec!["A".into(), "B".into()],
            pages: (2, 3),
            span: Span { start: 0, end: 7, start_byte: 0, end_byte: 9 },
            boxes: Vec::new(),
            tokens: 1311,
            findings: Some(findings),
        }
    }

    #[test]
    fn pages_are_marked_and_the_text_stands_as_it_is() {
        let page = Page {
            number: 1,
            width: 595.3,
            height: 841.9,
            text: "# A\n\nb".into(),
            blocks: vec![],
            lines: vec![],
            words: vec![],
            cells: vec![],
        };
        let document = ExtractedDocument {
            media_type: MediaType::Pdf,
            pages: vec![page],
            info: DocumentInfo { title: Some("T".into()), ..DocumentInfo::default() },
            outline: vec![],
            notes: vec!["one".into()],
        };
        let expected = ["title T", "--- page 1, 595 x 842 pt, 0 blocks, 0 placed words", "# A\n\nb", "note: one"];
        assert_eq!(extracted(&document, &PLAIN), expected);
    }

    #[test]
    fn chunks_are_told_with_sizes_findings_and_vectors() {
        let chunks = Chunks { chunks: vec![chunk()], pii_redacted: 1, ..Chunks::default() };
        let head = "#3  table  pp. 2-3  7 characters  1,311 tokens  A > B";
        let sums = "1 chunk, 7 to 7 characters, 7 on average";
        assert_eq!(chunked(&chunks, &PLAIN), [head, "größe \u{fffd}", "", sums]);
        let expected = [
            head,
            "  language      eng (0.99)",
            "  key phrases   stale lease, fence",
            "  patterns      MONEY \"$3.2 m\" at 3-9",
            "  personal data EMAIL at 3-9",
            "",
            sums,
            "1 placeholder written in place of personal data",
        ];
        assert_eq!(enriched(&chunks, &PLAIN), expected);
        let usage = Usage { tokens: 5, ..Usage::default() };
        let document =
            EmbeddedDocument { chunks: chunks.into(), notes: Vec::new(), vectors: vec![vec![0.6, -0.8]], usage };
        let expected = [head, "  length 1.0000, 2 dimensions: +0.6000 -0.8000", "", &format!("{sums}, 5 tokens")];
        assert_eq!(embedded(&document, &PLAIN), expected);
        assert_eq!(chunked(&Chunks::default(), &PLAIN), ["no chunks: the document contains no text"]);
    }
}
