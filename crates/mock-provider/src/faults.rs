//! Selects the requests that fail, and the kind of failure.
//!
//! A fault rule states which requests it matches, and how these requests fail. A rule that matches a request does not
//! always fire, for example because the rule has a probability. For each request, the rules are tried in order, and the
//! first rule that fires takes effect. Each rule has its own random number generator, so that requests of one kind do
//! not affect the faults of other kinds.

use serde::{Deserialize, Serialize};

use crate::vectors::Mix;

/// Names the target of a rule: a kind of request, or the processing of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    Embeddings,
    Chat,
    Models,
    /// Upload of a file.
    Files,
    FileGet,
    FileDelete,
    Content,
    /// Creation of a batch.
    Batches,
    BatchGet,
    Cancel,
    /// Listing of batches or files.
    List,
    Any,
    DetectLanguage,
    DetectEntities,
    DetectKeyPhrases,
    DetectSentiment,
    DetectPersonalData,
    /// Any operation of Comprehend.
    Detect,
    /// Processing of a batch. The rule is selected when the batch is created, and applied while the batch is processed.
    BatchOutcome,
}

impl On {
    fn is_of_comprehend(self) -> bool {
        use On::*;
        matches!(
            self,
            DetectLanguage | DetectEntities | DetectKeyPhrases | DetectSentiment | DetectPersonalData | Detect
        )
    }
}

/// Names the effect of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Replies with the HTTP status `code`. If `retry_after` is set, the reply asks the client to wait.
    Status,
    InsufficientQuota,
    /// Throttles a request to Comprehend.
    Throttle,
    /// Reports some texts of a request to Comprehend as failed, with the error code `item`. The rule's `share` is the
    /// probability that a text fails; without `share`, only the first text fails. The other texts are answered and
    /// charged.
    ItemErrors,
    /// Waits for `seconds` before processing the request. A client that disconnects during the wait is not charged.
    Slow,
    /// Closes the connection before any work is done.
    CutBefore,
    /// Performs and charges the work, then closes the connection without a reply.
    CutAfter,
    /// Performs and charges the work, then closes the connection in the middle of the body.
    CutMiddle,
    /// Performs and charges the work, then replies 200 with a body that is not JSON.
    Garbage,
    /// Makes vectors one dimension too short. In a live reply, all vectors are affected. In a batch, the vectors of a
    /// share of the rows are affected.
    WrongDimension,
    /// Omits one vector of the reply.
    MissingVector,
    /// Changes the order of the vectors in the reply. The index of each vector is still correct.
    ShuffledData,
    /// Writes NaN as the first number of a vector. In a live reply, the first vector is affected. In a batch, the
    /// vectors of a share of the rows are affected.
    Nan,
    /// Fails the batch without processing rows.
    Fail,
    /// Expires the batch after a share of its rows is processed (half of the rows if the rule has no `share`).
    Expire,
    /// Cancels the batch after a share of its rows is processed (half of the rows if the rule has no `share`). The
    /// batch looks as if another client had cancelled it.
    Cancel,
    /// Stops processing after a share of the rows (before the first row if the rule has no `share`). The batch stays
    /// in progress until it expires.
    Stuck,
    /// Processes the rows in random order, so that the output lines have another order than the input lines.
    Shuffled,
    /// Truncates a share of the output lines, so that these lines are not valid JSON.
    BadLine,
    /// Writes a share of the output lines twice.
    DuplicateLines,
    /// Reports a share of the rows as failed. The failed rows are written to the error file, with the status `code`. If
    /// the rule has no `code`, rows with an even number (counted from 0) have the status 400, and the other rows have
    /// 500.
    ErrorLines,
    /// Truncates the last line of the output file.
    Truncated,
    /// Omits a share of the rows from both files.
    MissingLines,
    /// Names no files the first three times that the completed batch is read.
    LateFiles,
    /// Creates the batch, then closes the connection without a reply. The batch is absent from lists until a later batch
    /// has ended, or until the rule's `seconds` have passed.
    Hide,
    /// Replies with a body that begins as compressed data do, and cannot be decompressed.
    DamagedGzip,
}

impl Act {
    fn is_of_batches(self) -> bool {
        use Act::*;
        matches!(
            self,
            Fail | Expire
                | Cancel
                | Stuck
                | Shuffled
                | BadLine
                | DuplicateLines
                | ErrorLines
                | Truncated
                | MissingLines
                | LateFiles
                | WrongDimension
                | Nan
        )
    }

