//! Sends the metrics of a run to CloudWatch.

use std::collections::VecDeque;

use async_trait::async_trait;
use docweir_aws::FaultKind;
use docweir_aws::cloudwatch::{self, CloudWatch, Figures};

use crate::telemetry::names::{Datum, DatumValue, Unit};
use crate::telemetry::publisher::{MetricSink, PutResult};

/// Publishes metrics by calls to CloudWatch.
pub struct CloudWatchFigures {
    pub client: CloudWatch,
    pub namespace: String,
}

#[async_trait]
impl MetricSink for CloudWatchFigures {
    async fn put(&self, data: Vec<Datum>) -> PutResult {
        let (mut put, mut data) = (PutResult::default(), VecDeque::from(data));
        for call in cloudwatch::calls(data.iter().map(sdk).collect()) {
            let these: Vec<Datum> = data.drain(..call.len()).collect();
            let Err(fault) = self.client.put(&self.namespace, &call).await else {
                put.sent += these.len();
                continue;
            };
            put.why = Some(fault.to_string());
            match fault.kind {
                FaultKind::Unknown => put.in_doubt += these.len(),
                FaultKind::Invalid | FaultKind::NotFound | FaultKind::Condition => put.lost += these.len(),
                // The next call would fail in the same way.
                FaultKind::Throttled | FaultKind::Unreachable | FaultKind::Conflict | FaultKind::Denied => {
                    put.left.extend(these);
                    break;
                }
            }
        }
        put.left.extend(data);
        put
    }
}

fn sdk(datum: &Datum) -> cloudwatch::Datum {
    cloudwatch::Datum {
        name: datum.name.clone(),
        dimensions: datum.dimensions.clone(),
        at: datum.at,
        unit: match datum.unit {
            Unit::Count => cloudwatch::Unit::Count,
            Unit::Seconds => cloudwatch::Unit::Seconds,
            Unit::Bytes => cloudwatch::Unit::Bytes,
            Unit::None => cloudwatch::Unit::None,
        },
        figures: match datum.value {
            DatumValue::One(value) => Figures::One(value),
            DatumValue::Samples(s) => Figures::Set { count: s.count as f64, sum: s.sum, min: s.min, max: s.max },
        },
    }
}
