// SPDX-License-Identifier: Apache-2.0
//! The probe of the webhook. When the API server can't reach it (a firewall between control plane and nodes, a certificate that it doesn't trust, a Service
//! that is gone), pods are refused, and only who creates them is told. So the leader asks the API server for something that only the webhook can have
//! added: a ConfigMap of Holdfast's own namespace, created as a dry run, which nobody ever stores.

use super::WEBHOOK;
use super::events::News;
use super::lead::jittered;
use super::leading::Leading;
use super::pki::Now;
use super::pki::places::CONFIGURATION;
use course::{Course, ENTRY, Finding, Gap, Saying};
use holdfast_api::labels;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, PostParams};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

mod course;
#[cfg(test)]
mod tests;

/// An API server that hasn't answered by then is given up: it waits for the webhook no longer than the entry's timeout.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why new pods are refused, in the API server's words; `None`: they aren't, as far as is known.
pub(crate) type Trouble = Option<Arc<str>>;

/// Who probes, and whom he tells.
struct Probe {
    with: Leading,
    namespace: String,
    told: watch::Sender<Trouble>,
}

/// Probes for ever, so often.
pub(crate) async fn run(with: Leading, namespace: String, every: Duration, told: watch::Sender<Trouble>) {
    let (probe, mut course) = (Probe { with, namespace, told }, Course::default());
    loop {
        tokio::time::sleep(jittered(course.pause(every))).await;
        probe.turn(&mut course).await;
    }
}

impl Probe {
    async fn turn(&self, course: &mut Course) {
        let began = self.with.clock.monotonic();
        let finding = self.attempt().await;
        tracing::debug!(?finding, "the webhook was probed");
        let now = Now { day: self.with.clock.now(), steady: self.with.clock.monotonic() };
        let saying = course.learn(now, finding);
        self.with.metrics.webhook(course.reachable().map(|is| (is, now.steady.since(began))));
        self.told.send_if_modified(|told| {
            let changed = told.as_deref() != course.trouble();
            if changed {
                *told = course.trouble().map(Arc::from);
            }
            changed
        });
        if let Some(saying) = saying {
            self.tell(saying).await;
        }
    }

    async fn attempt(&self) -> Finding {
        let mut word = [0; 16];
        if getrandom::fill(&mut word).is_err() {
            return Finding::Unknown(Gap::Failed("the system has no random numbers".to_owned()));
        }
        let asking = async {
            let word = hex::encode(word);
            let found = course::read(self.ask(&word).await, &word);
            if found == Finding::Unknown(Gap::NotAsked) && !self.has_entry().await {
                Finding::Unknown(Gap::NoEntry)
            } else {
                found
            }
        };
        let late = || Finding::Unknown(Gap::Failed("no answer in time".to_owned()));
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| late())
    }

    /// Would create a ConfigMap with this word.
    async fn ask(&self, word: &str) -> Result<ConfigMap, kube::Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.with.client.clone(), &self.namespace);
        let marks = [super::managed(), (labels::PROBE.to_owned(), word.to_owned())];
        let metadata = ObjectMeta {
            name: Some(format!("holdfast-probe-{word}")),
            labels: Some(marks.into_iter().collect()),
            ..ObjectMeta::default()
        };
        let only_tried = PostParams { dry_run: true, ..PostParams::default() };
        maps.create(&only_tried, &ConfigMap { metadata, ..ConfigMap::default() }).await
    }

    /// Whether the webhook's configuration has the entry for probes. If it can't be read, nothing is said to be missing.
    async fn has_entry(&self) -> bool {
        let all: Api<MutatingWebhookConfiguration> = Api::all(self.with.client.clone());
        match all.get_opt(CONFIGURATION).await {
            Ok(found) => found.and_then(|found| found.webhooks).is_some_and(|all| all.iter().any(|entry| entry.name == ENTRY)),
            Err(_) => true,
        }
    }

    async fn tell(&self, saying: Saying) {
        let news = match saying {
            Saying::Reachable => {
                tracing::info!("the API server reaches the webhook");
                return;
            }
            Saying::Unknown(gap) => {
                tracing::warn!(%gap, "whether the API server reaches the webhook is not known");
                return;
            }
            Saying::Again(after) => {
                tracing::info!(?after, "the API server reaches the webhook again");
                let note = format!("the API server reaches the webhook again, after {} s", after.as_secs());
                News::normal(self.webhook().await, "WebhookReachable", "Probe", note)
            }
            Saying::Unreachable { since, words, begins } => {
                if begins {
                    tracing::warn!(words, "the API server can't reach the webhook: pods with a policy's label are refused");
                }
                let since = super::conditions::whole_seconds(since).0;
                let note = format!(
                    "pods with the label {} are refused since {since}: the API server can't reach the webhook: {words}",
                    labels::POLICY
                );
                News::warning(self.webhook().await, "WebhookUnreachable", "Probe", note)
            }
        };
        self.with.events.tell(news);
    }

    /// The webhook's Deployment; if it is not there, or can't be asked for, its name.
    async fn webhook(&self) -> ObjectReference {
        let deployments: Api<Deployment> = Api::namespaced(self.with.client.clone(), &self.namespace);
        let asked = tokio::time::timeout(PATIENCE, deployments.get(WEBHOOK)).await;
        match asked {
            Ok(Ok(deployment)) => deployment.object_ref(&()),
            _ => ObjectReference {
                api_version: Some(Deployment::api_version(&()).into_owned()),
                kind: Some(Deployment::kind(&()).into_owned()),
                name: Some(WEBHOOK.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectReference::default()
            },
        }
    }
}
