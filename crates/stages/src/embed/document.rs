//! Embeds one document: reads the cache, embeds the missing texts and checks the returned vectors.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use docweir_core::cache::EmbeddingCache;
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;
use docweir_core::model::{Chunks, EmbeddedDocument, Language, Usage};

use super::packing::packed;
use super::window::parts;
use super::{Call, EmbedOptions, Embedder, InFlight, deciding};
use crate::in_flight::Claimed;

/// Maximum difference between a vector's length and 1. The tolerance allows for rounding in f32, and for providers that
/// send few digits.
const UNIT_TOLERANCE: f32 = 1e-2;

/// Number of full calls for which one document claims texts at the same time. While a text is claimed, no other
/// document embeds it.
const WINDOW_CALLS: usize = 4;

/// A text to embed, with its hash.
type Text<'t> = (&'t Sha256Hex, &'t str);

/// Holds the texts that are sent for one chunk: the whole text, or its parts if the text exceeds the model's window.
struct Pieces<'t> {
    keys: Vec<Sha256Hex>,
    texts: Vec<&'t str>,
}

/// Returns a vector for each chunk, in order. A text is embedded once, even if it occurs twice in the document. Texts
/// in the cache, and texts that are being embedded for another document, are not embedded again. Vectors that were
/// computed are kept even if another text fails.
pub async fn embed_document(
    embedder: &dyn Embedder,
    cache: &dyn EmbeddingCache,
    in_flight: &InFlight,
    chunks: Arc<Chunks>,
    options: &EmbedOptions,
    call: Call<'_>,
) -> Result<EmbeddedDocument, StageError> {
    let (model, cancel) = (embedder.identity(), call.cancel);
    let contents: Vec<String> = chunks.chunks.iter().map(|c| c.embedded_text()).collect();
    let mut pieces = Vec::with_capacity(contents.len());
    for content in &contents {
        let texts = fitting(embedder, content)?;
        let keys = texts.iter().map(|text| Sha256Hex::of(text.as_bytes())).collect();
        pieces.push(Pieces { keys, texts });
    }
    let mut usage = Usage::default();
    let (mut known, mut cached) = (HashMap::new(), HashSet::new());
    let mut seen = HashSet::new();
    let all = pieces.iter().flat_map(|p| p.keys.iter().zip(p.texts.iter().copied()));
    let all: Vec<Text> = all.filter(|(key, _)| seen.insert(*key)).collect();
    // Claim the texts of a few calls at a time, so that other documents do not wait long for a text of a large
    // document.
    for window in all.chunks(options.max_texts.saturating_mul(WINDOW_CALLS).max(1)) {
        let mut wanted = window.to_vec();
        while !wanted.is_empty() {
            cancel.check()?;
            // Claim before reading the cache: an earlier claimant has stored its vector before it released the text.
            let claims: Vec<Claimed<Vec<f32>>> = wanted.iter().map(|(key, _)| in_flight.claim(key)).collect();
            let asked: Vec<Sha256Hex> = wanted.iter().map(|(key, _)| (*key).clone()).collect();
            let found = cache.get_many(model, &asked).await?;
            let (mut missing, mut mine, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
            for ((text, claim), vector) in wanted.into_iter().zip(claims).zip(found) {
                // Ignore an invalid cached vector.
                match (vector.filter(|v| check(v, model.dimension).is_ok()), claim) {
                    (Some(vector), _) => {
                        known.insert(text.0, vector);
                        cached.insert(text.0);
                    }
                    (None, Claimed::Own(claim)) => {
                        missing.push(text);
                        mine.push(claim);
                    }
                    (None, Claimed::ByAnother(other)) => elsewhere.push((text, other)),
                }
            }
            for group in groups(&missing, embedder, options) {
                cancel.check()?;
                let made = checked(embedder, group.iter().map(|(_, text)| *text), &mut usage, call).await?;
                let pairs = group.iter().zip(&made).filter_map(|((key, _), made)| Some((*key, made.as_ref().ok()?)));
                cache.put_many(model, pairs.map(|(key, vector)| (key.clone(), vector.clone())).collect()).await?;
                if let Some(error) = deciding(&made) {
                    let number = |key: &Sha256Hex| pieces.iter().position(|p| p.keys.contains(key)).map(|at| at + 1);
                    let failed = group.iter().zip(&made).filter_map(|((key, _), made)| Some((number(key)?, made)));
                    return Err(with_each_text(error, failed));
                }
                for (claim, ((key, _), vector)) in
                    mine.drain(..group.len()).zip(group.iter().zip(made.into_iter().flatten()))
                {
                    claim.made(vector.clone());
                    known.insert(key, vector);
                }
            }
            // This document's claims end before it waits for other documents, so two documents never wait for each
            // other.
            wanted = Vec::new();
            for (text, other) in elsewhere {
                match other.wait(cancel).await? {
                    Some(vector) => {
                        known.insert(text.0, vector);
                        cached.insert(text.0);
                    }
                    None => wanted.push(text),
                }
            }
        }
    }
    let mut vectors = Vec::with_capacity(pieces.len());
    for (pieces, content) in pieces.iter().zip(&contents) {
        if pieces.keys.iter().all(|key| cached.contains(key)) {
            usage.cached_chunks += 1;
            usage.cached_tokens += embedder.count_tokens(content) as u64;
        }
        let parts = pieces.keys.iter().zip(&pieces.texts).map(|(key, text)| Some((*text, known.get(key)?.clone())));
        let parts: Vec<_> = parts.collect::<Option<_>>().ok_or_else(|| wrong("a text has no vector"))?;
        vectors.push(joined(embedder, parts)?);
    }
    let mut notes = chunks.notes.clone();
    let split = pieces.iter().filter(|p| p.texts.len() > 1).count();
    if split > 0 {
        let (n, s) = (split, if split == 1 { "" } else { "s" });
        notes.push(format!("{n} chunk{s} longer than the model's window: embedded in parts, and the vectors averaged"));
    }
    if let Some(note) = language_note(chunks.language.as_ref(), embedder) {
        notes.push(note);
    }
    Ok(EmbeddedDocument { chunks, notes, vectors, usage })
}

/// Adds the errors of the single texts to the error of their document, if several texts failed. `made` holds the number of
/// each text's chunk, counted from 1, and the result of the text.
fn with_each_text<'m>(
    error: StageError,
    made: impl Iterator<Item = (usize, &'m Result<Vec<f32>, StageError>)>,
) -> StageError {
    const MOST: usize = 20;
    let failed: Vec<String> =
        made.filter_map(|(chunk, made)| Some(format!("chunk {chunk}: {}", made.as_ref().err()?))).collect();
    if failed.len() < 2 {
        return error;
    }
    let more = failed.len().saturating_sub(MOST);
    let mut causes: Vec<String> = failed.into_iter().take(MOST).collect();
    if more > 0 {
        causes.push(format!("{more} more texts failed"));
    }
    StageError { causes, ..error }
}

/// Divides the missing texts into groups, one group per call. The number of texts and the number of tokens of a call
/// are limited.
fn groups<'m, 't>(missing: &'m [Text<'t>], embedder: &dyn Embedder, options: &EmbedOptions) -> Vec<&'m [Text<'t>]> {
    let tokens: Vec<u64> = missing.iter().map(|(_, text)| embedder.count_tokens(text) as u64).collect();
    // Make one request per call, so that its vectors are kept even if the next request fails.
    let (texts, most_tokens) = embedder.most();
    let most = (options.max_texts.min(texts), options.max_tokens.min(most_tokens));
    packed(&tokens, most).into_iter().filter_map(|range| missing.get(range)).collect()
}

