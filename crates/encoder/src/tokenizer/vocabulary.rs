//! Splits words into pieces that are in the vocabulary. At each position, the longest matching piece is taken.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

type Pieces = HashMap<Box<str>, u32, BuildHasherDefault<PieceHasher>>;

pub(super) struct Vocabulary {
    /// Pieces that start a word.
    first: Pieces,
    /// Pieces that continue a word, without their `##`.
    next: Pieces,
    /// Length of the longest piece in bytes; longer candidates are never tried.
    longest: usize,
    unknown: u32,
    /// Maximum number of characters of a word; a longer word is unknown as a whole.
    max_characters: usize,
    largest_id: u32,
}

impl Vocabulary {
    pub fn new(vocabulary: HashMap<String, u32>, unknown: u32, max_characters: usize) -> Self {
        let (mut first, mut next) = (Pieces::default(), Pieces::default());
        let (mut longest, mut largest_id) = (0, 0);
        for (piece, id) in vocabulary {
            longest = longest.max(piece.len());
            largest_id = largest_id.max(id);
            if let Some(rest) = piece.strip_prefix("##") {
                next.insert(rest.into(), id);
            }
            // `##` and pieces that start with `##` can also start a word, if the word itself begins with `##`.
            first.insert(piece.into(), id);
        }
        Self { first, next, longest, unknown, max_characters, largest_id }
    }

    pub fn largest_id(&self) -> u32 {
        self.largest_id
    }

    /// Appends the token ids of a normalised word to `ids`.
    pub fn pieces(&self, word: &str, ids: &mut Vec<u32>) {
        if word.len() > self.max_characters && word.chars().count() > self.max_characters {
            ids.push(self.unknown);
            return;
        }
        let before = ids.len();
        let (mut rest, mut pieces) = (word, &self.first);
        while !rest.is_empty() {
            let Some((length, id)) = self.longest_piece(rest, pieces) else {
                ids.truncate(before);
                ids.push(self.unknown);
                return;
            };
            ids.push(id);
            rest = &rest[length..];
            pieces = &self.next;
        }
    }

    fn longest_piece(&self, text: &str, pieces: &Pieces) -> Option<(usize, u32)> {
        let mut end = text.len().min(self.longest);
        while end > 0 {
            // An `end` that is not a character boundary gives no candidate.
            if let Some(&id) = text.get(..end).and_then(|candidate| pieces.get(candidate)) {
                return Some((end, id));
            }
            end -= 1;
        }
        None
    }
}

/// Hashes with FNV-1a, eight bytes at a time. The keys are a fixed vocabulary, so an attacker can't choose colliding
/// keys.
#[derive(Default)]
struct PieceHasher(u64);

impl Hasher for PieceHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            self.0 = (self.0.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}
