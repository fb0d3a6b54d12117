// SPDX-License-Identifier: Apache-2.0
//! What a restore would do, in sentences, and what stands in its way. Plain functions of what the cluster and the repository show.

use super::history::Standing;
use crate::cluster::RepositoryKey;
use crate::cluster::conditions::whole_seconds;
use crate::cluster::hindrance::{Hindrance, listed};
use crate::cluster::replicas::{has_ended, is_ending};
use holdfast_api::labels;
use holdfast_api::restore::{AcceptSpec, RestoredMember};
use holdfast_core::id::OwnerId;
use holdfast_core::time::Timestamp;
use holdfast_proto::v1::Quality;
use holdfast_store::snapshot::Image;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Replicas of one restore: as many as its status holds.
pub(super) const MEMBERS_MAX: usize = 256;
/// Sentences of a plan: as many as its status holds.
const SENTENCES_MAX: usize = 256;

/// A replica, and the state that it is to go back to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The StateLineage.
    pub(super) lineage: String,
    /// Its name in the repository.
    pub(super) stored_as: String,
    pub(super) sequence: u64,
    pub(super) root: String,
    pub(super) time: Timestamp,
    pub(super) quality: Quality,
    /// The lengths of its files together.
    pub(super) bytes: u64,
    /// Files, directories and links.
    pub(super) entries: u64,
    pub(super) standing: Standing,
}

/// What was asked for, as the repository has it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) repository: RepositoryKey,
    /// Which state that is, in a sentence.
    pub(super) how: String,
    pub(super) targets: Vec<Target>,
    /// Replicas that stay as they are: the StateLineage, or its name in the repository, and why.
    pub(super) left: Vec<(String, String)>,
    /// What the replicas ran when it was taken, if that was recorded.
    pub(super) images: Vec<Image>,
}

/// What is there now.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// Pods with lineages.
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) budgets: Vec<PodDisruptionBudget>,
    /// Who owns what this cluster writes.
    pub(super) owner: Option<OwnerId>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) members: Vec<RestoredMember>,
    pub(super) sentences: Vec<String>,
    /// The first thing that stands in its way and was not agreed to.
    pub(super) obstacle: Option<Hindrance>,
    /// The moment of the newest of the checkpoints.
    pub(super) restored_to: Option<Time>,
    /// All of it in one sentence.
    pub(super) short: String,
}

/// Plans a restore in place.
pub(super) fn plan(draft: &Draft, accept: &AcceptSpec, scene: &Scene) -> Plan {
    let pods = bearing(draft, &scene.pods);
    let mut obstacles = Vec::new();
    let mut sentences = vec![draft.how.clone()];
    let mut meet = |found: Option<(Hindrance, bool)>| {
        if let Some((hindrance, agreed)) = found {
            sentences.push(if agreed { format!("agreed to: {}", hindrance.message) } else { hindrance.message.clone() });
            obstacles.extend((!agreed).then_some(hindrance));
        }
    };
    meet(size(draft));
    meet(foreign(draft, scene.owner));
    meet(fuzzy(draft).map(|hindrance| (hindrance, accept.fuzzy)));
    meet(images(draft, &pods).map(|hindrance| (hindrance, accept.different_image)));
    meet(bare(&pods));
    meet(budgets(&pods, &scene.budgets).map(|hindrance| (hindrance, accept.disruption)));
    sentences.extend(draft.targets.iter().map(goes_back));
    sentences.extend(draft.left.iter().map(|(name, why)| format!("{name} stays as it is: {why}")));
    if sentences.len() > SENTENCES_MAX {
        let more = sentences.len() - SENTENCES_MAX + 1;
        sentences.truncate(SENTENCES_MAX - 1);
        sentences.push(format!("and {more} more"));
    }
    let newest = draft.targets.iter().map(|target| target.time).max();
    let count = match draft.targets.len() {
        1 => "one replica".to_owned(),
        count => format!("{count} replicas"),
    };
    let running = match pods.len() {
        0 => "no pod of them runs".to_owned(),
        1 => "one pod ends".to_owned(),
        pods => format!("{pods} pods end together"),
    };
    Plan {
        members: draft.targets.iter().map(member).collect(),
        obstacle: obstacles.into_iter().next(),
        restored_to: newest.map(whole_seconds),
        short: format!("{count}: {running}; {}", draft.how),
        sentences,
    }
}

