//! Analyses from the cache, and by requests of as many texts as one takes.
//!
//! A text is claimed before the cache is asked, so that documents with the same text at the same time pay for it once.
//! What was answered is kept before its money is settled: a crash in between leaves money reserved, which the next run
//! calls in doubt, and pays for nothing twice. A text that fails alone in an answer is asked about alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::cache::FindingsCache;
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;
use docweir_stages::embed::deciding;
use docweir_stages::enrich::comprehend::{Analyses, Analysis, Analyst, Api, ComprehendOptions, Refusal};
use docweir_stages::enrich::{Call, Usage};
use docweir_stages::in_flight::{Claimed, InFlight, Mine};
use futures_util::StreamExt;
use futures_util::stream;

use super::requests::{Bill, MeteredApi, Unanswered, refused};
use super::{Remote, decode, encode, key, question};

type Answered = Result<Analysis, Refusal>;

/// Shared by all workers of a run.
pub struct Service {
    remote: Arc<dyn Remote>,
    /// By API.
    metered_apis: HashMap<Api, MeteredApi>,
    cache: Arc<dyn FindingsCache>,
    in_flight: InFlight<Answered>,
    options: ComprehendOptions,
}

/// A text that has to be asked about, and the claim on it.
struct Wanted<'t> {
    key: &'t Sha256Hex,
    text: &'t str,
    claim: Mine<Answered>,
}

impl Service {
    pub fn new(
        remote: Arc<dyn Remote>,
        metered_apis: Vec<MeteredApi>,
        cache: Arc<dyn FindingsCache>,
        options: ComprehendOptions,
    ) -> Self {
        let metered_apis = metered_apis.into_iter().map(|metered_api| (metered_api.api, metered_api)).collect();
        Self { remote, metered_apis, cache, in_flight: InFlight::default(), options }
    }

    fn metered_api(&self, api: Api) -> Result<&MeteredApi, StageError> {
        self.metered_apis
            .get(&api)
            .ok_or_else(|| StageError::system("comprehend", "an api of comprehend has no metered_api"))
    }

    /// Texts of one request: personal data is looked for in one at a time.
    fn most_texts(&self, api: Api) -> usize {
        match api {
            Api::PersonalData => 1,
            Api::Language | Api::Entities | Api::KeyPhrases | Api::Sentiment => self.options.max_texts.max(1),
        }
    }

    /// Before the stage's deadline would make an attempt of it. What was answered by then is in the cache.
    fn in_time(&self, call: Call<'_>) -> Result<(), StageError> {
        call.cancel.check()?;
        let longest = Duration::from_secs_f64(self.options.max_document_seconds);
        match call.began.elapsed() < longest {
            true => Ok(()),
            false => {
                Err(StageError::throttled("comprehend is slow: the document goes on later", None).with_code("busy"))
            }
        }
    }

    /// One request, and what it did not answer by requests of their own. Keeps what was answered, and hands it to whoever
    /// waits for it.
    async fn group<'t>(&self, api: Api, language: &str, wanted: Vec<Wanted<'t>>, call: Call<'_>) -> Made<'t> {
        let mut made = Made::default();
        // The next request lies on top.
        let mut open = vec![(wanted, 1)];
        while let Some((mut group, attempt)) = open.pop() {
            let texts: Vec<&str> = group.iter().map(|w| w.text).collect();
            match self.request(api, language, &texts, call).await {
                Ok((items, bill)) => {
                    let mut answered = Vec::with_capacity(items.len());
                    let mut failed = Vec::new();
                    for (wanted, item) in group.into_iter().zip(items) {
                        match item {
                            Ok(answer) => answered.push((wanted, Ok(answer))),
                            Err(code) => match refusal(&code) {
                                Some(refusal) => answered.push((wanted, Err(refusal))),
                                None => failed.push((wanted, code)),
                            },
                        }
                    }
                    // In this order, so that what is settled is never asked about again.
                    self.keep(api, language, &answered).await;
                    made.usage += bill.settle().await;
                    made.take(answered);
                    for (wanted, code) in failed {
                        if attempt < self.options.item_attempts {
                            open.push((vec![wanted], attempt + 1));
                        } else {
                            made.errors.push(Err(item_failed(api, &code)));
                        }
                    }
                }
                Err(Unanswered::Refused(code)) if group.len() == 1 => match refusal(&code) {
                    Some(refusal) => made.take(group.into_iter().map(|wanted| (wanted, Err(refusal))).collect()),
                    None => made.errors.push(Err(refused(&super::model(api), &code))),
                },
                // So is every text of it.
                Err(Unanswered::Refused(code)) if refusal(&code) == Some(Refusal::Language) => {
                    made.take(group.into_iter().map(|wanted| (wanted, Err(Refusal::Language))).collect());
                }
                // The one that it is refused for is found by halves.
                Err(Unanswered::Refused(_)) => {
                    let rest = group.split_off(group.len() / 2);
                    open.push((rest, attempt));
                    open.push((group, attempt));
                }
                Err(Unanswered::Stage(error)) => {
                    made.errors.push(Err(error));
                    break;
                }
            }
        }
        made
    }

