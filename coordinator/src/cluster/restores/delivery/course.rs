// SPDX-License-Identifier: Apache-2.0
//! What is next of a restore into a claim: plain functions of what its pod shows.

use crate::cluster::replicas::phase;
use holdfast_core::delivery::{Reason, Refused, Report};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

/// What there is of the pod that was made.
#[derive(Debug)]
pub(super) enum Seen {
    /// None was made yet.
    NotMade,
    /// It was, and is not there any more.
    Gone,
    /// It is there; and whether it is ending on a node that is lost.
    Pod(Box<Pod>, bool),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The pod is made.
    Make,
    /// Another takes its place, for this reason.
    Replace(String),
    /// It goes on.
    Wait(String),
    /// It has said its last word.
    End(Report),
}

pub(super) const fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(super) fn next(seen: &Seen) -> Next {
    let (pod, is_lost) = match seen {
        Seen::NotMade => return Next::Make,
        Seen::Gone => return Next::Replace("its pod is gone".to_owned()),
        Seen::Pod(pod, is_lost) => (pod, *is_lost),
    };
    let name = pod.name_any();
    match phase(pod) {
        "Succeeded" => Next::End(last_word(pod).unwrap_or_else(|| {
            let message = format!("pod {name} has left no word of what it wrote");
            Report { refused: Some(Refused { reason: Reason::Invalid, message }), ..Report::default() }
        })),
        "Failed" => Next::Replace(format!("pod {name} has failed{}", why(pod))),
        _ if is_lost => Next::Replace(format!("the node of pod {name} is lost")),
        _ if is_ending(pod) => Next::Wait(format!("pod {name} is being ended; another one goes on when it is gone")),
        "Running" => Next::Wait(format!("pod {name} writes the files{}", trouble(pod))),
        _ => Next::Wait(format!("pod {name} does not run yet{}", trouble(pod))),
    }
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn report(state: Option<&ContainerState>) -> Option<Report> {
    serde_json::from_str(state?.terminated.as_ref()?.message.as_ref()?).ok()
}

fn last_word(pod: &Pod) -> Option<Report> {
    report(container(pod)?.state.as_ref())
}

fn why(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let said = [status.and_then(|status| status.reason.clone()), status.and_then(|status| status.message.clone())];
    let said: Vec<String> = said.into_iter().flatten().collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join(": ")) }
}

/// What keeps it: what it said itself when it ended last, or what the node or the scheduler says.
fn trouble(pod: &Pod) -> String {
    let status = container(pod);
    let own = status.and_then(|status| report(status.last_state.as_ref()).or_else(|| report(status.state.as_ref())));
    if let Some(own) = own.filter(|own| !own.trouble.is_empty()) {
        return format!("; its last try ended: {}", own.trouble);
    }
    let waiting = status.and_then(|status| status.state.as_ref()?.waiting.clone());
    if let Some(waiting) = waiting {
        let said: Vec<String> = [waiting.reason, waiting.message].into_iter().flatten().collect();
        return format!(": {}", said.join(": "));
    }
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut unscheduled = conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    unscheduled.find_map(|condition| condition.message.clone()).map_or_else(String::new, |message| format!(": {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn seen(phase: &str, more: Value) -> Seen {
        let mut object = json!({ "metadata": { "name": "writer" }, "spec": { "containers": [] }, "status": { "phase": phase } });
        json_patch::merge(&mut object, &more);
        Seen::Pod(Box::new(serde_json::from_value(object).expect("a pod")), false)
    }

    fn ended(message: &str, field: &str) -> Value {
        let terminated = json!({ "terminated": { "exitCode": 1, "message": message } });
        let status = json!({ "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 1, field: terminated });
        json!({ "status": { "containerStatuses": [status] } })
    }

    #[test]
    fn a_pod_is_made_once_and_replaced_when_it_can_not_end() {
        assert_eq!(next(&Seen::NotMade), Next::Make);
        assert!(matches!(next(&Seen::Gone), Next::Replace(why) if why.contains("gone")));
        let evicted = json!({ "status": { "reason": "Evicted", "message": "the node was low on resource" } });
        assert!(
            matches!(next(&seen("Failed", evicted)), Next::Replace(why) if why.ends_with("(Evicted: the node was low on resource)"))
        );
        let ending = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
        assert!(matches!(next(&seen("Running", ending.clone())), Next::Wait(_)), "it may still write");
        let Seen::Pod(pod, _) = seen("Running", ending) else { unreachable!() };
        assert!(matches!(next(&Seen::Pod(pod, true)), Next::Replace(_)));
    }

    #[test]
    fn what_keeps_it_is_told() {
        let said = |seen: &Seen| match next(seen) {
            Next::Wait(said) => said,
            other => panic!("{other:?}"),
        };
        assert!(said(&seen("Running", json!({}))).ends_with("writes the files"));
        let again = ended(r#"{"trouble":"the store does not answer"}"#, "lastState");
        assert!(said(&seen("Running", again)).ends_with("its last try ended: the store does not answer"));
        let condition = json!({ "type": "PodScheduled", "status": "False", "message": "no node fits" });
        assert!(said(&seen("Pending", json!({ "status": { "conditions": [condition] } }))).ends_with("yet: no node fits"));
    }

    #[test]
    fn the_last_word_counts_and_nothing_else() {
        let word = r#"{"delivered":[{"root":"aa","deviations":0,"bytes":5,"tookMs":7}]}"#;
        assert!(
            matches!(next(&seen("Succeeded", ended(word, "state"))), Next::End(report) if report.delivered.len() == 1 && report.refused.is_none())
        );
        for nonsense in ["", "done!"] {
            let report = next(&seen("Succeeded", ended(nonsense, "state")));
            assert!(matches!(report, Next::End(report) if report.refused.is_some()), "{nonsense}");
        }
    }
}
