//! Computes the vector of a text.
//!
//! By default, the vector is a hashed bag of words. The hash of each word selects a few dimensions, and the word adds
//! to the numbers in these dimensions. Texts that share words therefore have similar vectors. A little noise, derived
//! from the whole text, makes every number in the vector non-zero, as with a real model. Replies therefore have a
//! realistic size, and texts with the same words in another order have different vectors.

use std::collections::BTreeMap;
use std::path::Path;

use docweir_encoder::Encoder;

use crate::error::MockProviderError;

/// Number of dimensions that a word changes.
const TOUCHED: u64 = 8;
/// Length of the noise vector, as a fraction of the length of the vector that the words give.
const NOISE: f32 = 0.1;

/// Returns the unit vector that the mock provider computes for a text by default. If a model folder is configured,
/// vectors of the model's dimension come from the model instead. The result depends only on the text and the
/// dimension, not on the model's name or the seed.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut out = vec![0f32; dimensions];
    if dimensions == 0 {
        return out;
    }
    // The map is sorted, because the sum of floats depends on the order.
    let mut words: BTreeMap<String, u32> = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    for (word, count) in words {
        // Short words occur in most texts, so they count less.
        let weight = if word.chars().count() > 3 { 1.0 } else { 0.3 } * (1.0 + (count as f32).ln());
        let mut random = Mix(hash(word.as_bytes()));
        for _ in 0..TOUCHED {
            let bits = random.next();
            let at = (bits >> 1) % dimensions as u64;
            out[at as usize] += if bits & 1 == 0 { weight } else { -weight };
        }
    }
    let size = length(&out);
    let mut random = Mix(hash(text.as_bytes()));
    // A uniform distribution on ±1 has a mean square of a third.
    let noise = if size > 0.0 { size * NOISE } else { 1.0 } / (dimensions as f32 / 3.0).sqrt();
    for value in &mut out {
        *value += noise * ((random.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0);
    }
    normalise(&mut out);
    out
}

fn length(values: &[f32]) -> f32 {
    values.iter().map(|v| v * v).sum::<f32>().sqrt()
}

fn normalise(values: &mut [f32]) {
    let size = length(values);
    if size > 0.0 {
        values.iter_mut().for_each(|v| *v /= size);
    }
}

/// Computes FNV-1a, which is stable over versions and machines, unlike the standard library's hashes.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Generates random numbers with SplitMix64.
pub struct Mix(pub u64);

impl Mix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Provides vectors from an encoder if a model folder is configured, and otherwise from hashed words.
pub struct Source {
    encoder: Option<Encoder>,
}

impl Source {
    pub fn open(folder: Option<&Path>) -> Result<Self, MockProviderError> {
        let load = |path: &Path| {
            Encoder::load(path).map_err(|source| MockProviderError::Model { path: path.to_path_buf(), source })
        };
        Ok(Self { encoder: folder.map(load).transpose()? })
    }

    pub fn vector(&self, text: &str, dimensions: usize) -> Vec<f32> {
        match &self.encoder {
            Some(encoder) if encoder.dimension() == dimensions => encoded(encoder, text),
            _ => vector(text, dimensions),
        }
    }
}

/// Encodes a text. If the text exceeds the encoder's token limit, it is shortened until it fits. It is not refused,
/// because OpenAI's limit is larger and OpenAI would accept it.
fn encoded(encoder: &Encoder, text: &str) -> Vec<f32> {
    let mut text = text;
    loop {
        match encoder.encode(&[text]) {
            Ok(mut vectors) if vectors.len() == 1 => return vectors.remove(0),
            _ if text.len() < 8 => return vector(text, encoder.dimension()),
            _ => text = &text[..text.floor_char_boundary(text.len() * 3 / 4)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str, dimensions: usize) -> f32 {
        vector(a, dimensions).iter().zip(vector(b, dimensions)).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn vectors_have_length_one_and_repeat() {
        for text in ["harbour", "", "  ", "ä 漢字", &"long ".repeat(5000)] {
            for dimensions in [1, 16, 384, 1536] {
                let once = vector(text, dimensions);
                assert_eq!(once.len(), dimensions);
                assert!((length(&once) - 1.0).abs() < 1e-4, "{text:?} {dimensions}");
                assert_eq!(once, vector(text, dimensions));
            }
        }
        assert!(vector("dense", 1536).iter().filter(|v| **v == 0.0).count() < 3);
    }

    #[test]
    fn shared_words_bring_texts_together() {
        let question = "when does the harbour ferry leave";
        let near = cosine(question, "The ferry leaves the harbour at nine.", 1536);
        let far = cosine(question, "Annual accounts were approved by the board.", 1536);
        assert!(near > 0.4 && far < 0.15, "{near} {far}");
        assert!(cosine("one two", "two one", 1536) < 0.9999, "order makes other texts");
    }
}
