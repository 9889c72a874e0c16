//! Shortens heading paths to a maximum number of tokens, and counts the tokens of heading paths and contents.
//!
//! The length of a path is limited to a quarter of the embedder's window (the maximum number of tokens of one text). A
//! longer path loses its middle headings first, because the outermost heading describes the document and the innermost
//! heading describes the passage. If the path is still too long, it loses the outermost heading. Finally, the
//! innermost heading is shortened at a word.

use std::collections::HashMap;

use docweir_core::model::embedded_text;

use super::TokenCounter;

/// Number of equal shares into which the window is divided. One share is for the heading path, the others are for the
/// content.
const SHARES: usize = 4;

/// Index of a heading path in [`Paths`].
pub type PathId = usize;

pub struct Paths<'a> {
    tokens: &'a dyn TokenCounter,
    /// Number of special tokens that the tokenizer adds to each text.
    special: usize,
    paths: Vec<(Vec<String>, usize)>,
    known: HashMap<Vec<String>, PathId>,
}

impl<'a> Paths<'a> {
    pub fn new(tokens: &'a dyn TokenCounter) -> Self {
        Self { tokens, special: tokens.count(""), paths: Vec::new(), known: HashMap::new() }
    }

    /// Shortens the path to the maximum number of tokens, stores the path and returns its index.
    pub fn intern(&mut self, path: Vec<String>) -> PathId {
        if let Some(&id) = self.known.get(&path) {
            return id;
        }
        let short = self.shortened(path.clone());
        let cost = self.cost(&short);
        self.paths.push((short, cost));
        let id = self.paths.len() - 1;
        self.known.insert(path, id);
        id
    }

    pub fn path(&self, id: PathId) -> &[String] {
        self.paths.get(id).map_or(&[], |(path, _)| path)
    }

    pub fn window(&self) -> usize {
        self.tokens.window()
    }

    /// Returns how many tokens of the window remain for the content of a chunk with this heading path. The number is
    /// an estimate, because path and content are counted separately. The joined text may have another number of
    /// tokens.
    pub fn room(&self, id: PathId) -> usize {
        let path = self.paths.get(id).map_or(0, |(_, cost)| *cost);
        self.window().saturating_sub(self.special + path).max(1)
    }

    /// Returns the preferred number of tokens for the content of a chunk with this heading path. Path and content
    /// together then have the model's best text length, the length at which the embedding model works best. If the
    /// path takes more than half of the best length, the content still gets half of the best length.
    pub fn best(&self, id: PathId) -> usize {
        let best = self.tokens.best();
        let path = self.paths.get(id).map_or(0, |(_, cost)| *cost);
        best.saturating_sub(self.special + path).max(best / 2).clamp(1, self.room(id))
    }

    /// Counts the tokens of a part of the content, without special tokens.
    pub fn tokens_of(&self, text: &str) -> usize {
        self.tokens.count(text).saturating_sub(self.special)
    }

    /// Returns the exact number of tokens of the text that is embedded, which joins path and content.
    pub fn exact(&self, path: &[String], content: &str) -> usize {
        self.tokens.count(&embedded_text(path, content))
    }

    fn cost(&self, path: &[String]) -> usize {
        if path.is_empty() { 0 } else { self.tokens_of(&embedded_text(path, "")) }
    }

    fn shortened(&self, mut path: Vec<String>) -> Vec<String> {
        let budget = self.window().saturating_sub(self.special) / SHARES;
        while self.cost(&path) > budget {
            match path.len() {
                0 => break,
                1 => match path.pop().and_then(|innermost| halved(&innermost)) {
                    Some(half) => path.push(half),
                    None => break,
                },
                2 => drop(path.remove(0)),
                _ => drop(path.remove(1)),
            }
        }
        path
    }
}

/// Returns the first half of a heading, cut at a word, with `…` appended. Returns `None` if the heading is too short to
/// halve.
fn halved(heading: &str) -> Option<String> {
    let kept = heading.trim_end_matches('…').trim_end();
    let chars = kept.chars().count();
    if chars < 4 { None } else { Some(clipped(kept, chars / 2)) }
}

/// Returns at most `limit` characters of a heading. A longer heading is cut, at a word if possible, and `…` is
/// appended.
pub fn clipped(heading: &str, limit: usize) -> String {
    let Some((cut, _)) = heading.char_indices().nth(limit) else {
        return heading.to_owned();
    };
    let head = &heading[..cut];
    let at_word = head.rfind(char::is_whitespace).filter(|&i| i > cut / 2).unwrap_or(cut);
    format!("{}…", head[..at_word].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::tests::Words;

    fn path(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_long_path_keeps_its_ends_then_its_innermost() {
        let counter = Words { window: 34, special: 2 };
        let mut paths = Paths::new(&counter);
        let cases = [
            (path(&["a b", "c d"]), path(&["a b", "c d"])),
            (path(&["a b", "x y z x y z", "c d"]), path(&["a b", "c d"])),
            (path(&["1 2 3 4 5 6 7 8", "c d"]), path(&["c d"])),
            (path(&["one two three four five six seven eight nine ten"]), path(&["one two three four five…"])),
        ];
        for (given, expected) in cases {
            let id = paths.intern(given);
            assert_eq!(paths.path(id), expected);
            assert!(paths.room(id) >= 24, "three quarters are left for content");
        }
    }

    #[test]
    fn clipping_cuts_at_words() {
        assert_eq!(clipped("short", 10), "short");
        assert_eq!(clipped("alpha beta gamma", 12), "alpha beta…");
        assert_eq!(clipped("ééééééé", 3), "ééé…");
    }
}
