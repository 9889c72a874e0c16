//! Parses the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::dialect::Dialect;
use crate::faults;
use crate::options::{Model, Options};

pub const HELP: &str = "\
Runs a mock provider of the OpenAI-compatible API and of Amazon Comprehend. It prints
`listening on http://127.0.0.1:PORT/v1`, then serves until standard input closes. Comprehend is at the same address,
without `/v1`.

Usage: docweir-mock-provider [OPTIONS]

Server:
  --port N                        port; 0 selects any free port (default 0)
  --key KEY                       a valid key; repeat for several (default test-key)
  --data DIR                      folder that keeps files, batches and charges across restarts (default: temporary)
  --seed N                        seed of faults and ids (default 0)
  --root PATH                     path of the API (default /v1)
  --redirect ADDRESS              address or path that replaces the path of the API; requests get the status 307
  --dialect NAME                  form in which replies differ from OpenAI's, such as usage_null; repeat for several
  --keep-running                  keeps serving after standard input closes
  --help                          prints this text

Models:
  --model NAME=DIMENSIONS[@USD]   additional embedding model; USD per million tokens (default 0.02)
  --model-folder DIR              folder of a docweir-encoder model, used for vectors of the model's dimension

Limits:
  --rpm N                         requests per minute for each key and model (default none)
  --tpm N                         tokens per minute for each key and model (default none)
  --burst-share X                 share of a minute's budget that may be used at once, 0 to 1 (default 1)
  --max-concurrent N              maximum number of concurrent requests (default none)
  --quota-usd X                   maximum charges in US dollars (default none)
  --max-inputs N                  maximum inputs per request (default 2048)
  --max-input-tokens N            maximum tokens per input (default 8192)
  --max-request-tokens N          maximum tokens per request (default 300000)
  --max-batch-requests N          maximum requests per batch (default 50000)
  --max-batch-inputs N            maximum embedding inputs per batch (default 50000)
  --max-batch-bytes N             maximum size of a batch's input file (default 200000000)
  --enqueued-tokens N             maximum tokens of a model's unfinished batches (default 3000000)

Comprehend:
  --units-usd X                   US dollars per unit of 100 characters (default 0.0001)
  --rps N                         requests per second for each operation (default none)

Batches:
  --validate-seconds X            duration of validation (default 0.05)
  --process-items-per-second X    maximum number of processed batch rows per second (default: no limit)
  --finalize-seconds X            duration of finalizing (default 0.05)
  --expire-seconds X              time from creation to expiry (default 86400)
  --ranges                        serves parts of files (HTTP Range)
  --floats                        writes vectors as numbers, even if base64 is requested

Charges and faults:
  --charges-by-text                 counts the charges of each text by its SHA-256
  --faults FILE                   file with a JSON list of rules, as for POST /_mock/faults

Control endpoints: GET /_mock/charges[?short=1]; GET, POST, DELETE /_mock/faults.
";

/// Holds the parsed command line.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub options: Options,
    pub help: bool,
    pub keep_running: bool,
}

impl Arguments {
    pub fn read(words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut words = words;
        let mut options = Options::default();
        let (mut keys, mut help, mut keep_running) = (Vec::new(), false, false);
        while let Some(name) = words.next() {
            let name = name.to_string_lossy().into_owned();
            match name.as_str() {
                "--help" | "-h" | "help" => help = true,
                "--keep-running" => keep_running = true,
                "--ranges" => options.ranges = true,
                "--floats" => options.floats = true,
                "--charges-by-text" => options.charges_by_text = true,
                _ => {
                    let value = words.next();
                    let value = Value { name: &name, given: value.as_ref() };
                    if name == "--key" {
                        keys.push(value.text()?);
                    } else {
                        set(&mut options, &name, &value)?;
                    }
                }
            }
        }
        if !keys.is_empty() {
            options.keys = keys;
        }
        Ok(Self { options, help, keep_running })
    }
}

struct Value<'a> {
    name: &'a str,
    given: Option<&'a OsString>,
}

impl Value<'_> {
    fn path(&self) -> Result<PathBuf, String> {
        self.given.map(PathBuf::from).ok_or_else(|| format!("{} needs a value", self.name))
    }

    fn text(&self) -> Result<String, String> {
        Ok(self.path()?.to_string_lossy().into_owned())
    }

    fn number<T: FromStr>(&self) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("{} {text}: not a number, or out of range", self.name))
    }

    fn amount(&self) -> Result<f64, String> {
        let amount: f64 = self.number()?;
        match (0.0..=1e9).contains(&amount) {
            true => Ok(amount),
            false => Err(format!("{} {amount}: must be from 0 to 1,000,000,000", self.name)),
        }
    }

    fn seconds(&self) -> Result<Duration, String> {
        Ok(Duration::from_secs_f64(self.amount()?))
    }
}

