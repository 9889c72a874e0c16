//! Converts errors of the control store to errors of a stage.

use docweir_core::error::{ErrorClass, StageError};
use docweir_stores::control::ControlError;

/// Converts an error of the control store. A full or damaged store is a system failure, which counts against no
/// document.
pub fn control(error: ControlError) -> StageError {
    let class = match &error {
        ControlError::Storage { .. } => ErrorClass::System,
        ControlError::Busy(_) => ErrorClass::Transient,
        ControlError::NotFound(_) | ControlError::Refused(_) | ControlError::Fenced(_) => ErrorClass::Permanent,
    };
    StageError::new(class, "control_store", error.to_string())
}