/// Embeds texts that belong to no document, without the cache. Returns the vector or the error of each text, in order.
///
/// # Errors
/// Fails only if no text could be embedded.
pub async fn embed_texts(
    embedder: &dyn Embedder,
    texts: &[&str],
    call: Call<'_>,
) -> Result<(Vec<Result<Vec<f32>, StageError>>, Usage), StageError> {
    let mut usage = Usage::default();
    let pieces: Vec<_> = texts.iter().map(|text| fitting(embedder, text)).collect();
    let mut made = checked(embedder, pieces.iter().flatten().flatten().copied(), &mut usage, call).await?.into_iter();
    let vectors = pieces.into_iter().map(|pieces| {
        let pieces = pieces?;
        let made: Vec<_> = made.by_ref().take(pieces.len()).collect();
        match deciding(&made) {
            Some(error) => Err(error),
            None => joined(embedder, pieces.into_iter().zip(made.into_iter().flatten()).collect()),
        }
    });
    Ok((vectors.collect(), usage))
}

/// Returns the whole text if it fits the embedder's window, or else parts that fit. Fails if the text is too long and
/// the embedder does not split long texts.
fn fitting<'t>(embedder: &dyn Embedder, text: &'t str) -> Result<Vec<&'t str>, StageError> {
    let count = |text: &str| embedder.count_tokens(text);
    let (tokens, window) = (count(text), embedder.window());
    if tokens <= window {
        return Ok(vec![text]);
    }
    if !embedder.splits_long_texts() {
        let message = format!("a text of {tokens} tokens exceeds the model's window of {window}");
        return Err(StageError::permanent("text_over_window", message));
    }
    parts(text, window, &count)
}