    /// Returns whether the act changes the vectors of a reply. Such an act applies to embeddings only.
    fn is_of_vectors(self) -> bool {
        matches!(self, Act::WrongDimension | Act::MissingVector | Act::ShuffledData | Act::Nan)
    }

    /// Returns whether the act applies to Comprehend only.
    fn is_of_comprehend(self) -> bool {
        matches!(self, Act::Throttle | Act::ItemErrors)
    }

    fn is_of_requests(self) -> bool {
        self.is_of_vectors() || !self.is_of_batches()
    }
}

/// Describes a fault rule by the requests that the rule matches and the effect of the rule. If `probability` is absent,
/// the rule fires on every match. If `times` is absent, the rule can fire any number of times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub on: On,
    #[serde(rename = "do")]
    pub act: Act,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Number of matching requests that are ignored before the rule can fire.
    #[serde(default)]
    pub after: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Time that the reply asks the client to wait, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Share of a batch's rows that the fault affects, 0 to 1, rounded up to whole rows. If absent, one row is
    /// affected, unless the act has another default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Error code that Comprehend reports for a failed text. The default is `INTERNAL_SERVER_ERROR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
}

impl Rule {
    pub fn new(on: On, act: Act) -> Self {
        Self {
            on,
            act,
            probability: None,
            times: None,
            after: 0,
            code: None,
            retry_after: None,
            seconds: None,
            share: None,
            item: None,
        }
    }

    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    pub fn after(mut self, matches: u64) -> Self {
        self.after = matches;
        self
    }

    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = Some(probability);
        self
    }

    pub fn code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    pub fn retry_after(mut self, seconds: f64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub fn seconds(mut self, seconds: f64) -> Self {
        self.seconds = Some(seconds);
        self
    }

    pub fn share(mut self, share: f64) -> Self {
        self.share = Some(share);
        self
    }

    pub fn item(mut self, code: &str) -> Self {
        self.item = Some(code.into());
        self
    }

    /// Returns the name of the rule, which consists of its target and its effect, such as `embeddings:status`. Under
    /// this name, the charges count how often the rule fired.
    pub fn name(&self) -> String {
        let word = |value: Result<serde_json::Value, _>| match value {
            Ok(serde_json::Value::String(word)) => word,
            _ => String::new(),
        };
        format!("{}:{}", word(serde_json::to_value(self.on)), word(serde_json::to_value(self.act)))
    }

    fn matches(&self, on: On) -> bool {
        let same = self.on == on
            || (self.on == On::Any && on != On::BatchOutcome)
            || (self.on == On::Detect && on.is_of_comprehend());
        if self.act.is_of_comprehend() && !on.is_of_comprehend() {
            return false;
        }
        if self.act == Act::Hide && on != On::Batches {
            return false;
        }
        same && (on == On::BatchOutcome || on == On::Embeddings || !self.act.is_of_vectors())
    }

    fn check(&self) -> Result<(), String> {
        let name = self.name();
        let fits = if self.on == On::BatchOutcome { self.act.is_of_batches() } else { self.act.is_of_requests() };
        if !fits {
            return Err(format!("{name}: this `do` cannot be combined with this `on`"));
        }
        if self.act.is_of_vectors() && !matches!(self.on, On::Embeddings | On::Any | On::BatchOutcome) {
            return Err(format!("{name}: only embeddings have vectors"));
        }
        if self.act.is_of_comprehend() && !self.on.is_of_comprehend() {
            return Err(format!("{name}: only Comprehend requests support this `do`"));
        }
        for (field, value) in [("probability", self.probability), ("share", self.share)] {
            if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
                return Err(format!("{name}: {field} must be from 0 to 1"));
            }
        }
        for (field, value) in [("seconds", self.seconds), ("retry_after", self.retry_after)] {
            if value.is_some_and(|value| !(0.0..=1e6).contains(&value)) {
                return Err(format!("{name}: {field} must be from 0 to 1,000,000"));
            }
        }
        if self.act == Act::Slow && self.seconds.is_none() {
            return Err(format!("{name}: `seconds` is missing"));
        }
        if self.act == Act::Status && self.code.is_none() || self.code.is_some_and(|code| !(400..600).contains(&code)) {
            return Err(format!("{name}: `code` must be from 400 to 599"));
        }
        Ok(())
    }
}

/// Parses a JSON list of rules and checks them.
pub fn read(json: &[u8]) -> Result<Vec<Rule>, String> {
    let rules: Vec<Rule> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    rules.iter().try_for_each(Rule::check)?;
    Ok(rules)
}

