//! Converts errors of the control store and of the object store to stage errors.

use docweir_core::error::{ErrorClass, StageError};
use docweir_objects::ObjectError;
use docweir_stores::control::ControlError;

/// Converts an error of the control store. A full or damaged store is a system failure. A store that does not answer or
/// denies access is an outage. Neither counts as a failed attempt of any document.
pub fn control(error: ControlError) -> StageError {
    let class = match &error {
        ControlError::Storage { .. } => ErrorClass::System,
        ControlError::Busy(_) | ControlError::Denied { .. } => ErrorClass::Unavailable,
        ControlError::NotFound(_) | ControlError::Refused(_) | ControlError::Fenced(_) => ErrorClass::Permanent,
    };
    StageError::new(class, "control_store", error.to_string())
}

/// Converts an error of Docweir's object store. A full or read-only disk is a system failure, and a store that does not
/// answer is an outage. Neither counts as a failed attempt of any document.
pub fn storage(error: ObjectError) -> StageError {
    let class = match &error {
        ObjectError::Storage { .. } => ErrorClass::System,
        ObjectError::BadKey(_) | ObjectError::Archived(_) | ObjectError::TooLarge { .. } => ErrorClass::Permanent,
        ObjectError::NotFound(_) => ErrorClass::Transient,
        // Another writer was faster several times, or the store was.
        ObjectError::Conflict(_) | ObjectError::Unknown { .. } | ObjectError::Transient { .. } => {
            ErrorClass::Unavailable
        }
    };
    StageError::new(class, "object_store", error.to_string())
}
