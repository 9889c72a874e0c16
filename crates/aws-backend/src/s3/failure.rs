//! Converts the faults of S3 calls to the errors of object stores, [`ObjectError`].

use docweir_aws::{Fault, FaultKind};

use docweir_objects::ObjectError;

/// Converts the fault of a read, or of another call that is safe to repeat, to an object error.
pub(super) fn not_read(what: &'static str, key: &str, fault: Fault) -> ObjectError {
    match fault.kind {
        FaultKind::NotFound if fault.code != "NoSuchBucket" => ObjectError::NotFound(key.to_owned()),
        _ => lasting(what, key, &fault).unwrap_or_else(|| passing(what, key, &fault)),
    }
}

/// Converts the fault of a call on the whole bucket to an object error. Such a call never fails because a single
/// object is missing.
pub(super) fn not_listed(what: &'static str, location: &str, fault: Fault) -> ObjectError {
    lasting(what, location, &fault).unwrap_or_else(|| passing(what, location, &fault))
}

/// Converts the fault of a write to an object error. A conditional write can fail with a conflict.
pub(super) fn not_written(key: &str, fault: Fault, conditional: bool) -> ObjectError {
    match fault.kind {
        // `If-Match` on a missing object fails with `NoSuchKey`.
        FaultKind::Condition | FaultKind::Conflict if conditional => ObjectError::Conflict(key.to_owned()),
        FaultKind::NotFound if conditional && fault.code != "NoSuchBucket" => ObjectError::Conflict(key.to_owned()),
        FaultKind::Unknown => ObjectError::Unknown { key: key.to_owned(), reason: fault.to_string() },
        _ => lasting("write", key, &fault).unwrap_or_else(|| passing("write", key, &fault)),
    }
}

fn passing(what: &'static str, key: &str, fault: &Fault) -> ObjectError {
    // Credentials are renewed and permissions are restored without a change to the request.
    let hint = if fault.kind == FaultKind::Denied { DENIED } else { "" };
    ObjectError::Transient { what, key: key.to_owned(), reason: format!("{fault}{hint}") }
}

const DENIED: &str = "; check the credentials, and allow them s3:GetObject, s3:PutObject, s3:DeleteObject, \
                      s3:AbortMultipartUpload and s3:ListBucket";

/// Returns the error for a fault that no retry can fix, or `None` for other faults.
fn lasting(what: &'static str, key: &str, fault: &Fault) -> Option<ObjectError> {
    let hint = match (fault.kind, fault.code.as_str()) {
        (FaultKind::NotFound, "NoSuchBucket") => "create the bucket, or configure another one",
        (FaultKind::Invalid, "InvalidObjectState") => return Some(ObjectError::Archived(key.to_owned())),
        (FaultKind::Invalid, "too large") => {
            return Some(ObjectError::TooLarge { key: key.to_owned(), reason: fault.message.clone() });
        }
        (FaultKind::Invalid, _) => "check the bucket, the region and the options of S3",
        _ => return None,
    };
    Some(ObjectError::Storage { what, key: key.to_owned(), reason: fault.to_string(), hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_means_depends_on_what_was_asked() {
        let fault = |kind, code: &str| Fault::new(kind, code, "m");
        let name = |error: ObjectError| match error {
            ObjectError::NotFound(_) => "not found",
            ObjectError::Conflict(_) => "conflict",
            ObjectError::Unknown { .. } => "unknown",
            ObjectError::Archived(_) => "archived",
            ObjectError::TooLarge { .. } => "too large",
            ObjectError::Storage { .. } => "storage",
            ObjectError::BadKey(_) => "bad key",
            ObjectError::Transient { .. } => "transient",
        };
        use FaultKind::*;
        // Columns: kind and code of the fault; expected error of a read, of a conditional write, of an unconditional
        // write.
        let table = [
            (Condition, "PreconditionFailed", "transient", "conflict", "transient"),
            (Conflict, "ConditionalRequestConflict", "transient", "conflict", "transient"),
            (NotFound, "NoSuchKey", "not found", "conflict", "transient"),
            (NotFound, "NoSuchBucket", "storage", "storage", "storage"),
            (Denied, "AccessDenied", "transient", "transient", "transient"),
            (Invalid, "InvalidArgument", "storage", "storage", "storage"),
            (Throttled, "SlowDown", "transient", "transient", "transient"),
            (Unreachable, "no answer", "transient", "transient", "transient"),
            (Unknown, "timeout", "transient", "unknown", "unknown"),
        ];
        for (kind, code, read, conditional, plain) in table {
            assert_eq!(name(not_read("read", "k", fault(kind, code))), read, "{code}");
            assert_eq!(name(not_written("k", fault(kind, code), true)), conditional, "{code}");
            assert_eq!(name(not_written("k", fault(kind, code), false)), plain, "{code}");
        }
    }
}
