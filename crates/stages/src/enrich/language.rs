//! Detects the language of a text.

use docweir_core::model::{Chunks, Language};

/// Minimum number of letters of a text; the language of a shorter text is not detected.
const MIN_LETTERS: usize = 60;
/// Number of bytes sampled from one chunk.
const CHUNK_SAMPLE: usize = 1200;
/// Number of bytes sampled from one document, in pieces from evenly spread chunks.
const DOCUMENT_SAMPLE: usize = 12_000;

/// Returns the language and the confidence, or `None` if the text is too short or mixes languages.
pub fn of_text(text: &str, min_confidence: f32) -> Option<Language> {
    let sample = head(text, CHUNK_SAMPLE);
    tell(sample, min_confidence)
}

/// Returns the language of the whole document, detected from the beginnings of evenly spread chunks.
pub fn of_document(chunks: &Chunks, min_confidence: f32) -> Option<Language> {
    const PIECES: usize = 16;
    let step = chunks.chunks.len().div_ceil(PIECES).max(1);
    let mut sample = String::new();
    for chunk in chunks.chunks.iter().step_by(step) {
        sample.push_str(head(&chunk.content, DOCUMENT_SAMPLE / PIECES));
        sample.push('\n');
    }
    tell(&sample, min_confidence)
}

fn tell(sample: &str, min_confidence: f32) -> Option<Language> {
    // One ideograph carries as much information as a few letters.
    let weight = |c: char| if (c as u32) >= 0x2E80 { 4 } else { 1 };
    let letters: usize = sample.chars().filter(|c| c.is_alphabetic()).map(weight).sum();
    if letters < MIN_LETTERS {
        return None;
    }
    let info = whatlang::detect(sample).filter(whatlang::Info::is_reliable)?;
    let confidence = (info.confidence() as f32).min(1.0);
    (confidence >= min_confidence).then(|| Language { code: info.lang().code().to_owned(), confidence })
}

fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_when_there_is_enough_to_go_by() {
        let cases = [
            (
                "The lease is held by one worker at a time, and every other worker waits until it has run out of time.",
                Some("eng"),
            ),
            (
                "Der Vertrag wird immer nur von einem Arbeiter gehalten, und alle anderen warten, bis seine Zeit abgelaufen ist.",
                Some("deu"),
            ),
            ("この契約は一度に一人の労働者だけが保持し、他のすべての労働者は期限が切れるまで待ちます。", Some("jpn")),
            ("too short", None),
            ("1234 5678 | 90 | 12 % 2014 600 84", None),
        ];
        for (text, code) in cases {
            assert_eq!(of_text(text, 0.7).map(|l| l.code).as_deref(), code, "{text}");
        }
    }
}
