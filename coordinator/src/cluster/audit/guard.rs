// SPDX-License-Identifier: Apache-2.0
//! Whether a labelled pod has what the webhook should have given it. Plain functions.

use holdfast_api::labels;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What a pod with a policy's label is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// It has ended, or is ending: nothing is to be done about it.
    Over,
    /// It has an agent and a gate.
    Guarded,
    /// It runs without, and why, for people.
    Unguarded(&'static str),
}

/// What a pod with a policy's label is.
pub(crate) fn guard(pod: &Pod) -> Guard {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, "Succeeded" | "Failed") {
        return Guard::Over;
    }
    let containers = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let find = |name: &str| containers.iter().position(|container| container.name == name);
    let (agent, gate) = (find(labels::AGENT_CONTAINER), find(labels::GATE_CONTAINER));
    let injected = annotation(&pod.metadata, labels::INJECTED).is_some();
    match (agent, gate) {
        (None, _) if injected => Guard::Unguarded("its agent was taken out after the webhook had put it in"),
        (None, _) => Guard::Unguarded("it was made while the webhook was away or switched off"),
        (Some(at), _) if !is_sidecar(&containers[at]) => {
            Guard::Unguarded("its agent is no sidecar any more: something took its restartPolicy away")
        }
        (Some(at), Some(gate)) if at < gate => Guard::Guarded,
        _ => Guard::Unguarded("its gate was taken out or moved: the application may have started before its state was there"),
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// An annotation.
pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The policy that an object's label names.
pub(crate) fn policy(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get(labels::POLICY).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(containers: Value, annotations: Value, status: Value) -> Guard {
        let pod = json!({ "metadata": { "name": "web-0", "annotations": annotations }, "spec": { "containers": [], "initContainers": containers }, "status": status });
        guard(&serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn every_way_to_be_without_an_agent_is_found() {
        let agent = json!({ "name": "holdfast-agent", "restartPolicy": "Always" });
        let gate = json!({ "name": "holdfast-gate" });
        let running = || json!({ "phase": "Running" });
        assert_eq!(pod(json!([{ "name": "mesh" }, agent, gate]), json!({}), running()), Guard::Guarded);
        let bad = [
            (json!([]), json!({}), "webhook was away"),
            (json!([gate]), json!({ "holdfast.dev/injected": "{}" }), "taken out after"),
            (json!([{ "name": "holdfast-agent" }, gate]), json!({}), "no sidecar"),
            (json!([agent]), json!({}), "gate was taken out"),
            (json!([gate, agent]), json!({}), "moved"),
        ];
        for (containers, annotations, why) in bad {
            let found = pod(containers, annotations, running());
            assert!(matches!(found, Guard::Unguarded(said) if said.contains(why)), "{why}: {found:?}");
        }
        assert_eq!(pod(json!([]), json!({}), json!({ "phase": "Succeeded" })), Guard::Over);
        assert!(matches!(pod(json!([]), json!({}), json!({ "phase": "Pending" })), Guard::Unguarded(_)), "before it is too late");
    }
}
