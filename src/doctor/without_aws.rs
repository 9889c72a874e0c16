//! Replaces the checks of AWS in a program built without the AWS clients. Reports a problem if the configuration
//! needs AWS.

use docweir_core::clock::SharedClock;

use super::Finding;
use crate::config::Settings;
use crate::telemetry::CloudWatchMode;

pub async fn examine(settings: &Settings, _: &SharedClock, each: &mut dyn FnMut(Finding)) {
    let wanted = !settings.state.is_local() || !settings.records.table.name.is_empty();
    if wanted || settings.cloudwatch.mode == CloudWatchMode::Api {
        let text = "the configuration needs AWS, but this docweir was built without AWS";
        each(Finding::problem("program", "", text, "build docweir with `cargo build --release --features aws`"));
    }
}