pub(super) fn member(target: &Target) -> RestoredMember {
    RestoredMember {
        lineage: target.lineage.clone(),
        stored_as: target.stored_as.clone(),
        sequence: number(target.sequence),
        root: target.root.clone(),
        origin: None,
        head: number(target.standing.head),
        kept: None,
        claim: None,
        before: None,
    }
}

/// A number as the API carries it.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn goes_back(target: &Target) -> String {
    let Target { lineage, sequence, time, bytes, .. } = target;
    let quality = match target.quality {
        Quality::Fuzzy => "fuzzy",
        Quality::Partial => "partial",
        Quality::Clean | Quality::Unspecified => "clean",
    };
    let to = format!(
        "checkpoint {sequence} of {} ({quality}; {bytes} bytes of files, of which only what differs is fetched)",
        moment(*time)
    );
    match target.standing.newest {
        Some((newest, when)) if newest != *sequence => format!(
            "{lineage} goes from checkpoint {newest} of {} to {to}; what came after it stays in the timeline as a branch",
            moment(when)
        ),
        _ => format!("{lineage} goes to {to}, which is its newest"),
    }
}

/// A moment for people.
pub(super) fn moment(moment: Timestamp) -> String {
    moment.to_jiff().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The pods that have one of the lineages and have not ended, with its name.
fn bearing<'a>(draft: &Draft, pods: &'a [Arc<Pod>]) -> Vec<(&'a str, &'a Arc<Pod>)> {
    let of = |pod: &'a Arc<Pod>| {
        let lineage = pod.labels().get(labels::LINEAGE)?;
        let is_meant = draft.targets.iter().any(|target| target.lineage == *lineage);
        let lives = !has_ended(pod) && !is_ending(pod);
        (is_meant && lives && pod.namespace().as_deref() == Some(&draft.repository.namespace)).then_some((lineage.as_str(), pod))
    };
    pods.iter().filter_map(of).collect()
}

fn size(draft: &Draft) -> Option<(Hindrance, bool)> {
    let hindrance = match draft.targets.len() {
        0 => Hindrance::lasting("NothingStored", "no replica has a state to go back to"),
        1..=MEMBERS_MAX => return None,
        count => Hindrance::lasting(
            "TooMany",
            format!(
                "{count} replicas are more than the {MEMBERS_MAX} of one restore: name policies, and create a StateRestore for each"
            ),
        ),
    };
    Some((hindrance, false))
}

fn foreign(draft: &Draft, owner: Option<OwnerId>) -> Option<(Hindrance, bool)> {
    let is_foreign = |target: &&Target| owner.is_some_and(|owner| target.standing.owner != owner);
    let names: Vec<&str> = draft.targets.iter().filter(is_foreign).map(|target| target.lineage.as_str()).collect();
    let message = format!("another cluster owns {}: its state is adopted first, when a pod of it starts", listed(&names));
    (!names.is_empty()).then(|| (Hindrance::lasting("ForeignLineage", message), false))
}

pub(super) fn fuzzy(draft: &Draft) -> Option<Hindrance> {
    let is_fuzzy = |target: &&Target| target.quality == Quality::Fuzzy;
    let names: Vec<&str> = draft.targets.iter().filter(is_fuzzy).map(|target| target.lineage.as_str()).collect();
    let message = format!(
        "something changed while the states of {} were captured, and there is no clean one of that moment: write accept: {{fuzzy: true}} to take them",
        listed(&names)
    );
    (!names.is_empty()).then(|| Hindrance::lasting("OnlyFuzzy", message))
}

/// Containers that run another image than was recorded.
fn images(draft: &Draft, pods: &[(&str, &Arc<Pod>)]) -> Option<Hindrance> {
    let stored: BTreeMap<&str, &str> = draft.targets.iter().map(|of| (of.lineage.as_str(), of.stored_as.as_str())).collect();
    let mut other = BTreeSet::new();
    for (lineage, pod) in pods {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        for container in statuses.into_iter().flatten().filter(|container| !container.image_id.is_empty()) {
            let was = draft.images.iter().find(|image| {
                Some(&image.lineage.as_str()) == stored.get(lineage)
                    && image.container == container.name
                    && !image.digest.is_empty()
            });
            if let Some(was) = was.filter(|was| was.digest != container.image_id) {
                other.insert(format!("container {} ran {} and runs {}", container.name, was.digest, container.image_id));
            }
        }
    }
    let said: Vec<&str> = other.iter().map(String::as_str).collect();
    let message = format!(
        "the replicas run another image than the state was captured with ({}): roll the workload back first, or write accept: {{differentImage: true}}",
        listed(&said)
    );
    (!other.is_empty()).then(|| Hindrance::lasting("ImageDiffers", message))
}

