// SPDX-License-Identifier: Apache-2.0
//! Answers one request: gathers what is known, decides, and counts. Nothing is written and nobody is asked, so that a
//! dry run is the same as any other.

use crate::around::Settings;
use crate::caches::Caches;
use crate::metrics::Metrics;
use crate::pod::{self, Decision};
use crate::probe;
use crate::reason::{Refusal, Skip};
use crate::review::{self, Answer, Request, ReviewError};
use crate::workload::{self, Change};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Which of the webhooks was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Webhook {
    /// Pods.
    Pods,
    /// Workloads.
    Workloads,
    /// Whether there is an answer at all.
    Probe,
}

impl Webhook {
    const fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Workloads => "workloads",
            Self::Probe => "probe",
        }
    }
}

/// How long a policy that isn't there is waited for: much less than the API server waits for us.
const POLICY_PATIENCE: Duration = Duration::from_millis(500);

/// How often it is looked for.
const POLICY_LOOK: Duration = Duration::from_millis(25);

/// Where requests are answered.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The same for every request.
    pub settings: Settings,
    /// What is known of the cluster.
    pub caches: Caches,
    /// What is counted.
    pub metrics: Metrics,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The question makes no sense.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// A mistake of ours. The API server is told so, and does what the webhook's failure policy says.
    #[error("the decision failed")]
    Panicked,
}

impl Desk {
    /// Answers a question. A policy that isn't there is waited for a moment: it may have been created right before, and
    /// be on its way to the cache.
    ///
    /// # Errors
    /// If it can't be understood.
    pub async fn answer(&self, webhook: Webhook, body: &[u8]) -> Result<Answer, DeskError> {
        let begin = Instant::now();
        let request = review::read(body)?;
        let mut decision = self.decide(webhook, &request);
        while lacks_policy(decision.as_ref()) && begin.elapsed() < POLICY_PATIENCE {
            sleep(POLICY_LOOK).await;
            decision = self.decide(webhook, &request);
        }
        let code = decision.as_ref().map_or("Panicked", review::code);
        self.metrics.decided(webhook.name(), code, begin.elapsed());
        tracing::debug!(webhook = webhook.name(), uid = request.uid, namespace = request.namespace, code, "decided");
        Ok(review::answer(&request, &decision.ok_or(DeskError::Panicked)?))
    }

    /// What becomes of an object; `None`: a mistake of ours.
    fn decide(&self, webhook: Webhook, request: &Request) -> Option<Decision> {
        // one object that nobody thought of must not keep all others from being answered
        let decided = catch_unwind(AssertUnwindSafe(|| match webhook {
            Webhook::Pods => self.pod(request),
            Webhook::Workloads => self.workload(request),
            Webhook::Probe => self.probe(request),
        }));
        decided.ok()
    }

    fn pod(&self, request: &Request) -> Decision {
        let (is_pod, is_create) = (request.kind.kind == "Pod" && request.kind.group.is_empty(), request.operation == "CREATE");
        let (Some(pod), true, None) = (&request.object, is_pod && is_create, part(request)) else {
            return Decision::Skip(Skip::NotHandled);
        };
        let namespace = self.caches.namespace(&request.namespace);
        if let Some(skip) = pod::skip(pod, &namespace, &self.settings) {
            return Decision::Skip(skip);
        }
        let around = self.caches.around(namespace, pod::policy_of(pod).unwrap_or_default());
        pod::decide(pod, &around, &self.settings)
    }

    fn workload(&self, request: &Request) -> Decision {
        let is_change = matches!(request.operation.as_str(), "CREATE" | "UPDATE");
        let is_ours = ["apps", "batch"].contains(&request.kind.group.as_str());
        let (Some(object), true, None) = (&request.object, is_change && is_ours, part(request)) else {
            return Decision::Skip(Skip::NotHandled);
        };
        let old = request.old_object.as_ref().filter(|old| !old.is_null());
        let change = Change { kind: &request.kind.kind, object, old };
        let namespace = self.caches.namespace(&request.namespace);
        if let Some(skip) = workload::skip(&change, &namespace, &self.settings) {
            return Decision::Skip(skip);
        }
        let around = self.caches.around(namespace, change.policy().unwrap_or_default());
        workload::decide(&change, &around, &self.settings)
    }

    /// Answered from the question alone: whoever is not ready isn't asked.
    fn probe(&self, request: &Request) -> Decision {
        let is_map = request.kind.kind == "ConfigMap" && request.kind.group.is_empty();
        let is_ours = request.operation == "CREATE" && request.namespace == self.settings.own_namespace;
        match (&request.object, is_map && is_ours, part(request)) {
            (Some(object), true, None) => probe::decide(object),
            _ => Decision::Skip(Skip::NotHandled),
        }
    }
}

fn lacks_policy(decision: Option<&Decision>) -> bool {
    matches!(decision, Some(Decision::Deny(refusal)) if refusal.kind == Refusal::PolicyMissing)
}

/// The part of a resource that is asked about, if it isn't the whole.
fn part(request: &Request) -> Option<&str> {
    request.sub_resource.as_deref().filter(|part| !part.is_empty())
}
