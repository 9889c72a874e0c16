//! Analyses texts. Uses the answers that are in the cache, and requests the missing answers from Comprehend, with as
//! many texts per request as the service allows.
//!
//! A text is claimed before the cache is read, so that concurrent documents with the same text pay for the text only
//! once. The answers to a request are stored before the reservation for the request is settled. After a crash between
//! these steps, the stored answers are reused and not paid again; the next run marks the open reservation as in doubt.
//! If one text of a request fails, only that text is sent again, in a separate request.

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
use docweir_stages::in_flight::{Claimed, InFlight, OwnClaim};
use futures_util::StreamExt;
use futures_util::stream;

use super::requests::{MeteredApi, PendingSettlement, Unanswered, refused};
use super::{Remote, decode, encode, key, question};

type Answered = Result<Analysis, Refusal>;

/// Analyses texts with Comprehend. All workers of a run share this service.
pub struct Service {
    remote: Arc<dyn Remote>,
    /// Admission, account and price of each API.
    metered_apis: HashMap<Api, MeteredApi>,
    cache: Arc<dyn FindingsCache>,
    in_flight: InFlight<Answered>,
    options: ComprehendOptions,
}

/// Holds a text that has no answer yet, and the claim on this text.
struct Wanted<'t> {
    key: &'t Sha256Hex,
    text: &'t str,
    claim: OwnClaim<Answered>,
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
            .ok_or_else(|| StageError::system("comprehend", "an API of Comprehend is used but was not set up"))
    }

    /// Returns the maximum number of texts in one request. Personal data is detected in one text at a time.
    fn most_texts(&self, api: Api) -> usize {
        match api {
            Api::PersonalData => 1,
            Api::Language | Api::Entities | Api::KeyPhrases | Api::Sentiment => self.options.max_texts.max(1),
        }
    }

    /// Returns an error if the document has used up its maximum time. The document then continues later, with the
    /// answers that are already in the cache. Without this error, the stage would exceed its deadline and use up an
    /// attempt.
    fn in_time(&self, call: Call<'_>) -> Result<(), StageError> {
        call.cancel.check()?;
        let longest = Duration::from_secs_f64(self.options.max_document_seconds);
        match call.began.elapsed() < longest {
            true => Ok(()),
            false => {
                Err(StageError::throttled("comprehend is slow; the document continues later", None).with_code("busy"))
            }
        }
    }

    /// Sends one request for the group, and separate requests for the texts that the first request did not answer.
    /// Stores the answers, and passes them to other callers that wait for the same texts.
    async fn group<'t>(&self, api: Api, language: &str, wanted: Vec<Wanted<'t>>, call: Call<'_>) -> Made<'t> {
        let mut made = Made::default();
        // The next request is on top of the stack.
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
                    // Store before settling, so that settled texts are never sent again.
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
                // The texts of a request have one language, so all of them are refused.
                Err(Unanswered::Refused(code)) if refusal(&code) == Some(Refusal::Language) => {
                    made.take(group.into_iter().map(|wanted| (wanted, Err(Refusal::Language))).collect());
                }
                // Halving the group finds the text that causes the refusal.
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
    ) -> Result<(super::Items, PendingSettlement<'_>), Unanswered> {
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

/// Holds the results of a group of texts.
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

/// Returns the reason why a single text cannot be analysed, if the error code states such a reason. The service
/// spells each of these codes in two ways.
fn refusal(code: &str) -> Option<Refusal> {
    match code {
        "TEXT_SIZE_LIMIT_EXCEEDED" | "TextSizeLimitExceededException" => Some(Refusal::TooLong),
        "UNSUPPORTED_LANGUAGE" | "UnsupportedLanguageException" => Some(Refusal::Language),
        _ => None,
    }
}

fn item_failed(api: Api, code: &str) -> StageError {
    let name = super::model(api);
    StageError::transient("comprehend_item_failed", format!("{name} failed on a text at each attempt: {code}"))
}

#[async_trait]
impl Analyst for Service {
    async fn ask(&self, api: Api, language: &str, texts: &[&str], call: Call<'_>) -> Result<Analyses, StageError> {
        let question = question(api, language);
        let keys: Vec<Sha256Hex> = texts.iter().map(|text| key(text)).collect();
        // Each distinct text has one answer.
        let mut known: HashMap<&Sha256Hex, Answered> = HashMap::new();
        let mut usage = Usage::default();
        let mut all: Vec<(&Sha256Hex, &str)> = Vec::with_capacity(texts.len());
        let mut seen = std::collections::HashSet::new();
        all.extend(keys.iter().zip(texts.iter().copied()).filter(|(key, _)| seen.insert(*key)));
        // Claim only a few requests' worth of texts at a time. Otherwise other documents would wait long for the texts
        // of a large one.
        let most = self.most_texts(api);
        for window in all.chunks(most * self.options.concurrency.max(1)) {
            let mut wanted = window.to_vec();
            while !wanted.is_empty() {
                self.in_time(call)?;
                let claim = |key: &Sha256Hex| {
                    // The claim includes the question, because the same text is sent to several APIs.
                    self.in_flight.claim(&Sha256Hex::of(format!("{question}/{key}").as_bytes()))
                };
                let claims: Vec<Claimed<Answered>> = wanted.iter().map(|(key, _)| claim(key)).collect();
                let asked: Vec<Sha256Hex> = wanted.iter().map(|(key, _)| (*key).clone()).collect();
                let found = self.cache.get_many(&question, &asked).await;
                let (mut missing, mut elsewhere) = (Vec::new(), Vec::new());
                for (((key, text), claim), found) in wanted.into_iter().zip(claims).zip(found) {
                    match (found.and_then(|bytes| decode(api, &bytes)), claim) {
                        (Some(answer), _) => drop(known.insert(key, Ok(answer))),
                        (None, Claimed::Own(claim)) => missing.push(Wanted { key, text, claim }),
                        (None, Claimed::ByAnother(other)) => elsewhere.push((key, text, other)),
                    }
                }
                let mut groups = Vec::new();
                while !missing.is_empty() {
                    let rest = missing.split_off(missing.len().min(most));
                    groups.push(std::mem::replace(&mut missing, rest));
                }
                // Run all requests to their end: if one fails, the paid answers of the others must not be lost.
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
                // Own claims have ended before the wait for others begins, so no two documents wait for each other.
                wanted = Vec::new();
                for (key, text, other) in elsewhere {
                    match other.wait(call.cancel).await? {
                        Some(answer) => drop(known.insert(key, answer)),
                        None => wanted.push((key, text)),
                    }
                }
            }
        }
        let lost = || StageError::system("comprehend", "comprehend returned no answer for a text");
        let answers = keys.iter().map(|key| known.get(key).cloned().ok_or_else(lost));
        Ok(Analyses { answers: answers.collect::<Result<_, _>>()?, usage })
    }
}
