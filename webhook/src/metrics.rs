// SPDX-License-Identifier: Apache-2.0
//! What is counted. Labels are words of closed sets, never text of an object.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    webhook: &'static str,
    decision: &'static str,
}

/// What is counted.
#[derive(Debug, Clone)]
pub struct Metrics {
    decisions: Family<Outcome, Counter>,
    seconds: Histogram,
    certificates: Counter,
    ready: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let bounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];
        Self {
            decisions: Family::default(),
            seconds: Histogram::new(bounds),
            certificates: Counter::default(),
            ready: Gauge::default(),
        }
    }
}

impl Metrics {
    /// A registry with all of them.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("holdfast_webhook");
        registry.register("decisions", "Requests, by what was decided", self.decisions.clone());
        registry.register("decision_seconds", "Time from a request's last byte to its answer", self.seconds.clone());
        registry.register("certificates_loaded", "Certificates that were loaded since the start", self.certificates.clone());
        registry.register("ready", "1 while requests are welcome", self.ready.clone());
        registry
    }

    pub(crate) fn decided(&self, webhook: &'static str, decision: &'static str, took: Duration) {
        self.decisions.get_or_create(&Outcome { webhook, decision }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn certificate_loaded(&self) {
        self.certificates.inc();
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}
