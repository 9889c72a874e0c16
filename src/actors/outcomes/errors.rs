//! Converts errors of the control store and of the object store to stage errors.

use docweir_core::error::{ErrorClass, StageError};
use docweir_objects::ObjectError;
use docweir_stores::control::ControlError;

/// Converts an error of the control store. A full or damaged store is a system failure, which does not count as a
/// failed attempt of any document.
pub fn control(error: ControlError) -> StageError {
    let class = match &error {
        ControlError::Storage { .. } => ErrorClass::System,
        ControlError::Busy(_) => ErrorClass::Transient,
        ControlError::NotFound(_) | ControlError::Refused(_) | ControlError::Fenced(_) => ErrorClass::Permanent,
    };
    StageError::new(class, "control_store", error.to_string())
}

/// Converts an error of the object store. A full or read-only disk is a system failure, which does not count as a
/// failed attempt of any document. Most other errors are transient.
pub fn storage(error: ObjectError) -> StageError {
    let class = match &error {
        ObjectError::Storage { .. } => ErrorClass::System,
        ObjectError::BadKey(_) | ObjectError::Archived(_) => ErrorClass::Permanent,
        ObjectError::NotFound(_) | ObjectError::Conflict(_) | ObjectError::Unknown { .. } => ErrorClass::Transient,
        ObjectError::Transient { .. } => ErrorClass::Transient,
    };
    StageError::new(class, "object_store", error.to_string())
}
