//! Converts the faults of DynamoDB calls to errors of the control store.

use docweir_aws::{Fault, FaultKind};

use docweir_stores::control::ControlError;

pub fn told(location: &str, fault: &Fault) -> ControlError {
    if fault.kind.can_pass() {
        return ControlError::Busy(format!("{location} ({fault})"));
    }
    let (location, reason) = (location.to_owned(), fault.to_string());
    let hint = match fault.kind {
        FaultKind::NotFound => "create the missing table or index with `docweir infra apply`",
        FaultKind::Denied => {
            let hint = "check the credentials and their permissions; `docweir doctor` names missing permissions";
            return ControlError::Denied { location, reason, hint };
        }
        _ => "report this with the log",
    };
    ControlError::Storage { location, reason, hint }
}
