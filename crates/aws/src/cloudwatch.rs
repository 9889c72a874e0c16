//! Sends metrics to CloudWatch, in as few calls as the limits of CloudWatch allow.
//!
//! A call has no idempotency token, and a metric that is sent twice is counted twice. This module therefore sends
//! each call once. After a failure, the caller decides from the [`Fault`] whether to send the call again.

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::{Builder, Config};
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit, StatisticSet};
use aws_smithy_types::DateTime;

use crate::Fault;
use crate::access::{Aws, answered, once};

/// Largest number of metric values in one call.
pub const MOST: usize = 1_000;
/// Maximum size of one call, in bytes. This is CloudWatch's limit of 1 MB minus space for the headers.
const MOST_BYTES: usize = 990_000;
/// Upper bound, in bytes, of the size of a serialised datum without its texts. A datum has at most fifteen fields. Each
/// field is sent with its full path, such as `MetricData.member.1000.Dimensions.member.2.Value=`.
const DATUM_BYTES: usize = 800;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Seconds,
    Bytes,
    None,
}

/// Holds the value of a datum: a single sample, or the statistics of many samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figures {
    One(f64),
    /// Statistics of many samples.
    Set {
        count: f64,
        sum: f64,
        min: f64,
        max: f64,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    pub name: String,
    pub dimensions: Vec<(String, String)>,
    /// Time of the datum, in Unix microseconds.
    pub at: i64,
    pub unit: Unit,
    pub figures: Figures,
}

impl Datum {
    /// Returns an upper bound of the datum's size in a call, in bytes.
    fn bytes(&self) -> usize {
        let texts = self.dimensions.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        // URL encoding turns an escaped byte into three.
        DATUM_BYTES + 3 * (self.name.len() + texts)
    }
}

/// Sends calls to CloudWatch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CloudWatch {
    client: Client,
}

impl CloudWatch {
    /// Creates a client for `endpoint`; empty means the shared AWS endpoint.
    pub fn new(aws: &Aws, endpoint: &str) -> Self {
        // The size limit applies to the compressed request, so compression would invalidate the computed sizes. Some
        // servers cannot decompress requests either.
        let mut config = Builder::from(&aws.sdk).disable_request_compression(true);
        if !endpoint.is_empty() {
            config = config.endpoint_url(endpoint);
        }
        Self { client: Client::from_conf(config.build()) }
    }

    /// Sends `data` in one call, without retries. Data that may exceed the limits of one call must be split with
    /// [`calls`] first.
    pub async fn put(&self, namespace: &str, data: &[Datum]) -> Result<(), Fault> {
        let data = data.iter().map(sdk).collect();
        let call = self.client.put_metric_data().namespace(namespace).set_metric_data(Some(data));
        let call = call.customize().config_override(Config::builder().retry_config(once()));
        answered("cloudwatch", "PutMetricData", call.send().await).map(drop)
    }
}

/// Splits `data` into groups that each fit into one call.
pub fn calls(data: Vec<Datum>) -> Vec<Vec<Datum>> {
    let mut calls: Vec<Vec<Datum>> = Vec::new();
    let mut room = 0;
    for datum in data {
        let bytes = datum.bytes();
        match calls.last_mut().filter(|call| call.len() < MOST && bytes <= room) {
            Some(call) => {
                room -= bytes;
                call.push(datum);
            }
            None => {
                room = MOST_BYTES.saturating_sub(bytes);
                calls.push(vec![datum]);
            }
        }
    }
    calls
}

fn sdk(datum: &Datum) -> MetricDatum {
    let dimension = |(name, value): &(String, String)| Dimension::builder().name(name).value(value).build();
    let builder = MetricDatum::builder()
        .metric_name(&datum.name)
        .set_dimensions(Some(datum.dimensions.iter().map(dimension).collect()))
        .timestamp(DateTime::from_millis(datum.at / 1_000))
        .unit(match datum.unit {
            Unit::Count => StandardUnit::Count,
            Unit::Seconds => StandardUnit::Seconds,
            Unit::Bytes => StandardUnit::Bytes,
            Unit::None => StandardUnit::None,
        });
    match datum.figures {
        Figures::One(value) => builder.value(value).build(),
        Figures::Set { count, sum, min, max } => {
            let set = StatisticSet::builder().sample_count(count).sum(sum).minimum(min).maximum(max).build();
            builder.statistic_values(set).build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datum(name: &str) -> Datum {
        let dimensions = vec![("environment".into(), "test".into()), ("stage".into(), "extraction".into())];
        Datum { name: name.into(), dimensions, at: 0, unit: Unit::Count, figures: Figures::One(1.0) }
    }

    #[test]
    fn a_call_is_within_its_limits_and_nothing_is_left_out() {
        let sizes = |data: Vec<Datum>| calls(data).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), [0; 0]);
        assert_eq!(sizes(vec![datum("A"); 1_000]), [1_000]);
        assert_eq!(sizes(vec![datum("A"); 2_001]), [1_000, 1_000, 1]);
        let long = datum(&"A".repeat(255));
        let parts = sizes(vec![long.clone(); 1_500]);
        assert_eq!(parts.iter().sum::<usize>(), 1_500);
        assert!(parts.iter().all(|n| n * long.bytes() <= MOST_BYTES), "{parts:?}");
        assert!(parts.len() > 1 && parts[0] < 1_000, "{parts:?}");
    }
}
