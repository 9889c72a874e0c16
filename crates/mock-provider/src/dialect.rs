//! Changes replies into the forms that other servers with OpenAI's protocol send.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::unix_millis;
use crate::problem::Problem;
use crate::reply::{Content, Reply};

/// Word that marks a text. Only texts that contain this word are affected by [`Dialect::NullVector`],
/// [`Dialect::ZeroVector`], [`Dialect::CrashOnText`] and [`Dialect::VagueOnText`].
pub const UNEMBEDDABLE: &str = "unembeddable";

/// Names a form of reply that differs from OpenAI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `usage` is null.
    UsageNull,
    /// `prompt_tokens` is null; `total_tokens` is correct.
    UsagePartlyNull,
    /// The numbers in `usage` are floats.
    UsageFloat,
    UsageAbsent,
    IndexAbsent,
    /// The index of each vector is 0.
    IndexZero,
    /// An error has the HTTP status 200. Its real status is in the field `code` of the error.
    ErrorIn200,
    /// An error is a string in the field `error`.
    ErrorText,
    /// An error is a string in the field `detail`.
    ErrorDetail,
    /// Replies are compressed, even if the request does not allow it.
    Gzip,
    /// A request for base64 is refused.
    NoBase64,
    /// A batch with a text that is too long fails as a whole, and its errors name the lines of such texts.
    NamedLines,
    /// A marked text has the vector null.
    NullVector,
    /// A marked text has a vector of zeros.
    ZeroVector,
    /// A live request with a marked text makes the server fail.
    CrashOnText,
    /// A live request with a marked text is answered with the status 200 and an error without a reason.
    VagueOnText,
    /// The time to wait is sent as a date.
    RetryAfterDate,
    /// A request with too many texts is refused with the status 413 and a string.
    Limit413,
    /// A request with too many texts is refused with the status 422 and a list of problems.
    Limit422,
}

impl Dialect {
    /// Parses the name of a dialect, such as `usage_null`.
    pub fn parse(name: &str) -> Option<Self> {
        serde_json::from_value(json!(name)).ok()
    }
}

/// Returns the text of the field `usage`, with a leading comma. Returns an empty text if the field is left out.
pub fn usage(dialects: &[Dialect], tokens: u64) -> String {
    let value = match dialects.iter().find(|d| matches!(d, Dialect::UsageNull | Dialect::UsagePartlyNull)) {
        _ if dialects.contains(&Dialect::UsageAbsent) => return String::new(),
        Some(Dialect::UsageNull) => Value::Null,
        Some(_) => json!({"prompt_tokens": null, "total_tokens": tokens}),
        None if dialects.contains(&Dialect::UsageFloat) => {
            json!({"prompt_tokens": tokens as f64, "total_tokens": tokens as f64})
        }
        None => json!({"prompt_tokens": tokens, "total_tokens": tokens}),
    };
    format!(r#","usage":{value}"#)
}

/// Returns the text of the field `index`, with a trailing comma. Returns an empty text if the field is left out.
pub fn index(dialects: &[Dialect], index: usize) -> String {
    match dialects.iter().find(|d| matches!(d, Dialect::IndexAbsent | Dialect::IndexZero)) {
        Some(Dialect::IndexAbsent) => String::new(),
        Some(_) => r#""index":0,"#.into(),
        None => format!(r#""index":{index},"#),
    }
}

/// Returns the reply that reports a problem.
pub fn refusal(dialects: &[Dialect], problem: Problem) -> Reply {
    let (status, message, wait) = (problem.status, problem.message.clone(), problem.retry_after);
    let limit = problem.code == Some("array_above_max_length");
    let mut reply = Reply::from(problem);
    for dialect in dialects {
        let body = match dialect {
            Dialect::ErrorIn200 => {
                reply.status = 200;
                json!({"error": {"message": message, "code": status}})
            }
            Dialect::ErrorText => json!({"error": message}),
            Dialect::ErrorDetail => json!({"detail": message}),
            Dialect::Limit413 if limit => {
                reply.status = 413;
                json!({"error": "batch size 33 > maximum allowed batch size 32", "error_type": "Validation"})
            }
            Dialect::Limit422 if limit => {
                reply.status = 422;
                let text = "List should have at most 32 items after validation, not 33";
                json!({"detail": [{"type": "too_long", "loc": ["body", "input"], "msg": text}]})
            }
            Dialect::RetryAfterDate => {
                date_instead_of_seconds(&mut reply, wait);
                continue;
            }
            _ => continue,
        };
        reply.content = Content::Bytes(body.to_string().into());
    }
    reply
}

fn date_instead_of_seconds(reply: &mut Reply, wait: Option<Duration>) {
    let Some(wait) = wait else { return };
    reply.headers.retain(|(name, _)| !name.starts_with("retry-after"));
    let now = Duration::from_millis(unix_millis());
    // A date has whole seconds, so the wait is rounded up.
    let until = Duration::from_secs((now + wait).as_secs() + 1);
    reply.headers.push(("retry-after", httpdate::fmt_http_date(std::time::UNIX_EPOCH + until)));
}

/// Compresses a reply, if the dialect says so and the reply is in memory.
pub fn compressed(dialects: &[Dialect], reply: Reply) -> Reply {
    match reply.content {
        Content::Bytes(bytes) if dialects.contains(&Dialect::Gzip) => {
            let mut to = GzEncoder::new(Vec::new(), Compression::fast());
            // Writing to memory cannot fail.
            let packed = to.write_all(&bytes).and_then(|()| to.finish()).unwrap_or_default();
            let mut headers = reply.headers;
            headers.push(("content-encoding", "gzip".into()));
            Reply { content: Content::Bytes(Bytes::from(packed)), headers, ..reply }
        }
        content => Reply { content, ..reply },
    }
}