struct Armed {
    rule: Rule,
    random: Mix,
    seen: u64,
    fired: u64,
}

/// Holds the active rules.
pub struct Faults {
    seed: u64,
    rules: Vec<Armed>,
}

impl Faults {
    pub fn new(seed: u64, rules: Vec<Rule>) -> Result<Self, String> {
        let mut faults = Self { seed, rules: Vec::new() };
        faults.set(rules)?;
        Ok(faults)
    }

    /// Replaces all active rules.
    pub fn set(&mut self, rules: Vec<Rule>) -> Result<(), String> {
        rules.iter().try_for_each(Rule::check)?;
        let arm = |(at, rule)| {
            let seed = Mix(self.seed ^ Mix(at as u64).next()).next();
            Armed { rule, random: Mix(seed), seen: 0, fired: 0 }
        };
        self.rules = rules.into_iter().enumerate().map(arm).collect();
        Ok(())
    }

    pub fn rules(&self) -> Vec<Rule> {
        self.rules.iter().map(|armed| armed.rule.clone()).collect()
    }

    /// Selects the first rule that fires for a request of the kind `on`. Returns `None` if no rule fires. Each rule
    /// that is tried and matches the request counts the match.
    pub fn draw(&mut self, on: On) -> Option<Rule> {
        for armed in &mut self.rules {
            let rule = &armed.rule;
            if !rule.matches(on) || rule.times.is_some_and(|times| armed.fired >= times) {
                continue;
            }
            armed.seen += 1;
            if armed.seen <= rule.after {
                continue;
            }
            if let Some(probability) = rule.probability {
                let drawn = (armed.random.next() >> 11) as f64 / (1u64 << 53) as f64;
                if drawn >= probability {
                    continue;
                }
            }
            armed.fired += 1;
            return Some(armed.rule.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_and_mistakes_are_named() {
        let text = br#"[{"on": "embeddings", "times": 2, "do": "status", "code": 503, "retry_after": 1.5}]"#;
        let expected = Rule::new(On::Embeddings, Act::Status).times(2).code(503).retry_after(1.5);
        assert_eq!(read(text).unwrap(), [expected]);
        for (text, part) in [
            (r#"[{"on": "embeddings", "do": "explode"}]"#, "explode"),
            (r#"[{"on": "embeddings", "do": "status"}]"#, "code"),
            (r#"[{"on": "embeddings", "do": "slow"}]"#, "seconds"),
            (r#"[{"on": "embeddings", "do": "fail"}]"#, "cannot be combined"),
            (r#"[{"on": "batch_outcome", "do": "cut_after"}]"#, "cannot be combined"),
            (r#"[{"on": "files", "do": "nan"}]"#, "only embeddings"),
            (r#"[{"on": "any", "do": "throttle"}]"#, "only Comprehend"),
            (r#"[{"on": "files", "do": "cut_after", "probability": 2}]"#, "probability"),
            (r#"[{"on": "files", "do": "cut_after", "time": 2}]"#, "time"),
        ] {
            let problem = read(text.as_bytes()).unwrap_err();
            assert!(problem.contains(part), "{text} gave {problem}");
        }
    }

    #[test]
    fn times_and_after_count_matches() {
        let rules = vec![Rule::new(On::Any, Act::CutAfter).times(2).after(1), Rule::new(On::Content, Act::Garbage)];
        let mut faults = Faults::new(0, rules).unwrap();
        let mut draw = |on| faults.draw(on).map(|rule| rule.act);
        assert_eq!(draw(On::Content), Some(Act::Garbage), "the first rule lets one pass, the second does not");
        assert_eq!(draw(On::Embeddings), Some(Act::CutAfter));
        assert_eq!(draw(On::BatchOutcome), None, "a fate is no request");
        assert_eq!(draw(On::Batches), Some(Act::CutAfter));
        assert_eq!(draw(On::Batches), None);
    }

    #[test]
    fn a_seed_replays_and_another_does_not() {
        let run = |seed| {
            let rules = vec![Rule::new(On::Embeddings, Act::Garbage).probability(0.3)];
            let mut faults = Faults::new(seed, rules).unwrap();
            (0..1000).map(|_| faults.draw(On::Embeddings).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let fired = run(7).iter().filter(|fired| **fired).count();
        assert!((240..360).contains(&fired), "{fired}");
    }
}
