// SPDX-License-Identifier: Apache-2.0
//! StatePolicies: checked again, since whoever stored them may have had no rules to refuse them, and told how their pods are.

use super::conditions::{self, Saying, Truth};
use super::probe::Trouble;
use super::table::Unready;
use holdfast_api::{StatePolicy, StatePolicyStatus};
use holdfast_core::policy::Severity;
use holdfast_core::time::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// Whose fields of a status these are.
const MANAGER: &str = "holdfast-policies";
/// The conditions of a StatePolicy.
const ACCEPTED: &str = "Accepted";
const READY: &str = "Ready";
/// Of a policy that can't be understood its lineages are measured by this.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// Names in a message.
const NAMES_MAX: usize = 5;

/// What is known of a policy's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Whether the repository that it names can be used.
    pub(crate) repository: Result<(), Unready>,
    /// Pods with its label that have not ended.
    pub(crate) replicas: usize,
    /// Those whose lineage is protected.
    pub(crate) protected: usize,
    /// Those without an agent, by name.
    pub(crate) unguarded: Vec<String>,
    /// Why no new ones can be made.
    pub(crate) webhook: Trouble,
}

/// Within which changes are durable under a policy.
pub(crate) fn limit(policy: &StatePolicy) -> Duration {
    policy.spec.resolve().policy.map_or(LIMIT, |policy| policy.paces.limit)
}

/// What is to be said of a policy.
pub(crate) fn judge(policy: &StatePolicy, facts: &Facts) -> Vec<Saying> {
    let findings = policy.spec.resolve().findings;
    let wrong: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| format!("{}: {}", finding.field, finding.sentence))
        .collect();
    if !wrong.is_empty() {
        let message = wrong.join("; ");
        return vec![Saying::new(ACCEPTED, false, "Invalid", message.clone()), Saying::new(READY, false, "Invalid", message)];
    }
    let warnings: Vec<String> = findings.iter().map(|finding| format!("{}: {}", finding.field, finding.sentence)).collect();
    let accepted =
        if warnings.is_empty() { "it can be used".to_owned() } else { format!("it can be used; {}", warnings.join("; ")) };
    let (is, reason, message) = ready(policy, facts);
    vec![Saying::new(ACCEPTED, true, "Valid", accepted), Saying::new(READY, is, reason, message)]
}

fn ready(policy: &StatePolicy, facts: &Facts) -> (Truth, &'static str, String) {
    let repository = &policy.spec.repository_ref.name;
    match &facts.repository {
        Err(Unready::Missing) => {
            let message = format!("there is no StateRepository {repository:?} in this namespace: create it");
            return (Truth::False, "RepositoryMissing", message);
        }
        Err(why) => {
            return (Truth::False, "RepositoryNotReady", format!("StateRepository {repository:?} can't be used: {why}"));
        }
        Ok(()) => {}
    }
    if let Some((first, rest)) =
        facts.unguarded.split_at_checked(NAMES_MAX.min(facts.unguarded.len())).filter(|(first, _)| !first.is_empty())
    {
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let message = format!("pods run without an agent: {}{more}; delete them, so that they are made again", first.join(", "));
        return (Truth::False, "Unprotected", message);
    }
    if let Some(words) = &facts.webhook {
        let message = format!("new pods are refused: the API server can't reach the webhook: {words}");
        return (Truth::False, "WebhookUnreachable", message);
    }
    match (facts.replicas, facts.protected) {
        (0, _) => (Truth::True, "NoReplicas", "no pod bears its label".to_owned()),
        (all, protected) if protected >= all => (Truth::True, "Protected", "every replica is protected".to_owned()),
        _ => (Truth::False, "ReplicasNotProtected", "some replicas are not protected: see their StateLineages".to_owned()),
    }
}