/// Calls the embedder once and checks the vectors that it returns.
async fn checked(
    embedder: &dyn Embedder,
    texts: impl Iterator<Item = &str>,
    usage: &mut Usage,
    call: Call<'_>,
) -> Result<Vec<Result<Vec<f32>, StageError>>, StageError> {
    let texts: Vec<String> = texts.map(str::to_owned).collect();
    let wanted = texts.len();
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let batch = embedder.embed(texts, call).await?;
    usage.tokens += batch.tokens;
    usage.cost_usd += batch.cost_usd;
    if batch.vectors.len() != wanted {
        return Err(wrong(&format!("received {} vectors for {wanted} texts", batch.vectors.len())));
    }
    let dimension = embedder.identity().dimension;
    let sound = |vector: Vec<f32>| check(&vector, dimension).map(|()| vector);
    Ok(batch.vectors.into_iter().map(|made| made.and_then(sound)).collect())
}

/// Returns the vector of a text, given the vectors of the text's parts. If there is a single part, its vector is
/// returned. If there are several parts, the mean of their vectors is returned, weighted by tokens and scaled to unit
/// length.
fn joined(embedder: &dyn Embedder, mut parts: Vec<(&str, Vec<f32>)>) -> Result<Vec<f32>, StageError> {
    if parts.len() == 1
        && let Some((_, vector)) = parts.pop()
    {
        return Ok(vector);
    }
    let dimension = embedder.identity().dimension;
    let mut mean = vec![0.0f32; dimension as usize];
    for (text, vector) in parts {
        let weight = embedder.count_tokens(text) as f32;
        mean.iter_mut().zip(vector).for_each(|(m, x)| *m += x * weight);
    }
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    mean.iter_mut().for_each(|x| *x /= length);
    check(&mean, dimension)?;
    Ok(mean)
}

fn check(vector: &[f32], dimension: u32) -> Result<(), StageError> {
    if vector.len() != dimension as usize {
        return Err(wrong(&format!("a vector has {} dimensions, but the model has {dimension}", vector.len())));
    }
    let square: f32 = vector.iter().map(|x| x * x).sum();
    if !square.is_finite() || (square.sqrt() - 1.0).abs() > UNIT_TOLERANCE {
        return Err(wrong("a vector is not of unit length"));
    }
    Ok(())
}

fn wrong(what: &str) -> StageError {
    StageError::permanent("bad_embedding", format!("the embedder's answer is invalid: {what}"))
}

