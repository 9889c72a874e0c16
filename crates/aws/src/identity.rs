//! STS: who asks, and what time it is there.

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

/// Who calls are made by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    /// `arn:aws:iam::…:user/…`, `arn:aws:sts::…:assumed-role/…`.
    pub arn: String,
}

/// An answer, and when it was given.
#[derive(Clone, Debug)]
pub struct Introduction {
    pub identity: Result<Identity, Fault>,
    /// The `Date` of the answer, a refusal too, in Unix seconds; `None` where there was no answer.
    pub date: Option<i64>,
}

/// Asks who the credentials belong to. Allowed to everybody whom AWS knows.
pub async fn introduce(aws: &Aws) -> Introduction {
    let dates = Dates::default();
    let call = Client::new(&aws.sdk).get_caller_identity().customize().interceptor(dates.clone());
    let answer = answered("sts", "GetCallerIdentity", call.send().await);
    let identity = answer
        .map(|answer| Identity { account: answer.account.unwrap_or_default(), arn: answer.arn.unwrap_or_default() });
    let date = *dates.0.lock().unwrap_or_else(PoisonError::into_inner);
    Introduction { identity, date }
}

/// Keeps the last answer's date.
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
