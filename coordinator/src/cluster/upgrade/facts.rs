// SPDX-License-Identifier: Apache-2.0
//! What objects say about the images of agents: which one is wanted, and how far a pod is. Plain functions.

use super::plan::Stage;
use crate::cluster::audit::guard::annotation;
use holdfast_api::labels::{AGENT_CONTAINER, AGENT_UPGRADE};
use holdfast_core::time::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// Where the webhook is told which image it adds.
pub(crate) const IMAGE_VARIABLE: &str = "HOLDFAST_AGENT_IMAGE";

/// What stands on a pod whose agent was given another image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The image that it was given.
    pub(super) image: String,
    /// The one before.
    pub(super) before: String,
    /// The container that ran then: as long as it is there, nothing has happened.
    pub(super) container: String,
    pub(super) since: Time,
    /// It was not back in time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) late: bool,
}

impl Note {
    /// What stands on a pod; what can't be read is nothing.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        serde_json::from_str(annotation(&pod.metadata, AGENT_UPGRADE)?).ok()
    }

    /// As it stands on a pod.
    pub(super) fn text(&self) -> String {
        // texts and a time are always JSON
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The image that the webhook adds to pods, once no process of Holdfast is left that was applied before it.
pub(super) fn wanted(webhook: &Deployment, coordinator: Option<&Deployment>) -> Option<String> {
    let is_settled = is_rolled_out(webhook) && coordinator.is_none_or(is_rolled_out);
    variable(webhook, IMAGE_VARIABLE).filter(|_| is_settled)
}

/// What a variable of the webhook's says.
pub(crate) fn variable(webhook: &Deployment, name: &str) -> Option<String> {
    let containers = &webhook.spec.as_ref()?.template.spec.as_ref()?.containers;
    let variables = containers.iter().flat_map(|container| container.env.iter().flatten());
    let value = variables.filter(|variable| variable.name == name).find_map(|variable| variable.value.clone());
    value.filter(|value| !value.is_empty())
}

/// Whether all pods of a Deployment are of its present template.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    status.observed_generation >= deployment.metadata.generation
        && status.replicas.unwrap_or(0) == status.updated_replicas.unwrap_or(0)
        && status.available_replicas.unwrap_or(0) > 0
}

/// The image of a pod's agent, as its spec has it.
pub(super) fn image(pod: &Pod) -> Option<&str> {
    let all = pod.spec.as_ref()?.init_containers.as_ref()?;
    all.iter().find(|container| container.name == AGENT_CONTAINER)?.image.as_deref()
}

/// What the node says of a pod's agent.
pub(super) fn status(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    all.iter().find(|container| container.name == AGENT_CONTAINER)
}

/// The container in which a pod's agent runs, if it does.
pub(super) fn running(pod: &Pod) -> Option<&str> {
    let status = status(pod)?;
    status.state.as_ref()?.running.as_ref()?;
    status.container_id.as_deref()
}

/// Why it does not, in the node's words.
pub(super) fn trouble(pod: &Pod) -> Option<String> {
    let waiting = status(pod)?.state.as_ref()?.waiting.as_ref()?;
    let said = [waiting.reason.as_deref(), waiting.message.as_deref()];
    Some(said.into_iter().flatten().collect::<Vec<_>>().join(": "))
}