fn language_note(language: Option<&Language>, embedder: &dyn Embedder) -> Option<String> {
    let code = language?.code.as_str();
    let known = embedder.languages();
    if known.is_empty() || known.contains(&code) {
        return None;
    }
    let name = |code: &str| whatlang::Lang::from_code(code).map_or(code.to_owned(), |l| l.eng_name().to_owned());
    let model: Vec<String> = known.iter().map(|c| name(c)).collect();
    Some(format!(
        "{} supports {}, but this document is in {} ({code}): vector search will be weaker, full-text search is not affected",
        embedder.identity().id,
        model.join(", "),
        name(code)
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;
    use docweir_core::cache::Forget;
    use docweir_core::model::{Chunk, ChunkKind, ModelIdentity, Span};

    use super::super::{EmbedBatch, HashedEmbedder};
    use super::*;

    #[derive(Default)]
    struct Memory(Mutex<HashMap<String, Vec<f32>>>);

    #[async_trait]
    impl EmbeddingCache for Memory {
        async fn get_many(&self, _: &ModelIdentity, texts: &[Sha256Hex]) -> Result<Vec<Option<Vec<f32>>>, StageError> {
            let known = self.0.lock().unwrap();
            Ok(texts.iter().map(|t| known.get(t.as_str()).cloned()).collect())
        }

        async fn forget(&self, _: Forget) -> Result<u64, StageError> {
            Ok(0)
        }

        async fn put_many(&self, _: &ModelIdentity, entries: Vec<(Sha256Hex, Vec<f32>)>) -> Result<(), StageError> {
            self.0.lock().unwrap().extend(entries.into_iter().map(|(k, v)| (k.to_string(), v)));
            Ok(())
        }
    }

    /// Mocks an embedder and counts its calls. Depending on the fields, calls fail or return wrong vectors.
    struct FaultyEmbedder {
        inner: HashedEmbedder,
        calls: Mutex<Vec<usize>>,
        fail_at: Option<usize>,
        /// Text that is refused, while the other texts of the call succeed.
        refuse: Option<&'static str>,
        scale: f32,
        lose: bool,
    }

    impl FaultyEmbedder {
        fn new() -> Self {
            let inner = HashedEmbedder::new(16, Duration::ZERO);
            Self { inner, calls: Mutex::default(), fail_at: None, refuse: None, scale: 1.0, lose: false }
        }
    }

    #[async_trait]
    impl Embedder for FaultyEmbedder {
        fn identity(&self) -> &ModelIdentity {
            self.inner.identity()
        }

        fn window(&self) -> usize {
            20
        }

        fn count_tokens(&self, text: &str) -> usize {
            self.inner.count_tokens(text)
        }

        fn languages(&self) -> &[&'static str] {
            &["eng"]
        }

        async fn embed(&self, texts: Vec<String>, call: Call<'_>) -> Result<EmbedBatch, StageError> {
            assert!(texts.iter().all(|t| self.count_tokens(t) <= self.window()), "a text over the window");
            let nth = self.calls.lock().unwrap().len();
            self.calls.lock().unwrap().push(texts.len());
            if self.fail_at == Some(nth) {
                return Err(StageError::transient("cut", "the connection was cut"));
            }
            let refused = texts.iter().position(|text| self.refuse == Some(text));
            let mut batch = self.inner.embed(texts, call).await?;
            if let Some(place) = refused.and_then(|at| batch.vectors.get_mut(at)) {
                *place = Err(StageError::permanent("refused", "not this one"));
            }
            batch.vectors.iter_mut().flatten().flatten().for_each(|x| *x *= self.scale);
            if self.lose {
                batch.vectors.pop();
            }
            Ok(batch)
        }
    }

    fn chunks(contents: &[&str]) -> Chunks {
        let chunk = |(i, content): (usize, &&str)| Chunk {
            id: i.to_string(),
            ordinal: i as u32,
            kind: ChunkKind::Text,
            content: (*content).to_owned(),
            heading_path: Vec::new(),
            pages: (1, 1),
            span: Span { start: 0, end: 0, start_byte: 0, end_byte: 0 },
            boxes: Vec::new(),
            tokens: 0,
            findings: None,
        };
        Chunks { chunks: contents.iter().enumerate().map(chunk).collect(), ..Default::default() }
    }

    fn run(embedder: &FaultyEmbedder, cache: &Memory, contents: &[&str]) -> Result<EmbeddedDocument, StageError> {
        let options = EmbedOptions { max_texts: 2, max_tokens: 1_000 };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let in_flight = InFlight::default();
        runtime.block_on(embed_document(
            embedder,
            cache,
            &in_flight,
            chunks(contents).into(),
            &options,
            Call::for_a_test(),
        ))
    }

    #[test]
    fn nothing_is_embedded_twice() {
        let (embedder, cache) = (FaultyEmbedder::new(), Memory::default());
        let first = run(&embedder, &cache, &["a b", "c d", "a b", "e f"]).unwrap();
        assert_eq!(*embedder.calls.lock().unwrap(), [2, 1], "three different texts, two a call");
        assert_eq!(first.vectors[0], first.vectors[2]);
        assert_eq!((first.usage.tokens, first.usage.cached_tokens), (12, 0));
        let second = run(&embedder, &cache, &["c d", "new"]).unwrap();
        assert_eq!(*embedder.calls.lock().unwrap(), [2, 1, 1]);
        assert_eq!(second.vectors[0], first.vectors[1]);
        assert_eq!((second.usage.tokens, second.usage.cached_tokens, second.usage.cached_chunks), (3, 4, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn documents_with_the_same_text_at_the_same_time_embed_it_once() {
        let (mut embedder, cache, in_flight) = (FaultyEmbedder::new(), Memory::default(), InFlight::default());
        embedder.inner = HashedEmbedder::new(16, Duration::from_millis(50));
        let options = EmbedOptions { max_texts: 2, max_tokens: 1_000 };
        let run = |contents: &[&str]| {
            embed_document(&embedder, &cache, &in_flight, chunks(contents).into(), &options, Call::for_a_test())
        };
        // The texts are in opposite orders, and each document has one of its own: neither may wait for the other
        // forever.
        let (a, b) = tokio::join!(run(&["own a", "x", "y"]), run(&["y", "x", "own b"]));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((&a.vectors[1], &a.vectors[2]), (&b.vectors[1], &b.vectors[0]));
        assert_eq!(embedder.calls.lock().unwrap().iter().sum::<usize>(), 4, "four different texts");
        assert_eq!((a.usage.cached_chunks, b.usage.cached_chunks), (0, 2), "the second takes what the first has made");
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_one_who_embeds_fails_the_one_who_waits_does_it() {
        let (mut embedder, cache, in_flight) = (FaultyEmbedder::new(), Memory::default(), InFlight::default());
        embedder.inner = HashedEmbedder::new(16, Duration::from_millis(50));
        embedder.fail_at = Some(0);
        let options = EmbedOptions { max_texts: 2, max_tokens: 1_000 };
        let run =
            || embed_document(&embedder, &cache, &in_flight, chunks(&["same"]).into(), &options, Call::for_a_test());
        let (a, b) = tokio::join!(run(), run());
        assert_eq!((a.unwrap_err().code, b.unwrap().usage.cached_chunks), ("cut".to_owned(), 0));
    }

    #[test]
    fn a_damaged_vector_in_the_cache_is_made_anew() {
        let (embedder, cache) = (FaultyEmbedder::new(), Memory::default());
        let right = run(&embedder, &cache, &["a b"]).unwrap();
        cache.0.lock().unwrap().values_mut().for_each(|v| v[0] = f32::NAN);
        let again = run(&embedder, &cache, &["a b"]).unwrap();
        assert_eq!((again.vectors, again.usage.cached_chunks), (right.vectors, 0));
    }

    #[test]
    fn what_was_made_before_a_failure_is_kept() {
        let (mut embedder, cache) = (FaultyEmbedder::new(), Memory::default());
        embedder.fail_at = Some(1);
        assert_eq!(run(&embedder, &cache, &["a", "b", "c", "d"]).unwrap_err().code, "cut");
        embedder.fail_at = None;
        let done = run(&embedder, &cache, &["a", "b", "c", "d"]).unwrap();
        assert_eq!(done.usage.cached_chunks, 2);
    }

    #[test]
    fn what_was_made_beside_a_text_that_is_refused_is_kept() {
        let (mut embedder, cache) = (FaultyEmbedder::new(), Memory::default());
        embedder.refuse = Some("b");
        assert_eq!(run(&embedder, &cache, &["a", "b", "c"]).unwrap_err().code, "refused");
        embedder.refuse = None;
        assert_eq!(run(&embedder, &cache, &["a", "b"]).unwrap().usage.cached_chunks, 1);
    }

    #[test]
    fn parts_of_a_long_text_that_were_made_before_a_failure_are_kept() {
        let (mut embedder, cache) = (FaultyEmbedder::new(), Memory::default());
        embedder.fail_at = Some(1);
        let long: String = (0..72).map(|n| format!("t{n} ")).collect();
        assert_eq!(run(&embedder, &cache, &[&long]).unwrap_err().code, "cut");
        let kept = cache.0.lock().unwrap().len();
        embedder.fail_at = None;
        run(&embedder, &cache, &[&long]).unwrap();
        let embedded = embedder.calls.lock().unwrap().iter().sum::<usize>();
        assert!(kept > 0 && cache.0.lock().unwrap().len() > kept, "{kept}");
        assert_eq!(embedded, cache.0.lock().unwrap().len() + 2, "only the call that failed was made again");
    }

    #[test]
    fn a_text_over_the_window_is_embedded_in_parts_and_said_to_be() {
        let long = "fence token lease ".repeat(12);
        let done = run(&FaultyEmbedder::new(), &Memory::default(), &[&long, "short"]).unwrap();
        let length: f32 = done.vectors[0].iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
        assert_eq!(done.notes.len(), 1);
        assert!(done.notes[0].starts_with("1 chunk longer"), "{:?}", done.notes);
        let whole = HashedEmbedder::new(16, Duration::ZERO);
        let whole = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(whole.embed(vec![long], Call::for_a_test()))
            .unwrap();
        let cosine: f32 = whole.vectors[0].as_ref().unwrap().iter().zip(&done.vectors[0]).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.95, "{cosine}");
    }

    #[test]
    fn an_answer_that_can_not_be_right_is_refused() {
        for (scale, lose) in [(2.0, false), (f32::NAN, false), (1.0, true)] {
            let mut embedder = FaultyEmbedder::new();
            (embedder.scale, embedder.lose) = (scale, lose);
            let error = run(&embedder, &Memory::default(), &["a", "b"]).unwrap_err();
            assert_eq!(error.code, "bad_embedding", "{scale} {lose}");
        }
    }

    #[test]
    fn a_language_that_the_model_does_not_know_is_noted() {
        let embedder = FaultyEmbedder::new();
        let language = |code: &str| Some(Language { code: code.into(), confidence: 1.0 });
        let note = language_note(language("deu").as_ref(), &embedder).unwrap();
        assert!(note.contains("hashed-16 supports English") && note.contains("German (deu)"), "{note}");
        assert_eq!(language_note(language("eng").as_ref(), &embedder), None);
        assert_eq!(language_note(None, &embedder), None);
    }

    #[test]
    fn a_document_without_chunks_has_no_vectors() {
        let done = run(&FaultyEmbedder::new(), &Memory::default(), &[]).unwrap();
        assert!(done.vectors.is_empty());
    }
}
