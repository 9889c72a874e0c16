//! Checks AWS: credentials, clock, and access to all resources that the configuration uses.

mod services;
mod tables;

use std::time::Duration;

use bytes::Bytes;
use docweir_aws::cloudwatch::{self, CloudWatch};
use docweir_aws::dynamo::Dynamo;
use docweir_aws::identity::caller_identity;
use docweir_aws::s3::{Bucket, S3, When};
use docweir_aws::{Aws, Fault, FaultKind};
use docweir_core::clock::SharedClock;
use tokio::time::timeout;
use ulid::Ulid;

use super::Finding;
use crate::config::{Register, Settings, bucket_and_prefix};
use crate::infra::VERSIONED;
use crate::telemetry::CloudWatchMode;

/// Maximum clock skew that AWS accepts in signed requests, in seconds.
const REFUSED_SKEW_SECONDS: u64 = 300;

pub async fn examine(settings: &Settings, clock: &SharedClock, each: &mut dyn FnMut(Finding)) {
    let is_backend = !settings.state.is_local();
    let publishes = settings.cloudwatch.mode == CloudWatchMode::Api;
    let asks = services::are_used(settings);
    if !is_backend && !publishes && !asks && settings.secrets().is_empty() {
        return;
    }
    let aws = Aws::find(settings.aws.clone()).await;
    let Some(region) = aws.region() else {
        each(Finding::problem("region", "", "is not configured", "set `aws.region`, or AWS_REGION"));
        return;
    };
    each(Finding::fine("region", region, "is configured"));
    if !identity(settings, &aws, clock, each).await {
        return;
    }
    if is_backend {
        if settings.needs_tables() {
            let dynamo = Dynamo::new(&aws, &settings.dynamodb.endpoint);
            tables::examine(settings, &dynamo, each).await;
        }
        let s3 = S3::new(&aws, &settings.s3);
        let mut places = vec![settings.buckets.artefacts.as_str(), settings.buckets.vectors()];
        places.dedup();
        for place in places {
            let (bucket, prefix) = bucket_and_prefix(place);
            let swaps = place == settings.buckets.vectors() && settings.buckets.register == Register::S3;
            let found = within(settings, objects(&s3.bucket(bucket), prefix, swaps)).await;
            each(found.unwrap_or_else(|fault| blamed("bucket", place, "be used", &fault)));
            match within(settings, s3.bucket(bucket).is_versioned()).await {
                Ok(true) => each(Finding::warning(
                    "versions",
                    bucket,
                    VERSIONED,
                    "let a lifecycle rule expire noncurrent versions, or suspend versioning",
                )),
                Ok(false) => {}
                Err(fault) if fault.kind == FaultKind::NotFound => {}
                Err(fault) => each(blamed("versions", bucket, "be inspected", &fault)),
            }
        }
    }
    services::examine(settings, &aws, each).await;
    if publishes {
        each(figures(settings, &aws, clock).await);
    }
}

/// Checks the credentials and the clock. Returns `false` if further calls to AWS would fail.
async fn identity(settings: &Settings, aws: &Aws, clock: &SharedClock, each: &mut dyn FnMut(Finding)) -> bool {
    const CHECK: &str = "credentials";
    let by_service = !settings.s3.endpoint.is_empty() || !settings.dynamodb.endpoint.is_empty();
    if settings.aws.endpoint.is_empty() && by_service {
        let text = "cannot be checked: endpoints are set for single services, but no endpoint is set for STS";
        each(Finding::warning(CHECK, "", text, "set `aws.endpoint` if there is an endpoint that serves STS"));
        return true;
    }
    let limit = Duration::from_secs(settings.doctor.answer_seconds);
    let Ok(answer) = timeout(limit, caller_identity(aws)).await else {
        let text = format!("STS does not answer within {} s", limit.as_secs());
        each(Finding::problem(CHECK, "", text, "check the network and `aws.endpoint`"));
        return false;
    };
    if let Some(date) = answer.date {
        each(skew(clock.now() / 1_000_000, date, settings.doctor.max_skew_seconds));
    }
    match answer.identity {
        Ok(identity) => {
            each(Finding::fine(CHECK, identity.account, identity.arn));
            true
        }
        Err(fault) => {
            let fix = match fault.kind {
                FaultKind::Denied => {
                    "provide credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the \
                     container or machine; `aws sts get-caller-identity` makes the same check"
                }
                _ => "check the network, `aws.region` and `aws.endpoint`",
            };
            each(Finding::problem(CHECK, "", format!("AWS rejects the credentials: {fault}"), fix));
            false
        }
    }
}

/// Compares the local time `here` with the time of AWS `there`, both in Unix seconds. The time of AWS comes from the
/// date header of a response, so a difference of one second is normal.
fn skew(here: i64, there: i64, most: u64) -> Finding {
    const CHECK: &str = "clock";
    let by = here.abs_diff(there);
    if by <= most {
        return Finding::fine(CHECK, "", format!("within {} s of AWS's clock", by.max(1)));
    }
    let way = if here > there { "ahead of" } else { "behind" };
    let harm = match by > REFUSED_SKEW_SECONDS {
        true => "AWS refuses signed requests, and leases expire at the wrong time",
        false => "leases expire at the wrong time",
    };
    let text = format!("is {by} s {way} AWS's clock: {harm}");
    Finding::problem(
        CHECK,
        "",
        text,
        "synchronise the clock with NTP: `timedatectl set-ntp true`, or chrony on the host of a container",
    )
}