/// How far a pod is, if this image is wanted; `is_back`: whether its agent has been protecting it for a while.
pub(super) fn stage(pod: &Pod, wanted: &str, now: Timestamp, is_back: bool) -> Stage {
    let is_wanted = image(pod) == Some(wanted);
    match Note::of(pod) {
        None if is_wanted => Stage::Current,
        None => Stage::Outdated,
        Some(_) if !is_wanted => Stage::Stranded,
        // somebody else has written the image since
        Some(note) if note.image != wanted => Stage::Current,
        Some(note) if note.late => Stage::Late,
        Some(note) => Stage::Given { age: now.since(Timestamp::from(note.since.0)), is_back },
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::patience;
    use super::*;
    use crate::cluster::{COORDINATOR, WEBHOOK};
    use serde_json::{Value, json};
    use std::time::Duration;

    fn deployment(variable: Value, status: Value) -> Deployment {
        let container = json!({ "name": "webhook", "env": [{ "name": "POD_NAME" }, variable] });
        let spec = json!({ "selector": {}, "template": { "spec": { "containers": [container] } } });
        serde_json::from_value(json!({ "metadata": { "generation": 3 }, "spec": spec, "status": status })).expect("a Deployment")
    }

    fn whole() -> Value {
        json!({ "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1 })
    }

    #[test]
    fn the_image_is_known_when_nothing_of_before_is_left() {
        let set = || json!({ "name": "HOLDFAST_AGENT_IMAGE", "value": "agent:2" });
        let (webhook, elsewhere) = (deployment(set(), whole()), deployment(json!({ "name": "OTHER" }), whole()));
        assert_eq!(wanted(&webhook, Some(&elsewhere)).as_deref(), Some("agent:2"));
        assert_eq!(wanted(&webhook, None).as_deref(), Some("agent:2"));
        assert_eq!(wanted(&elsewhere, None), None, "told in another way");
        let rolling = [
            ("observedGeneration", json!(2)),
            ("replicas", json!(3)),
            ("updatedReplicas", json!(1)),
            ("availableReplicas", json!(0)),
        ];
        for (field, value) in rolling {
            let mut status = whole();
            status[field] = value;
            assert_eq!(wanted(&deployment(set(), status.clone()), Some(&elsewhere)), None, "the webhook rolls: {field}");
            assert_eq!(wanted(&webhook, Some(&deployment(set(), status))), None, "the coordinator rolls: {field}");
        }
    }

    #[test]
    fn the_manifests_tell_what_is_read_here() {
        let read = |path: &str| {
            let text = std::fs::read_to_string(format!("{}/../deploy/{path}", env!("CARGO_MANIFEST_DIR"))).expect("a manifest");
            let mut object: Value = serde_saphyr::from_str(&text).expect("YAML");
            object["status"] = whole();
            serde_json::from_value::<Deployment>(object).expect("a Deployment")
        };
        let (webhook, coordinator) = (read("webhook/deployment.yaml"), read("coordinator/deployment.yaml"));
        let names = [&webhook, &coordinator].map(|deployment| deployment.metadata.name.as_deref());
        assert_eq!(names, [Some(WEBHOOK), Some(COORDINATOR)]);
        let image = format!("holdfast/agent:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(wanted(&webhook, Some(&coordinator)), Some(image));
    }

    fn pod(image: &str, note: Option<&str>) -> Pod {
        let containers = json!([{ "name": "holdfast-agent", "image": image }, { "name": "holdfast-gate", "image": "agent:1" }]);
        let annotations = note.map_or_else(|| json!({}), |note| json!({ AGENT_UPGRADE: note }));
        let object =
            json!({ "metadata": { "annotations": annotations }, "spec": { "containers": [], "initContainers": containers } });
        serde_json::from_value(object).expect("a pod")
    }

    #[test]
    fn a_pod_says_how_far_it_is() {
        let now = Timestamp::from_nanos(1_767_225_600_000_000_000).plus(patience(0));
        let since = crate::cluster::conditions::whole_seconds(now.minus(patience(0)));
        let note = |image: &str, late| {
            let (image, before, container) = (image.to_owned(), "agent:1".to_owned(), "containerd://a".to_owned());
            Some(Note { image, before, container, since: since.clone(), late }.text())
        };
        let table = [
            ("agent:2", None, Stage::Current),
            ("agent:1", None, Stage::Outdated),
            ("agent:2", note("agent:2", false), Stage::Given { age: patience(0), is_back: true }),
            ("agent:2", note("agent:2", true), Stage::Late),
            ("agent:2", note("agent:3", true), Stage::Current),
            ("agent:3", note("agent:3", false), Stage::Stranded),
            ("agent:3", note("agent:3", true), Stage::Stranded),
            ("agent:1", note("agent:2", false), Stage::Stranded),
            ("agent:1", Some("what people write".to_owned()), Stage::Outdated),
        ];
        for (image, note, expected) in table {
            assert_eq!(stage(&pod(image, note.as_deref()), "agent:2", now, true), expected, "{image} {note:?}");
        }
        let before = stage(&pod("agent:2", note("agent:2", false).as_deref()), "agent:2", now.minus(patience(0)), false);
        assert_eq!(before, Stage::Given { age: Duration::ZERO, is_back: false });
    }
}
