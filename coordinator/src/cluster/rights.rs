// SPDX-License-Identifier: Apache-2.0
//! What the coordinator must be allowed to do, asked for when it starts: a missing rule is named at once, not found out hours later.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};

/// Questions at once.
const AT_ONCE: usize = 8;

/// One rule: a group, a resource with its part, verbs, and the only name it is needed for.
struct Rule {
    group: &'static str,
    resource: &'static str,
    part: &'static str,
    verbs: &'static [&'static str],
    name: &'static str,
    /// In the coordinator's own namespace only.
    own: bool,
}

const fn all(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Rule {
    Rule { group, resource, part: "", verbs, name: "", own: false }
}

impl Rule {
    const fn own(self) -> Self {
        Self { own: true, ..self }
    }

    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    const fn part(self, part: &'static str) -> Self {
        Self { part, ..self }
    }
}

const HOLDFAST: &str = "holdfast.dev";
const WATCH: &[&str] = &["get", "list", "watch"];

/// Everything. `deploy/coordinator/rbac.yaml` grants it, and a test compares the two.
const RULES: &[Rule] = &[
    all(HOLDFAST, "statepolicies", WATCH),
    all(HOLDFAST, "statepolicies", &["patch"]).part("status"),
    all(HOLDFAST, "staterepositories", WATCH),
    all(HOLDFAST, "staterepositories", &["patch"]).part("status"),
    all(HOLDFAST, "statesnapshots", &["get", "list", "watch", "create", "delete"]),
    all(HOLDFAST, "statesnapshots", &["patch"]).part("status"),
    all(HOLDFAST, "staterestores", WATCH),
    all(HOLDFAST, "staterestores", &["patch"]).part("status"),
    all(HOLDFAST, "statelineages", &["get", "list", "watch", "create", "patch", "delete"]),
    all(HOLDFAST, "statelineages", &["patch"]).part("status"),
    all("", "pods", &["get", "list", "watch", "create", "patch", "delete"]),
    all("", "nodes", WATCH),
    all("", "secrets", &["get"]),
    all("", "namespaces", &["get"]).named("kube-system"),
    all("", "configmaps", &["create", "get"]),
    all("", "persistentvolumeclaims", &["get"]),
    all("", "configmaps", &["list", "watch", "patch"]).named("holdfast-ca"),
    all("apps", "deployments", WATCH),
    all("apps", "replicasets", WATCH),
    all("apps", "statefulsets", WATCH),
    all("apps", "daemonsets", WATCH),
    all("policy", "poddisruptionbudgets", &["list"]),
    all("batch", "jobs", WATCH),
    all("batch", "cronjobs", WATCH),
    all("events.k8s.io", "events", &["create", "patch"]),
    all("authentication.k8s.io", "tokenreviews", &["create"]),
    all("authorization.k8s.io", "subjectaccessreviews", &["create"]),
    all("admissionregistration.k8s.io", "mutatingwebhookconfigurations", &["get", "list", "watch", "patch"]).named("holdfast"),
    all("coordination.k8s.io", "leases", &["create"]).own(),
    all("coordination.k8s.io", "leases", &["get", "update"]).named("holdfast-coordinator").own(),
    all("", "secrets", &["create"]).own(),
    all("", "secrets", &["get", "update"]).named("holdfast-ca").own(),
    all("", "secrets", &["get", "update"]).named("holdfast-webhook-tls").own(),
];

/// The rules that this process lacks, as they would stand in a Role.
///
/// # Errors
/// If the API server can't be asked.
pub(crate) async fn missing(client: &Client, namespace: &str) -> Result<Vec<String>, kube::Error> {
    let questions = RULES.iter().flat_map(|rule| rule.verbs.iter().map(move |verb| (rule, *verb)));
    let asked = stream::iter(questions).map(|(rule, verb)| ask(client, namespace, rule, verb)).buffered(AT_ONCE);
    asked.try_filter_map(|missing| std::future::ready(Ok(missing))).try_collect().await
}

async fn ask(client: &Client, namespace: &str, rule: &Rule, verb: &str) -> Result<Option<String>, kube::Error> {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let attributes = ResourceAttributes {
        group: some(rule.group),
        resource: some(rule.resource),
        subresource: some(rule.part),
        verb: some(verb),
        name: some(rule.name),
        namespace: if rule.own { some(namespace) } else { None },
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer = Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    let allowed = answer.status.is_some_and(|status| status.allowed);
    Ok((!allowed).then(|| rule.text(namespace, verb)))
}

impl Rule {
    fn text(&self, namespace: &str, verb: &str) -> String {
        let resource = if self.part.is_empty() { self.resource.to_owned() } else { format!("{}/{}", self.resource, self.part) };
        let name = if self.name.is_empty() { String::new() } else { format!(", resourceNames: [{:?}]", self.name) };
        let place = if self.own { format!("in namespace {namespace}") } else { "in all namespaces".to_owned() };
        format!("apiGroups: [{:?}], resources: [{resource:?}]{name}, verbs: [{verb:?}] ({place})", self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::kube_kit::ApiServer;
    use crate::cluster::manifest::grants;
    use http::StatusCode;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn a_missing_rule_is_named() {
        let server = ApiServer::default();
        server.on(|_, path, body| {
            let asked = &body["spec"]["resourceAttributes"];
            let allowed = asked["resource"] != "tokenreviews";
            let answer = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": body["spec"], "status": { "allowed": allowed } });
            path.ends_with("/selfsubjectaccessreviews").then_some((StatusCode::CREATED, answer))
        });
        let missing = missing(&server.client(), "holdfast-system").await.expect("answers");
        assert_eq!(
            missing,
            [r#"apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] (in all namespaces)"#]
        );
    }

    type Granted = BTreeSet<(bool, String, String, String, String)>;

    /// What the manifest grants: own namespace or all, group, resource, verb, name.
    fn granted() -> Granted {
        let grants = grants("coordinator/rbac.yaml").into_iter();
        grants.map(|grant| (grant.kind == "Role", grant.group, grant.resource, grant.verb, grant.name)).collect()
    }

    #[test]
    fn the_manifest_grants_what_is_asked_for_and_no_more() {
        let mut needed = Granted::new();
        for rule in RULES {
            let resource =
                if rule.part.is_empty() { rule.resource.to_owned() } else { format!("{}/{}", rule.resource, rule.part) };
            let entry =
                |verb: &&str| (rule.own, rule.group.to_owned(), resource.clone(), (*verb).to_owned(), rule.name.to_owned());
            needed.extend(rule.verbs.iter().map(entry));
        }
        let granted = granted();
        assert_eq!(
            needed.difference(&granted).collect::<Vec<_>>(),
            Vec::<&(bool, String, String, String, String)>::new(),
            "missing in the manifest"
        );
        assert_eq!(
            granted.difference(&needed).collect::<Vec<_>>(),
            Vec::<&(bool, String, String, String, String)>::new(),
            "granted for nothing"
        );
    }
}