    async fn request(
        &self,
        api: Api,
        language: &str,
        texts: &[&str],
        call: Call<'_>,
    ) -> Result<(super::Items, Bill<'_>), Unanswered> {
        self.in_time(call).map_err(Unanswered::Stage)?;
        let metered_api = self.metered_api(api).map_err(Unanswered::Stage)?;
        metered_api.request(self.remote.as_ref(), language, texts, call).await
    }

    async fn keep(&self, api: Api, language: &str, answered: &[(Wanted<'_>, Answered)]) {
        let kept = answered.iter().filter_map(|(wanted, answer)| {
            let answer = answer.as_ref().ok()?;
            Some((wanted.key.clone(), encode(answer)?))
        });
        self.cache.put_many(&question(api, language), kept.collect()).await;
    }
}

/// What a group came to.
#[derive(Default)]
struct Made<'t> {
    answers: Vec<(&'t Sha256Hex, Answered)>,
    errors: Vec<Result<(), StageError>>,
    usage: Usage,
}

impl<'t> Made<'t> {
    fn take(&mut self, answered: Vec<(Wanted<'t>, Answered)>) {
        for (wanted, answer) in answered {
            wanted.claim.made(answer.clone());
            self.answers.push((wanted.key, answer));
        }
    }
}

/// Codes of a text's own, in either of the service's spellings.
fn refusal(code: &str) -> Option<Refusal> {
    match code {
        "TEXT_SIZE_LIMIT_EXCEEDED" | "TextSizeLimitExceededException" => Some(Refusal::TooLong),
        "UNSUPPORTED_LANGUAGE" | "UnsupportedLanguageException" => Some(Refusal::Language),
        _ => None,
    }
}

fn item_failed(api: Api, code: &str) -> StageError {
    let name = super::model(api);
    StageError::transient("comprehend_item_failed", format!("{name} failed on a text, again and again: {code}"))
}

#[async_trait]
impl Analyst for Service {
    async fn ask(&self, api: Api, language: &str, texts: &[&str], call: Call<'_>) -> Result<Analyses, StageError> {
        let question = question(api, language);
        let keys: Vec<Sha256Hex> = texts.iter().map(|text| key(text)).collect();
        // Where a text's answer is, each once.
        let mut known: HashMap<&Sha256Hex, Answered> = HashMap::new();
        let mut usage = Usage::default();
        let mut all: Vec<(&Sha256Hex, &str)> = Vec::with_capacity(texts.len());
        let mut seen = std::collections::HashSet::new();
        all.extend(keys.iter().zip(texts.iter().copied()).filter(|(key, _)| seen.insert(*key)));
        // A few requests' worth at a time, so that nobody waits long for a text that a large document has claimed.
        let most = self.most_texts(api);
        for window in all.chunks(most * self.options.concurrency.max(1)) {
            let mut wanted = window.to_vec();
            while !wanted.is_empty() {
                self.in_time(call)?;
                let claim = |key: &Sha256Hex| {
                    // One text is asked about in many ways.
                    self.in_flight.claim(&Sha256Hex::of(format!("{question}/{key}").as_bytes()))
                };
                let claims: Vec<Claimed<Answered>> = wanted.iter().map(|(key, _)| claim(key)).collect();
                let asked: Vec<Sha256Hex> = wanted.iter().map(|(key, _)| (*key).clone()).collect();
                let found = self.cache.get_many(&question, &asked).await;
                let (mut missing, mut elsewhere) = (Vec::new(), Vec::new());
                for (((key, text), claim), found) in wanted.into_iter().zip(claims).zip(found) {
                    match (found.and_then(|bytes| decode(api, &bytes)), claim) {
                        (Some(answer), _) => drop(known.insert(key, Ok(answer))),
                        (None, Claimed::Mine(claim)) => missing.push(Wanted { key, text, claim }),
                        (None, Claimed::ByAnother(other)) => elsewhere.push((key, text, other)),
                    }
                }
                let mut groups = Vec::new();
                while !missing.is_empty() {
                    let rest = missing.split_off(missing.len().min(most));
                    groups.push(std::mem::replace(&mut missing, rest));
                }
                // All to their end: what one has paid for must not be lost because another failed.
                let asking: Vec<_> = groups.into_iter().map(|group| self.group(api, language, group, call)).collect();
                let all: Vec<Made<'_>> =
                    stream::iter(asking).buffer_unordered(self.options.concurrency.max(1)).collect().await;
                let mut errors = Vec::new();
                for made in all {
                    usage += made.usage;
                    errors.extend(made.errors);
                    known.extend(made.answers);
                }
                if let Some(error) = deciding(&errors) {
                    return Err(error);
                }
                // Own claims have ended before others' are waited for: no two documents wait for each other.
                wanted = Vec::new();
                for (key, text, other) in elsewhere {
                    match other.wait(call.cancel).await? {
                        Some(answer) => drop(known.insert(key, answer)),
                        None => wanted.push((key, text)),
                    }
                }
            }
        }
        let lost = || StageError::system("comprehend", "a text was asked about and nothing came back");
        let answers = keys.iter().map(|key| known.get(key).cloned().ok_or_else(lost));
        Ok(Analyses { answers: answers.collect::<Result<_, _>>()?, usage })
    }
}