/// Writes what is to be said, if it is anything new; whether it was written.
///
/// # Errors
/// If the API server refuses. That the policy has gone is none.
pub(crate) async fn write(client: &Client, policy: &StatePolicy, facts: &Facts, now: Timestamp) -> Result<bool, kube::Error> {
    let before = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation;
    let count = |count: usize| Some(i32::try_from(count).unwrap_or(i32::MAX));
    let status = StatePolicyStatus {
        observed_generation: generation,
        conditions: conditions::settled(&before.conditions, &judge(policy, facts), generation, now),
        replicas: count(facts.replicas),
        protected: count(facts.protected),
        unguarded: count(facts.unguarded.len()),
        ..StatePolicyStatus::default()
    };
    let same = conditions::all_said(&before.conditions, &status.conditions)
        && (before.observed_generation, before.replicas, before.protected, before.unguarded)
            == (status.observed_generation, status.replicas, status.protected, status.unguarded);
    if same {
        return Ok(false);
    }
    let api: Api<StatePolicy> = Api::namespaced(client.clone(), &policy.namespace().unwrap_or_default());
    let patch = json!({ "apiVersion": StatePolicy::api_version(&()), "kind": StatePolicy::kind(&()), "status": status });
    match api.patch_status(&policy.name_any(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        other => other.map(|_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::kube_kit::ApiServer;
    use holdfast_core::time::Timestamp;

    fn policy(paths: serde_json::Value) -> StatePolicy {
        let object = json!({ "apiVersion": "holdfast.dev/v1alpha1", "kind": "StatePolicy", "metadata": { "name": "web", "namespace": "shop", "generation": 3 },
            "spec": { "paths": paths } });
        serde_json::from_value(object).expect("a policy")
    }

    fn usable() -> StatePolicy {
        policy(json!([{ "label": "data", "path": "/data" }]))
    }

    fn facts(replicas: usize, protected: usize, unguarded: &[&str]) -> Facts {
        let unguarded = unguarded.iter().map(|name| (*name).to_owned()).collect();
        Facts { repository: Ok(()), replicas, protected, unguarded, webhook: None }
    }

    fn said(policy: &StatePolicy, facts: &Facts) -> Vec<(&'static str, Truth, &'static str)> {
        judge(policy, facts).into_iter().map(|saying| (saying.kind, saying.is, saying.reason)).collect()
    }

    #[test]
    fn the_worst_is_said_first() {
        let ready = |facts: &Facts| said(&usable(), facts)[1];
        assert_eq!(ready(&facts(0, 0, &[])), ("Ready", Truth::True, "NoReplicas"));
        assert_eq!(ready(&facts(3, 3, &[])), ("Ready", Truth::True, "Protected"));
        assert_eq!(ready(&facts(3, 2, &[])), ("Ready", Truth::False, "ReplicasNotProtected"));
        assert_eq!(ready(&facts(3, 2, &["web-1"])), ("Ready", Truth::False, "Unprotected"));
        let refused = |facts: Facts| Facts { webhook: Some("no route to host".into()), ..facts };
        assert_eq!(ready(&refused(facts(3, 3, &[]))), ("Ready", Truth::False, "WebhookUnreachable"));
        assert_eq!(ready(&refused(facts(3, 2, &["web-1"]))), ("Ready", Truth::False, "Unprotected"));
        assert!(judge(&usable(), &refused(facts(0, 0, &[])))[1].message.ends_with("can't reach the webhook: no route to host"));
        let away = Facts { repository: Err(Unready::Away("no answer".to_owned())), ..facts(3, 2, &["web-1"]) };
        assert_eq!(ready(&away), ("Ready", Truth::False, "RepositoryNotReady"));
        assert_eq!(ready(&Facts { repository: Err(Unready::Missing), ..away }), ("Ready", Truth::False, "RepositoryMissing"));
        let invalid = policy(json!([{ "label": "data", "path": "data" }]));
        assert_eq!(
            said(&invalid, &facts(3, 3, &[])),
            [("Accepted", Truth::False, "Invalid"), ("Ready", Truth::False, "Invalid")]
        );
    }

    #[tokio::test]
    async fn it_is_written_once() {
        let server = ApiServer::default();
        server.put("statepolicies", serde_json::to_value(usable()).expect("JSON"));
        let object = || {
            serde_json::from_value::<StatePolicy>(server.get("statepolicies", "shop", "web").expect("there")).expect("a policy")
        };
        let later = |seconds| Timestamp::default().plus(Duration::from_secs(seconds));
        assert!(write(&server.client(), &object(), &facts(2, 1, &[]), later(1)).await.expect("written"));
        assert!(!write(&server.client(), &object(), &facts(2, 1, &[]), later(2)).await.expect("nothing to say"));
        assert!(write(&server.client(), &object(), &facts(2, 2, &[]), later(3)).await.expect("written"));
        assert_eq!(server.get("statepolicies", "shop", "web").expect("there")["status"]["protected"], 2);
        server.delete(&crate::cluster::kube_kit::Key::new("statepolicies", "shop", "web"));
        assert!(!write(&server.client(), &usable(), &facts(0, 0, &[]), later(4)).await.expect("it has gone"));
    }
}
