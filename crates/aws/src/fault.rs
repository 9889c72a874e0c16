//! What a failed call came to.

use std::fmt;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// There is no such object, item, table or queue.
    NotFound,
    /// A condition of a write did not hold: it was not applied.
    Condition,
    /// Somebody else was writing at the same moment: it was not applied, and may be tried again.
    Conflict,
    /// Asked for less. Not applied.
    Throttled,
    /// Not allowed, or not known who asks. Not applied.
    Denied,
    /// Refused for what it asks. Not applied, and it never will be.
    Invalid,
    /// Nobody took the call: not applied, and may be tried again.
    Unreachable,
    /// It may have been applied or not: a lost reply, a time that ran out, a failure of the service.
    Unknown,
}

impl FaultKind {
    /// Returns whether the failure may pass by itself. A call that is [`FaultKind::Unknown`] may have been applied
    /// nevertheless.
    pub fn can_pass(self) -> bool {
        matches!(self, Self::Conflict | Self::Throttled | Self::Unreachable | Self::Unknown)
    }
}

/// A failed call. Holds nothing of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// The service's own word, such as `NoSuchKey`; ours where it gave none.
    pub code: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.is_empty() {
            true => f.write_str(&self.code),
            false => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

impl std::error::Error for Fault {}

impl Fault {
    pub fn new(kind: FaultKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into() }
    }

    /// Of a failed call of any service.
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match error {
            SdkError::ServiceError(e) => {
                let status = e.raw().status().as_u16();
                let code = e.err().code().map_or_else(|| format!("HTTP {status}"), str::to_owned);
                let message = e.err().message().unwrap_or_default();
                Self::new(kind(&code, status), code, message)
            }
            SdkError::ConstructionFailure(_) => Self::new(FaultKind::Invalid, "not sent", chain(error)),
            SdkError::TimeoutError(_) => Self::new(FaultKind::Unknown, "timeout", chain(error)),
            SdkError::DispatchFailure(e) => {
                let never = e.is_user() || e.as_connector_error().is_some_and(|e| e.is_other() && no_credentials(e));
                let kind = match never {
                    true => FaultKind::Denied,
                    false if refused(error) => FaultKind::Unreachable,
                    false => FaultKind::Unknown,
                };
                Self::new(kind, "no answer", chain(error))
            }
            SdkError::ResponseError(e) => {
                let status = e.raw().status().as_u16();
                let kind = if status == 429 || status == 503 { FaultKind::Throttled } else { FaultKind::Unknown };
                Self::new(kind, format!("HTTP {status}"), chain(error))
            }
            _ => Self::new(FaultKind::Unknown, "unknown", chain(error)),
        }
    }
}

/// By the services' own words first: one status has many meanings.
pub(crate) fn kind(code: &str, status: u16) -> FaultKind {
    match code {
        "PreconditionFailed"
        | "ConditionalCheckFailedException"
        // Somebody else has received the message since, or it was deleted.
        | "ReceiptHandleIsInvalid"
        | "MessageNotInflight"
        | "AWS.SimpleQueueService.MessageNotInflight" => FaultKind::Condition,
        "ConditionalRequestConflict"
        | "OperationAborted"
        | "TransactionConflictException"
        | "ResourceInUseException" => FaultKind::Conflict,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "ProvisionedThroughputExceededException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "LimitExceededException"
        | "PriorRequestNotComplete"
        | "OverLimit"
        | "ServiceUnavailable"
        | "KmsThrottled"
        | "KMS.ThrottlingException"
        | "EC2ThrottledException" => FaultKind::Throttled,
        "NoSuchKey"
        | "NoSuchBucket"
        | "NotFound"
        | "ResourceNotFoundException"
        | "NoSuchUpload"
        | "NoSuchVersion"
        | "AWS.SimpleQueueService.NonExistentQueue"
        | "QueueDoesNotExist"
        | "NoSuchLifecycleConfiguration" => FaultKind::NotFound,
        "AccessDenied"
        | "AccessDeniedException"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidToken"
        | "RequestTimeTooSkewed"
        | "AuthorizationHeaderMalformed"
        | "KMSAccessDeniedException"
        | "DecryptionFailure" => FaultKind::Denied,
        // Our own, sent before: it may still be carried out.
        "TransactionInProgressException" => FaultKind::Unknown,
        // What was sent has not arrived in time, or not as it was sent: it was not carried out.
        "RequestTimeout" | "RequestTimeoutException" | "BadDigest" | "IncompleteBody" => FaultKind::Unreachable,
        "NotImplemented" | "MethodNotAllowed" => FaultKind::Invalid,
        _ => match status {
            404 => FaultKind::NotFound,
            401 | 403 => FaultKind::Denied,
            409 => FaultKind::Conflict,
            412 => FaultKind::Condition,
            429 | 503 => FaultKind::Throttled,
            400..=499 | 501 => FaultKind::Invalid,
            _ => FaultKind::Unknown,
        },
    }
}

/// The error and its causes, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| e.source())
}

/// Whether the connection was never made.
fn refused(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).filter_map(|e| e.downcast_ref::<std::io::Error>()).any(|e| {
        use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
        matches!(e.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable)
    })
}

fn no_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|e| e.downcast_ref::<aws_credential_types::provider::error::CredentialsError>().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_status_has_many_meanings() {
        let table = [
            ("PreconditionFailed", 412, FaultKind::Condition),
            ("ConditionalRequestConflict", 409, FaultKind::Conflict),
            ("NoSuchKey", 404, FaultKind::NotFound),
            ("SlowDown", 503, FaultKind::Throttled),
            ("ProvisionedThroughputExceededException", 400, FaultKind::Throttled),
            ("ConditionalCheckFailedException", 400, FaultKind::Condition),
            ("ValidationException", 400, FaultKind::Invalid),
            ("AccessDenied", 403, FaultKind::Denied),
            ("ExpiredToken", 400, FaultKind::Denied),
            ("InternalError", 500, FaultKind::Unknown),
            ("RequestTimeout", 400, FaultKind::Unreachable),
            ("TransactionInProgressException", 400, FaultKind::Unknown),
            ("HTTP 404", 404, FaultKind::NotFound),
            ("HTTP 418", 418, FaultKind::Invalid),
            ("HTTP 501", 501, FaultKind::Invalid),
            ("BadDigest", 400, FaultKind::Unreachable),
            ("ReceiptHandleIsInvalid", 404, FaultKind::Condition),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, FaultKind::NotFound),
        ];
        for (code, status, expected) in table {
            assert_eq!(kind(code, status), expected, "{code} {status}");
        }
    }
}
