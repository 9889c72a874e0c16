//! Defines the exit codes that `docweir --help` lists, and the failures that lead to them.

use std::process::ExitCode;

use docweir_core::error::{ErrorClass, StageError};
use docweir_index::VectorError;
use docweir_objects::ObjectError;
use docweir_stores::control::ControlError;
use docweir_stores::state::StateError;

use crate::config::{Origin, Problems};

/// Describes the outcome of the process, which determines the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Success,
    /// Nothing was found, or a check failed.
    Failed,
    Usage,
    /// Some documents are quarantined or unreadable.
    Rejected,
    Configuration,
    /// Another process is working on the state folder.
    Busy,
    /// Documents or records wait for the budget.
    Budget,
    /// System failure, such as a full disk or a broken store. No data is lost; the command can be run again.
    System,
    /// A signal with this number stopped the process.
    Signal(i32),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Rejected => 3,
            Exit::Configuration => 4,
            Exit::Busy => 5,
            Exit::Budget => 6,
            Exit::System => 70,
            Exit::Signal(number) => u8::try_from(number).unwrap_or(127).saturating_add(128),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Describes why a command failed. Holds the exit code, and the lines to print to standard error, one for each
/// problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub lines: Vec<String>,
}

impl Failure {
    pub fn new(exit: Exit, line: impl Into<String>) -> Self {
        Self { exit, lines: vec![line.into()] }
    }

    /// Creates a failure with exit code 1. This code means either that nothing was found, or that a check failed.
    pub fn no(line: impl Into<String>) -> Self {
        Self::new(Exit::Failed, line)
    }

    pub fn usage(line: impl Into<String>) -> Self {
        Self::new(Exit::Usage, line)
    }

    pub fn system(line: impl Into<String>) -> Self {
        Self::new(Exit::System, line)
    }
}

/// Converts configuration problems to a failure. The exit code is `Exit::Usage` if all wrong values come from the
/// command line, and `Exit::Configuration` otherwise.
impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let typed = problems.0.iter().all(|p| matches!(p.origin, Origin::Argument(_)));
        let exit = if typed { Exit::Usage } else { Exit::Configuration };
        Self { exit, lines: problems.0.iter().map(ToString::to_string).collect() }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match &error {
            ControlError::NotFound(_) | ControlError::Refused(_) | ControlError::Fenced(_) => Exit::Failed,
            ControlError::Busy(_) => Exit::Busy,
            ControlError::Denied { .. } | ControlError::Storage { .. } => Exit::System,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        let exit = if matches!(error, ObjectError::NotFound(_)) { Exit::Failed } else { Exit::System };
        Self::new(exit, error.to_string())
    }
}

impl From<VectorError> for Failure {
    fn from(error: VectorError) -> Self {
        let exit = match &error {
            VectorError::Query(_) => Exit::Usage,
            VectorError::ModelMismatch { .. } | VectorError::BadCollection(_) | VectorError::Memory { .. } => {
                Exit::Configuration
            }
            other if other.class() == ErrorClass::Permanent => Exit::Failed,
            _ => Exit::System,
        };
        Self::new(exit, error.to_string())
    }
}

/// Describes why a command could not open a store or another resource. Also holds the exit code for this failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineError {
    pub text: String,
    pub exit: Exit,
}

impl EngineError {
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { text: text.into(), exit }
    }

    pub fn system(error: impl std::fmt::Display) -> Self {
        Self::new(Exit::System, error.to_string())
    }
}

impl EngineError {
    /// Adds an exit code to a failed write of vectors, to the index or to a target that replaces the index. This
    /// conversion is used only by commands that do not run the pipeline.
    pub fn of_target(error: StageError) -> Self {
        let exit = match error.code.as_str() {
            "model_mismatch" | "bad_collection" | "vector_memory_limit" => Exit::Configuration,
            _ if error.class == ErrorClass::Permanent => Exit::Failed,
            _ => Exit::System,
        };
        Self::new(exit, error.message)
    }
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for EngineError {}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Failure::new(error.exit, error.text)
    }
}

impl From<VectorError> for EngineError {
    fn from(error: VectorError) -> Self {
        let text = error.to_string();
        Self::new(Failure::from(error).exit, text)
    }
}

impl From<StateError> for EngineError {
    fn from(error: StateError) -> Self {
        let exit = match &error {
            StateError::Missing(_) => Exit::Failed,
            StateError::Foreign(_) => Exit::Configuration,
            StateError::Newer { .. } | StateError::Damaged(_) | StateError::Storage { .. } => Exit::System,
        };
        Self::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_help_text() {
        let table = [
            (Exit::Success, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Rejected, 3),
            (Exit::Configuration, 4),
            (Exit::Busy, 5),
            (Exit::Budget, 6),
            (Exit::System, 70),
            (Exit::Signal(2), 130),
            (Exit::Signal(15), 143),
        ];
        for (exit, code) in table {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_a_no_and_what_is_broken_is_the_system_s_failure() {
        assert_eq!(Failure::from(ControlError::NotFound("doc_x".into())).exit, Exit::Failed);
        assert_eq!(Failure::from(ControlError::Busy("locked".into())).exit, Exit::Busy);
        assert_eq!(Failure::from(VectorError::Query("an empty query".into())).exit, Exit::Usage);
        let full =
            ObjectError::Storage { what: "write", key: "k".into(), reason: "full".into(), hint: "free some space" };
        assert_eq!(Failure::from(full).exit, Exit::System);
    }
}
