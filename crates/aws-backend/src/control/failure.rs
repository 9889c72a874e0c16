//! What a failed call means to whoever called the store.

use docweir_aws::{Fault, FaultKind};

use docweir_stores::control::ControlError;

pub fn told(location: &str, fault: &Fault) -> ControlError {
    if fault.kind.can_pass() {
        return ControlError::Busy(format!("{location} ({fault})"));
    }
    let hint = match fault.kind {
        FaultKind::NotFound => "`docweir infra apply` makes the tables",
        FaultKind::Denied => "look at the credentials and what they may do; `docweir doctor` says what is missing",
        _ => "report it with the log",
    };
    ControlError::Storage { location: location.to_owned(), reason: fault.to_string(), hint }
}
