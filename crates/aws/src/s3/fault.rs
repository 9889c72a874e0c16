//! Explains faults of S3 whose code alone does not tell what to do.

use crate::{Fault, FaultKind};

const ARCHIVED: &str = "the object is archived (Glacier); restore it with `aws s3api restore-object` before reading it";
const NO_REASON: &str = "the server gave no reason; the credentials may have expired";

/// Returns a fault with a message that says what to do. `header` is the region of the bucket that the reply names, and
/// `region` is the region that the request was sent to.
pub(super) fn explained(fault: Fault, header: Option<&str>, region: Option<&str>) -> Fault {
    let expected = fault.message.split_once("expecting '").and_then(|(_, rest)| rest.split('\'').next());
    let redirects = matches!(fault.code.as_str(), "PermanentRedirect" | "TemporaryRedirect" | "HTTP 301" | "HTTP 307");
    let malformed = matches!(fault.code.as_str(), "AuthorizationHeaderMalformed" | "HTTP 400");
    if (redirects || malformed)
        && let Some(there) = header.or(expected).filter(|there| Some(*there) != region)
    {
        let message = format!(
            "the bucket is in region {there}, but requests go to {}; set `aws.region` to `{there}`",
            region.unwrap_or("no region")
        );
        return Fault::new(FaultKind::Invalid, "wrong region", message);
    }
    match fault.code.as_str() {
        "InvalidObjectState" => Fault::new(FaultKind::Invalid, fault.code, ARCHIVED),
        // Replies to HEAD requests have no body. The requests of this crate are valid, so the server rejects the caller.
        "HTTP 400" => Fault::new(FaultKind::Denied, fault.code, NO_REASON),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_of_another_region_is_named_and_an_expired_token_is_not_taken_for_one() {
        let malformed =
            "The authorization header is malformed; the region 'eu-central-1' is wrong; expecting 'eu-west-1'";
        let table = [
            ("PermanentRedirect", "use another endpoint", Some("eu-west-1"), "wrong region"),
            ("HTTP 301", "", Some("eu-west-1"), "wrong region"),
            ("AuthorizationHeaderMalformed", malformed, None, "wrong region"),
            ("AuthorizationHeaderMalformed", "the credential is malformed", None, "AuthorizationHeaderMalformed"),
            ("HTTP 400", "", Some("eu-west-1"), "wrong region"),
            ("HTTP 400", "", Some("eu-central-1"), "HTTP 400"),
            ("HTTP 400", "", None, "HTTP 400"),
            ("AccessDenied", "", Some("eu-west-1"), "AccessDenied"),
        ];
        for (code, message, header, expected) in table {
            let fault = explained(Fault::new(FaultKind::Denied, code, message), header, Some("eu-central-1"));
            let named = fault.message.contains("is in region eu-west-1") && fault.kind == FaultKind::Invalid;
            assert_eq!((fault.code.as_str(), named), (expected, expected == "wrong region"), "{code} {header:?}");
        }
    }
}
