//! Serves the HTTP pages of a run, which show its metrics and its supervision tree.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use docweir_admission::Admission;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::actors::outages::{Outage, Outages};
use crate::config::HttpOptions;
use crate::http;
use crate::messages::progress::ProviderRow;
use crate::supervisors::RootHandle;

/// Interval at which the metrics recorder aggregates samples.
const CLEANING_INTERVAL: Duration = Duration::from_secs(5);

/// Serves the pages until the returned handle is dropped.
pub fn serve(
    listener: tokio::net::TcpListener,
    recorder: Option<PrometheusHandle>,
    root: &RootHandle,
    admission: Option<Arc<Admission>>,
    outages: Arc<Outages>,
    options: HttpOptions,
) -> AbortOnDrop {
    let root = root.clone();
    let listed = outages.clone();
    let cleaned = recorder.clone();
    // Without regular cleaning, samples that are not fetched accumulate.
    let cleaning = async move {
        loop {
            tokio::time::sleep(CLEANING_INTERVAL).await;
            cleaned.iter().for_each(PrometheusHandle::run_upkeep);
        }
    };
    let pages = Rc::new(http::Pages {
        metrics: Box::new(move || recorder.as_ref().map(PrometheusHandle::render).unwrap_or_default()),
        supervision: Box::new(move || {
            let (root, admission, outages) = (root.clone(), admission.clone(), listed.list());
            Box::pin(async move {
                let provider = admission.map(|a| ProviderRow::of(a.name(), &a.status()));
                let page = Supervision { tree: root.tree().await, provider, outages };
                serde_json::to_string_pretty(&page).unwrap_or_default()
            })
        }),
        not_ready: Box::new(move || {
            let lines: Vec<String> = outages.list().iter().map(Outage::line).collect();
            (!lines.is_empty()).then(|| lines.join("; "))
        }),
    });
    AbortOnDrop::of(async move {
        tokio::select! {
            () = http::serve(listener, pages, options) => {}
            () = cleaning => {}
        }
    })
}

/// Holds the content of the page `/supervision`: the supervision tree, the state of the provider, and outages.
#[derive(Serialize)]
struct Supervision<T> {
    #[serde(flatten)]
    tree: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<ProviderRow>,
    /// Outages of stores and services, for whose end the work waits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outages: Vec<Outage>,
}

pub struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl AbortOnDrop {
    pub fn of(work: impl Future<Output = ()> + 'static) -> Self {
        Self(tokio::task::spawn_local(work))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