/// Tests every operation that a run performs on objects. The operations of the test are performed on an object that
/// is used only for this test.
async fn objects(bucket: &Bucket, prefix: &str, swaps: bool) -> Result<Finding, Fault> {
    const CHECK: &str = "bucket";
    let subject = match prefix {
        "" => bucket.name().to_owned(),
        prefix => format!("{}/{prefix}", bucket.name()),
    };
    if !bucket.exists().await? {
        return Ok(Finding::problem(CHECK, subject, "does not exist", "`docweir infra apply` creates it"));
    }
    let folder = if prefix.is_empty() { "doctor/".to_owned() } else { format!("{prefix}/doctor/") };
    let key = format!("{folder}{}", Ulid(fastrand::u128(..)));
    let tried = async {
        let step = |what: &'static str| move |fault: Fault| (what, fault);
        bucket.put(&key, Bytes::from_static(b"1"), &When::Absent).await.map_err(step("be written"))?;
        let again = bucket.put(&key, Bytes::from_static(b"2"), &When::Absent).await;
        let keeps = match again {
            Err(fault) if matches!(fault.kind, FaultKind::Condition | FaultKind::Conflict) => true,
            Err(fault) => return Err(("be written conditionally", fault)),
            Ok(_) => false,
        };
        bucket.get(&key).await.map_err(step("be read"))?;
        bucket.list(&folder, None, 1).await.map_err(step("be listed"))?;
        Ok(keeps)
    };
    let tried = tried.await;
    // The test object is deleted whatever the result.
    let deleted = bucket.delete(&key).await;
    Ok(match (tried, deleted) {
        (Err((what, fault)), _) => blamed(CHECK, &subject, what, &fault),
        (Ok(_), Err(fault)) => blamed(CHECK, &subject, "be used to delete an object", &fault),
        (Ok(false), Ok(())) if swaps => {
            let text = "the server overwrites objects despite `If-None-Match`, so commits would be lost";
            Finding::problem(CHECK, subject, text, "set `buckets.register` to `dynamodb`, or use another server")
        }
        (Ok(false), Ok(())) => Finding::fine(CHECK, subject, "can be read, listed and written"),
        (Ok(true), Ok(())) => Finding::fine(CHECK, subject, "can be read, listed and written, and honours conditions"),
    })
}

async fn figures(settings: &Settings, aws: &Aws, clock: &SharedClock) -> Finding {
    const CHECK: &str = "figures";
    let options = &settings.cloudwatch;
    let datum = cloudwatch::Datum {
        name: "DoctorChecks".into(),
        dimensions: vec![("environment".into(), options.environment.clone())],
        at: clock.now(),
        unit: cloudwatch::Unit::Count,
        figures: cloudwatch::Figures::One(1.0),
    };
    let client = CloudWatch::new(aws, &options.endpoint);
    match within(settings, async { client.put(&options.namespace, &[datum]).await }).await {
        Ok(()) => Finding::fine(CHECK, &options.namespace, "CloudWatch accepts metrics (DoctorChecks)"),
        Err(fault) => blamed(CHECK, &options.namespace, "be published", &fault),
    }
}

/// Makes a call with the time limit `doctor.answer_seconds`.
pub async fn within<T>(settings: &Settings, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let limit = Duration::from_secs(settings.doctor.answer_seconds);
    let none = || Fault::new(FaultKind::Unreachable, "no answer", format!("none within {} s", limit.as_secs()));
    timeout(limit, call).await.unwrap_or_else(|_| Err(none()))
}

/// Converts a fault into a finding that names the failed operation, the cause and the fix.
pub fn blamed(check: &'static str, subject: &str, what: &str, fault: &Fault) -> Finding {
    let fix = match fault.kind {
        FaultKind::Denied => "grant permission; `docweir infra policy --role serve` prints the required policy",
        FaultKind::NotFound => "`docweir infra apply` creates it",
        FaultKind::Unreachable | FaultKind::Unknown => "check the network and the endpoint of the service",
        FaultKind::Throttled | FaultKind::Conflict => "retry in a moment",
        FaultKind::Invalid | FaultKind::Condition => "check the name, and whether the endpoint supports the call",
    };
    Finding::problem(check, subject, format!("cannot {what}: {fault}"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_clock_is_wrong_by_more_than_is_allowed() {
        let table = [
            (1_000, 1_000, Verdict::Fine, "within 1 s"),
            (1_060, 1_000, Verdict::Fine, "within 60 s"),
            (1_061, 1_000, Verdict::Problem, "61 s ahead of"),
            (1_000, 1_900, Verdict::Problem, "900 s behind AWS's clock: AWS refuses"),
        ];
        for (here, there, verdict, text) in table {
            let found = skew(here, there, 60);
            assert!(found.verdict == verdict && found.text.contains(text), "{found:?}");
        }
    }
}