/// Pods that nobody would make again.
fn bare(pods: &[(&str, &Arc<Pod>)]) -> Option<(Hindrance, bool)> {
    let is_bare = |pod: &Pod| !pod.owner_references().iter().any(|owner| owner.controller == Some(true));
    let names: Vec<String> = pods.iter().filter(|(_, pod)| is_bare(pod)).map(|(_, pod)| pod.name_any()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let message = format!(
        "no controller would make {} again: delete such a pod and apply it anew while the restore goes on, or leave its policy out",
        listed(&names)
    );
    (!names.is_empty()).then(|| (Hindrance::lasting("NoController", message), false))
}

/// Budgets that would not let all pods go at once.
fn budgets(pods: &[(&str, &Arc<Pod>)], budgets: &[PodDisruptionBudget]) -> Option<Hindrance> {
    let blocks = |budget: &&PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
        let Some(Ok(selector)) = selector.map(Selector::try_from) else { return false };
        let covered =
            pods.iter().filter(|(_, pod)| pod.namespace() == budget.namespace() && selector.matches(pod.labels())).count();
        let allowed = budget.status.as_ref().map_or(0, |status| usize::try_from(status.disruptions_allowed).unwrap_or(0));
        covered > allowed
    };
    let names: Vec<String> = budgets.iter().filter(blocks).map(ResourceExt::name_any).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let message = format!(
        "all pods end together, and PodDisruptionBudget {} does not let them: write accept: {{disruption: true}} to end them all the same",
        listed(&names)
    );
    (!names.is_empty()).then(|| Hindrance::lasting("DisruptionBudget", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const OURS: OwnerId = OwnerId::new([1; 16]);

    fn target(slot: u8, quality: Quality) -> Target {
        let time = |text: &str| Timestamp::from(text.parse::<jiff::Timestamp>().expect("a time"));
        Target {
            lineage: format!("statefulset-web-{slot}"),
            stored_as: format!("statefulset/web/{slot}"),
            sequence: 7,
            root: "aa".to_owned(),
            time: time("2026-03-01T14:03:07.5Z"),
            quality,
            bytes: 12,
            entries: 3,
            standing: Standing { head: 12, newest: Some((11, time("2026-03-01T14:05:00Z"))), owner: OURS },
        }
    }

    fn draft(targets: Vec<Target>) -> Draft {
        let image = Image {
            lineage: "statefulset/web/0".to_owned(),
            container: "web".to_owned(),
            image: "web:1".to_owned(),
            digest: "web@sha256:one".to_owned(),
        };
        let left = vec![("statefulset-web-9".to_owned(), "it has no state of that moment".to_owned())];
        Draft {
            repository: RepositoryKey::new("shop", "default"),
            how: "to a snapshot".to_owned(),
            targets,
            left,
            images: vec![image],
        }
    }

    fn pod(slot: u8, image: &str, more: Value) -> Arc<Pod> {
        let mut object = json!({
            "metadata": { "name": format!("web-{slot}"), "namespace": "shop",
                "labels": { "app": "web", "holdfast.dev/lineage": format!("statefulset-web-{slot}") },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u", "controller": true }] },
            "status": { "phase": "Running", "containerStatuses": [
                { "name": "web", "image": image, "imageID": format!("web@sha256:{image}"), "ready": true, "restartCount": 0 }] },
        });
        json_patch::merge(&mut object, &more);
        Arc::new(serde_json::from_value(object).expect("a pod"))
    }

    fn scene(pods: Vec<Arc<Pod>>, allowed: Option<i32>) -> Scene {
        let budget = |allowed: i32| {
            let object = json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": { "selector": { "matchLabels": { "app": "web" } } },
                "status": { "disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2 } });
            serde_json::from_value(object).expect("a budget")
        };
        Scene { pods, budgets: allowed.map(budget).into_iter().collect(), owner: Some(OURS) }
    }

    fn obstacle(draft: &Draft, accept: &AcceptSpec, scene: &Scene) -> Option<&'static str> {
        plan(draft, accept, scene).obstacle.map(|hindrance| hindrance.reason)
    }

    #[test]
    fn each_replica_has_its_sentence() {
        let two = draft(vec![target(0, Quality::Clean), target(1, Quality::Clean)]);
        let plan = plan(&two, &AcceptSpec::default(), &scene(vec![pod(0, "one", json!({})), pod(1, "one", json!({}))], None));
        assert_eq!((plan.obstacle, plan.members.len()), (None, 2));
        assert_eq!(plan.short, "2 replicas: 2 pods end together; to a snapshot");
        assert_eq!(
            plan.sentences[1],
            "statefulset-web-0 goes from checkpoint 11 of 2026-03-01 14:05:00 UTC to checkpoint 7 of 2026-03-01 14:03:07 UTC (clean; \
             12 bytes of files, of which only what differs is fetched); what came after it stays in the timeline as a branch"
        );
        assert_eq!(plan.sentences[3], "statefulset-web-9 stays as it is: it has no state of that moment");
        assert_eq!((plan.members[1].sequence, plan.members[1].head, plan.members[1].claim), (7, 12, None));
    }

    #[test]
    fn what_stands_in_the_way_has_a_name_and_can_be_agreed_to() {
        let (none, two) = (AcceptSpec::default(), draft(vec![target(0, Quality::Clean), target(1, Quality::Clean)]));
        let pods = || vec![pod(0, "one", json!({})), pod(1, "two", json!({}))];
        assert_eq!(obstacle(&two, &none, &scene(pods(), Some(2))), None, "of web-1 nothing was recorded");
        assert_eq!(obstacle(&two, &none, &scene(pods(), Some(1))), Some("DisruptionBudget"), "two are ended");
        let agreed = AcceptSpec { disruption: true, ..none };
        assert_eq!(obstacle(&two, &agreed, &scene(pods(), Some(0))), None);
        let said = plan(&two, &agreed, &scene(pods(), Some(0))).sentences;
        assert!(said[1].starts_with("agreed to: all pods end together, and PodDisruptionBudget web"), "{said:?}");
        let newer = || vec![pod(0, "two", json!({}))];
        assert_eq!(obstacle(&two, &none, &scene(newer(), None)), Some("ImageDiffers"));
        assert_eq!(obstacle(&two, &AcceptSpec { different_image: true, ..none }, &scene(newer(), None)), None);
        let bare = vec![pod(0, "one", json!({ "metadata": { "ownerReferences": null } }))];
        assert_eq!(obstacle(&two, &agreed, &scene(bare, None)), Some("NoController"));
        let fuzzy = draft(vec![target(0, Quality::Fuzzy)]);
        assert_eq!(obstacle(&fuzzy, &none, &Scene::default()), Some("OnlyFuzzy"));
        assert_eq!(obstacle(&fuzzy, &AcceptSpec { fuzzy: true, ..none }, &Scene::default()), None);
        let other = Scene { owner: Some(OwnerId::new([2; 16])), ..Scene::default() };
        assert_eq!(obstacle(&two, &none, &other), Some("ForeignLineage"));
        assert_eq!(obstacle(&draft(Vec::new()), &none, &Scene::default()), Some("NothingStored"));
        let many = draft((0..=u8::MAX).map(|slot| target(slot, Quality::Clean)).chain([target(0, Quality::Clean)]).collect());
        let plan = plan(&many, &none, &Scene::default());
        assert_eq!((plan.obstacle.map(|why| why.reason), plan.sentences.len()), (Some("TooMany"), SENTENCES_MAX));
    }

    #[test]
    fn pods_of_others_are_none_of_its_business() {
        let one = draft(vec![target(0, Quality::Clean)]);
        let ended = pod(0, "two", json!({ "status": { "phase": "Failed" } }));
        let elsewhere = pod(0, "two", json!({ "metadata": { "namespace": "bank" } }));
        let plan = plan(&one, &AcceptSpec::default(), &scene(vec![ended, elsewhere, pod(3, "two", json!({}))], Some(0)));
        assert_eq!((plan.obstacle, plan.short.as_str()), (None, "one replica: no pod of them runs; to a snapshot"));
    }
}
