//! Classifies the errors of failed calls.

use std::fmt;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// Classifies a failure by how the caller can react.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The object, item, table or queue does not exist.
    NotFound,
    /// The condition of a write did not hold. The write was not applied.
    Condition,
    /// A concurrent write conflicted with this one. The call was not applied and may be retried.
    Conflict,
    /// The service throttled the call. The call was not applied and may be retried at a lower rate.
    Throttled,
    /// The caller is not allowed to make the call, the credentials are missing, invalid or expired, the clock is wrong,
    /// or a KMS key cannot be used. The call was not applied. People repair this without a change to the request.
    Denied,
    /// The service rejected the request as invalid. The call was not applied, and a retry fails as well.
    Invalid,
    /// The request did not reach the service. The call was not applied and may be retried.
    Unreachable,
    /// It is unknown whether the call was applied: the reply was lost, the call timed out, or the service failed.
    Unknown,
}

impl FaultKind {
    /// Returns whether a retry may succeed. This includes [`FaultKind::Unknown`], although the first call may already
    /// have been applied.
    pub fn can_pass(self) -> bool {
        matches!(self, Self::Conflict | Self::Throttled | Self::Unreachable | Self::Unknown)
    }
}

/// Describes a failed call. Contains no part of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// Error code of the service, such as `NoSuchKey`. If the service returned no code, this crate sets one.
    pub code: String,
    /// Description of the failure, for humans.
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

    /// Classifies the SDK error of any service.
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

/// Classifies an error by its code, or by its HTTP status if the code is unknown. The code comes first, because one
/// status has many meanings.
pub(crate) fn kind(code: &str, status: u16) -> FaultKind {
    if code.contains("Throttl") {
        return FaultKind::Throttled;
    }
    // KMS reports disabled, deleted and forbidden keys with many codes, such as `KMS.DisabledException`.
    if code.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("kms")) {
        return FaultKind::Denied;
    }
    match code {
        "PreconditionFailed"
        | "ConditionalCheckFailedException"
        // Another consumer has received the message since, or the message was deleted.
        | "ReceiptHandleIsInvalid"
        | "MessageNotInflight"
        | "AWS.SimpleQueueService.MessageNotInflight" => FaultKind::Condition,
        "ConditionalRequestConflict"
        | "OperationAborted"
        | "TransactionConflictException"
        | "ResourceInUseException" => FaultKind::Conflict,
        "SlowDown"
        | "ProvisionedThroughputExceededException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "LimitExceededException"
        | "PriorRequestNotComplete"
        | "OverLimit"
        | "ServiceUnavailable" => FaultKind::Throttled,
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
        | "AllAccessDisabled"
        | "AccountProblem"
        | "AuthFailure"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "TokenRefreshRequired"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidToken"
        | "InvalidSecurity"
        | "RequestTimeTooSkewed"
        | "AuthorizationHeaderMalformed"
        | "DecryptionFailure"
        | "InaccessibleEncryptionCredentialsException" => FaultKind::Denied,
        // An earlier attempt of this process is still in progress and may yet be applied.
        "TransactionInProgressException" => FaultKind::Unknown,
        // The service received the request too late or damaged, and did not apply it.
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

/// Returns the error and its causes in one line.
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

/// Returns whether the error means that no connection was established.
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
            ("InvalidToken", 400, FaultKind::Denied),
            ("TokenRefreshRequired", 400, FaultKind::Denied),
            ("RequestTimeTooSkewed", 403, FaultKind::Denied),
            ("InvalidClientTokenId", 403, FaultKind::Denied),
            ("KMS.DisabledException", 400, FaultKind::Denied),
            ("KMS.KMSInvalidStateException", 409, FaultKind::Denied),
            ("KmsInvalidState", 400, FaultKind::Denied),
            ("KMS.NotFoundException", 400, FaultKind::Denied),
            ("KMS.ThrottlingException", 400, FaultKind::Throttled),
            ("KmsThrottled", 400, FaultKind::Throttled),
            ("ThrottlingException", 400, FaultKind::Throttled),
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