fn set(options: &mut Options, name: &str, value: &Value) -> Result<(), String> {
    let Options { limits, pace, rates, comprehend, .. } = options;
    match name {
        "--port" => options.port = value.number()?,
        "--data" => options.data = Some(value.path()?),
        "--root" => options.root = value.text()?,
        "--redirect" => options.redirect = Some(value.text()?),
        "--dialect" => {
            let name = value.text()?;
            let dialect = Dialect::parse(&name).ok_or_else(|| format!("--dialect {name}: unknown dialect"))?;
            options.dialects.push(dialect);
        }
        "--seed" => options.seed = value.number()?,
        "--model" => options.models.insert(0, model(&value.text()?)?),
        "--model-folder" => options.model_folder = Some(value.path()?),
        "--rpm" => rates.requests_per_minute = Some(value.number()?),
        "--tpm" => rates.tokens_per_minute = Some(value.number()?),
        "--burst-share" => rates.burst_share = value.amount()?.min(1.0),
        "--max-concurrent" => limits.concurrent_requests = Some(value.number()?),
        "--quota-usd" => options.quota_usd = Some(value.amount()?),
        "--max-inputs" => limits.inputs_per_request = value.number()?,
        "--max-input-tokens" => limits.tokens_per_input = value.number()?,
        "--max-request-tokens" => limits.tokens_per_request = value.number()?,
        "--max-batch-requests" => limits.requests_per_batch = value.number()?,
        "--max-batch-inputs" => limits.inputs_per_batch = value.number()?,
        "--max-batch-bytes" => limits.batch_file_bytes = value.number()?,
        "--enqueued-tokens" => limits.enqueued_tokens = value.number()?,
        "--units-usd" => comprehend.usd_per_unit = value.amount()?,
        "--rps" => comprehend.requests_per_second = Some(value.amount()?.max(1e-3)),
        "--validate-seconds" => pace.validate = value.seconds()?,
        "--process-items-per-second" => pace.items_per_second = Some(value.amount()?.max(1e-3)),
        "--finalize-seconds" => pace.finalize = value.seconds()?,
        "--expire-seconds" => pace.expire = value.seconds()?,
        "--faults" => {
            let path = value.path()?;
            let text = std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            options.faults = faults::read(&text).map_err(|problem| format!("{}: {problem}", path.display()))?;
        }
        _ => return Err(format!("unknown option {name}; see --help")),
    }
    Ok(())
}

/// Parses `NAME=DIMENSIONS` or `NAME=DIMENSIONS@USD`. The name must not contain `=` or `@`.
fn model(text: &str) -> Result<Model, String> {
    let wrong = || format!("--model {text}: expected NAME=DIMENSIONS or NAME=DIMENSIONS@USD");
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (dimensions, dollars) = rest.split_once('@').unwrap_or((rest, "0.02"));
    let dimensions = dimensions.parse().ok().filter(|n| (1..=65_536).contains(n)).ok_or_else(wrong)?;
    let dollars = dollars.parse().ok().filter(|usd| (0.0..=1e6).contains(usd)).ok_or_else(wrong)?;
    Ok(Model::embedding(name, dimensions, dollars))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read() {
        let read =
            read("--port 8080 --key a --key b --model tiny=384@0.5 --rpm 60 --expire-seconds 1.5 --ranges").unwrap();
        let options = read.options;
        assert_eq!((options.port, options.keys.len(), options.ranges), (8080, 2, true));
        assert_eq!(options.models[0], Model::embedding("tiny", 384, 0.5));
        assert_eq!(options.rates.requests_per_minute, Some(60));
        assert_eq!(options.pace.expire, Duration::from_millis(1500));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("--port", "needs a value"),
            ("--port http", "http"),
            ("--model tiny", "NAME=DIMENSIONS"),
            ("--model tiny=0", "NAME=DIMENSIONS"),
            ("--colour red", "--colour"),
            ("--quota-usd -1", "from 0"),
            ("--faults /does/not/exist", "/does/not/exist"),
        ] {
            let problem = read(line).unwrap_err();
            assert!(problem.contains(part), "{line:?} gave {problem:?}");
        }
    }

    #[test]
    fn the_help_names_every_option() {
        for line in include_str!("arguments.rs").lines().filter_map(|line| line.trim().strip_prefix("\"--")) {
            let name = line.split('"').next().unwrap();
            assert!(HELP.contains(&format!("--{name}")), "{name}");
        }
    }
}
