//! Asks STS which identity the credentials belong to, and reads the server's time from the reply.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_sts::Client;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

use crate::Fault;
use crate::access::{Aws, answered};

/// Identifies the account, and the user or role that makes the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Account id of twelve digits.
    pub account: String,
    /// ARN of the user or role, such as `arn:aws:iam::…:user/…` or `arn:aws:sts::…:assumed-role/…`.
    pub arn: String,
}

/// Holds the identity that STS returned, and the time at which STS sent the reply.
#[derive(Clone, Debug)]
pub struct IdentityReply {
    pub identity: Result<Identity, Fault>,
    /// Time in the `Date` header of the reply, in Unix seconds; `None` if no reply arrived. Error replies have this
    /// header too.
    pub date: Option<i64>,
}

/// Asks STS which identity the credentials belong to. Every valid identity is allowed to make this call.
pub async fn caller_identity(aws: &Aws) -> IdentityReply {
    let dates = Dates::default();
    let call = Client::new(&aws.sdk).get_caller_identity().customize().interceptor(dates.clone());
    let answer = answered("sts", "GetCallerIdentity", call.send().await);
    let identity = answer
        .map(|answer| Identity { account: answer.account.unwrap_or_default(), arn: answer.arn.unwrap_or_default() });
    let date = *dates.0.lock().unwrap_or_else(PoisonError::into_inner);
    IdentityReply { identity, date }
}

/// Intercepts replies and stores the date of the last reply.
#[derive(Clone, Debug, Default)]
struct Dates(Arc<Mutex<Option<i64>>>);

impl Intercept for Dates {
    fn name(&self) -> &'static str {
        "Dates"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, Format::HttpDate).ok());
        if let Some(date) = date {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(date.secs());
        }
        Ok(())
    }
}
