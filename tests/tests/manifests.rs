// SPDX-License-Identifier: Apache-2.0
//! What `deploy/` applies: that its parts fit each other, and what the programs expect of them. Whether a cluster takes them is seen by `tests/e2e`.

use anyhow::{Context, Result, ensure};
use holdfast_tests::project;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const NAMESPACE: &str = "holdfast-system";
const NO: &Value = &Value::Null;

/// The files that the kustomization lists, relative to the project's root.
fn listed() -> Result<Vec<PathBuf>> {
    let kustomization: Value = serde_saphyr::from_str(&project::read(Path::new("deploy/kustomization.yaml"))?)?;
    let listed = kustomization["resources"].as_array().context("resources")?;
    listed.iter().map(|name| Ok(Path::new("deploy").join(name.as_str().context("a name")?))).collect()
}

/// All objects that are applied, each with its file.
fn objects() -> Result<Vec<(PathBuf, Value)>> {
    let mut found = Vec::new();
    for path in listed()? {
        for text in project::read(&path)?.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(text).with_context(|| format!("read {}", path.display()))?;
            ensure!(!text_at(&object, "/kind").is_empty(), "{}: an object without a kind", path.display());
            found.push((path.clone(), object));
        }
    }
    Ok(found)
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(NO)
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_default()
}

fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).as_array().map_or(&[], Vec::as_slice)
}

fn of_kind<'a>(objects: &'a [(PathBuf, Value)], kind: &str) -> Vec<&'a Value> {
    objects.iter().map(|(_, object)| object).filter(|object| text_at(object, "/kind") == kind).collect()
}

fn labels(value: &Value) -> BTreeMap<&str, &str> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())).collect()
}

/// The Deployment whose pods a selector chooses; labels that a program sets on its own pod are left out.
fn chosen<'a>(objects: &'a [(PathBuf, Value)], selector: &Value) -> Result<&'a Value> {
    let mut wanted = labels(selector);
    wanted.remove("holdfast.dev/leader");
    ensure!(!wanted.is_empty(), "it chooses everything");
    let fits = |deployment: &&&Value| {
        let has = labels(at(deployment, "/spec/template/metadata/labels"));
        wanted.iter().all(|(key, value)| has.get(key) == Some(value))
    };
    let deployments = of_kind(objects, "Deployment");
    let found: Vec<_> = deployments.iter().filter(fits).collect();
    ensure!(found.len() == 1, "{wanted:?} chooses {} deployments", found.len());
    Ok(found[0])
}

/// The number of a port of a Deployment's container, by its name.
fn port(deployment: &Value, name: &Value) -> Result<u64> {
    let ports = list_at(deployment, "/spec/template/spec/containers/0/ports");
    let found = ports.iter().find(|port| &port["name"] == name).with_context(|| format!("no port is named {name}"))?;
    found["containerPort"].as_u64().context("a number")
}

#[test]
fn every_file_is_applied() -> Result<()> {
    let listed: BTreeSet<_> = listed()?.into_iter().collect();
    let is_ours = |path: &PathBuf| {
        let below = ["deploy/crds", "deploy/coordinator", "deploy/webhook"].iter().any(|place| path.starts_with(place));
        below || (path.parent() == Some(Path::new("deploy")) && !path.ends_with("kustomization.yaml"))
    };
    let there: BTreeSet<_> = project::files(&[".yaml"])?.into_iter().filter(is_ours).collect();
    ensure!(listed == there, "listed and not there, or there and not listed: {:?}", listed.symmetric_difference(&there));
    let mut names = BTreeSet::new();
    for (path, object) in objects()? {
        let (kind, name) = (text_at(&object, "/kind").to_owned(), text_at(&object, "/metadata/name").to_owned());
        let place = text_at(&object, "/metadata/namespace").to_owned();
        ensure!(place.is_empty() || place == NAMESPACE, "{}: {kind} {name} is put into {place}", path.display());
        ensure!(names.insert((kind.clone(), name.clone())), "{kind} {name} is there twice");
    }
    Ok(())
}

#[test]
fn pods_are_as_restricted_as_their_namespace() -> Result<()> {
    let objects = objects()?;
    let namespace = of_kind(&objects, "Namespace");
    let enforced = at(namespace.first().context("a namespace")?, "/metadata/labels/pod-security.kubernetes.io~1enforce");
    ensure!(enforced == "restricted", "{enforced}");
    for deployment in of_kind(&objects, "Deployment") {
        let name = text_at(deployment, "/metadata/name");
        let pod = at(deployment, "/spec/template/spec");
        let security = at(pod, "/securityContext");
        ensure!(security["runAsNonRoot"] == true && security["runAsUser"] == 65532, "{name}: {security}");
        ensure!(at(security, "/seccompProfile/type") == "RuntimeDefault", "{name}: {security}");
        for container in list_at(pod, "/containers") {
            let own = at(container, "/securityContext");
            ensure!(own["allowPrivilegeEscalation"] == false && own["readOnlyRootFilesystem"] == true, "{name}: {own}");
            ensure!(list_at(own, "/capabilities/drop") == ["ALL"], "{name}: {own}");
            ensure!(
                at(container, "/resources/requests/memory").is_string() && at(container, "/resources/limits/memory").is_string(),
                "{name}"
            );
        }
        // a directory of the node keeps it from being drained, and these keep nothing on a disk
        for volume in list_at(pod, "/volumes") {
            ensure!(volume.get("emptyDir").is_none() && volume.get("hostPath").is_none(), "{name}: {volume}");
        }
    }
    Ok(())
}

#[test]
fn what_refers_to_another_finds_it() -> Result<()> {
    let objects = objects()?;
    let has = |kind: &str, name: &str| of_kind(&objects, kind).iter().any(|object| text_at(object, "/metadata/name") == name);
    for deployment in of_kind(&objects, "Deployment") {
        let name = text_at(deployment, "/metadata/name");
        chosen(&objects, at(deployment, "/spec/selector/matchLabels")).with_context(|| name.to_owned())?;
        let pod = at(deployment, "/spec/template/spec");
        ensure!(
            has("ServiceAccount", text_at(pod, "/serviceAccountName")),
            "{name}: no ServiceAccount {}",
            pod["serviceAccountName"]
        );
        ensure!(
            has("PriorityClass", text_at(pod, "/priorityClassName")),
            "{name}: no PriorityClass {}",
            pod["priorityClassName"]
        );
        for probe in ["/containers/0/livenessProbe", "/containers/0/readinessProbe"] {
            ensure!(port(deployment, at(pod, &format!("{probe}/httpGet/port")))? == 8080, "{name}: {probe}");
        }
        for spread in list_at(pod, "/topologySpreadConstraints") {
            ensure!(spread["whenUnsatisfiable"] == "ScheduleAnyway", "{name} does not fit on one node");
            chosen(&objects, at(spread, "/labelSelector/matchLabels")).with_context(|| name.to_owned())?;
        }
        ensure!(
            of_kind(&objects, "PodDisruptionBudget").iter().any(|budget| budget["metadata"]["name"] == name),
            "{name} has no budget"
        );
        ensure!(
            of_kind(&objects, "NetworkPolicy").iter().any(|policy| policy["metadata"]["name"] == name),
            "{name} has no network policy"
        );
    }
    for budget in of_kind(&objects, "PodDisruptionBudget") {
        chosen(&objects, at(budget, "/spec/selector/matchLabels")).context("a disruption budget")?;
    }
    for policy in of_kind(&objects, "NetworkPolicy") {
        let selector = at(policy, "/spec/podSelector");
        for port_of in list_at(policy, "/spec/ingress/0/ports") {
            port(chosen(&objects, at(selector, "/matchLabels"))?, &port_of["port"]).context("a network policy")?;
        }
    }
    for binding in ["RoleBinding", "ClusterRoleBinding"].iter().flat_map(|kind| of_kind(&objects, kind)) {
        let name = text_at(binding, "/metadata/name");
        let role = (text_at(binding, "/roleRef/kind"), text_at(binding, "/roleRef/name"));
        // what Kubernetes brings itself is not ours to apply
        ensure!(has(role.0, role.1) || role.1.starts_with("system:"), "{name}: no {role:?}");
        for subject in list_at(binding, "/subjects").iter().filter(|subject| subject["kind"] == "ServiceAccount") {
            ensure!(has("ServiceAccount", text_at(subject, "/name")) && subject["namespace"] == NAMESPACE, "{name}: {subject}");
        }
    }
    Ok(())
}

/// The numbers that programs, documents and other clusters' firewalls know.
#[test]
fn ports_and_images_are_those_of_the_programs() -> Result<()> {
    let objects = objects()?;
    let mut services = BTreeMap::new();
    for service in of_kind(&objects, "Service") {
        let name = text_at(service, "/metadata/name");
        let deployment = chosen(&objects, at(service, "/spec/selector")).with_context(|| name.to_owned())?;
        let first = at(service, "/spec/ports/0");
        services.insert(name, (first["port"].as_u64().context("a number")?, port(deployment, &first["targetPort"])?));
    }
    ensure!(
        services == BTreeMap::from([("holdfast-coordinator", (7420, 7420)), ("holdfast-webhook", (443, 10250))]),
        "{services:?}"
    );
    let services = of_kind(&objects, "Service");
    let mut leads = services.iter().filter(|service| service["spec"]["selector"]["holdfast.dev/leader"] == "true");
    let leader = leads.next().context("the leading coordinator serves")?;
    ensure!(leads.next().is_none(), "the leading coordinator alone serves");
    ensure!(leader["spec"]["publishNotReadyAddresses"] == true, "it is reached whatever is believed of its node");
    let version = env!("CARGO_PKG_VERSION");
    let (coordinator, agent) = (format!("holdfast/coordinator:{version}"), format!("holdfast/agent:{version}"));
    for deployment in of_kind(&objects, "Deployment") {
        ensure!(text_at(deployment, "/spec/template/spec/containers/0/image") == coordinator, "{deployment}");
    }
    let webhook = chosen(&objects, &serde_json::json!({ "app.kubernetes.io/name": "holdfast-webhook" }))?;
    let variables = list_at(webhook, "/spec/template/spec/containers/0/env");
    let given = variables.iter().find(|variable| variable["name"] == "HOLDFAST_AGENT_IMAGE").context("the agent's image")?;
    ensure!(given["value"] == *agent, "{given}");
    Ok(())
}

/// The webhook adds it to new pods, and the coordinator reads it there for those that run: a second place could say something else.
#[test]
fn the_agents_image_stands_in_one_place() -> Result<()> {
    let objects = objects()?;
    let mut told = Vec::new();
    for deployment in of_kind(&objects, "Deployment") {
        for container in list_at(deployment, "/spec/template/spec/containers") {
            let variables = list_at(container, "/env").iter().filter(|variable| variable["name"] == "HOLDFAST_AGENT_IMAGE");
            told.extend(variables.map(|variable| (text_at(deployment, "/metadata/name"), text_at(variable, "/value"))));
            ensure!(at(container, "/args").is_null(), "an argument would go before the variable: {container}");
        }
    }
    ensure!(told.len() == 1 && told[0].0 == "holdfast-webhook" && !told[0].1.is_empty(), "{told:?}");
    let component: Value =
        serde_saphyr::from_str(&project::read(Path::new("deploy/components/local-images/kustomization.yaml"))?)?;
    let patched: Vec<&str> = list_at(&component, "/patches")
        .iter()
        .filter(|patch| text_at(patch, "/patch").contains("HOLDFAST_AGENT_IMAGE"))
        .map(|patch| text_at(patch, "/target/name"))
        .collect();
    ensure!(patched == ["holdfast-webhook"], "{patched:?}");
    Ok(())
}

/// The authority is made in the cluster: an apply that wrote one, or an empty one, would cut the API server off from the webhook.
#[test]
fn no_certificate_is_applied() -> Result<()> {
    let objects = objects()?;
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        for entry in of_kind(&objects, kind).iter().flat_map(|configuration| list_at(configuration, "/webhooks")) {
            ensure!(at(entry, "/clientConfig/caBundle").is_null(), "{entry}");
            let service = at(entry, "/clientConfig/service");
            ensure!(service["name"] == "holdfast-webhook" && service["namespace"] == NAMESPACE, "{service}");
            ensure!(service["port"].is_null() || service["port"] == 443, "{service}");
        }
    }
    ensure!(of_kind(&objects, "Secret").is_empty(), "a Secret would be written anew by every apply");
    Ok(())
}

/// The probe goes the way that pods go, and nothing but the coordinator's own ConfigMaps goes with it.
#[test]
fn the_probe_goes_where_pods_go_and_takes_nothing_along() -> Result<()> {
    let objects = objects()?;
    let configurations = of_kind(&objects, "MutatingWebhookConfiguration");
    let entries = list_at(configurations.first().context("a configuration")?, "/webhooks");
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).with_context(|| format!("no entry {name}"));
    let (probe, pods) = (entry("probe.holdfast.dev")?, entry("pods.holdfast.dev")?);
    // what keeps the API server from pods' path keeps it from the probe's, and it is as patient with both
    for same in ["/clientConfig/service/name", "/clientConfig/service/namespace", "/clientConfig/service/port", "/timeoutSeconds"]
    {
        ensure!(
            !at(probe, same).is_null() && at(probe, same) == at(pods, same),
            "{same}: {} {}",
            at(probe, same),
            at(pods, same)
        );
    }
    ensure!(text_at(probe, "/clientConfig/service/path") == "/mutate/probe", "{probe}");
    // with Ignore, nobody would say why it was not reached
    ensure!(probe["failurePolicy"] == "Fail" && probe["sideEffects"] == "None", "{probe}");
    let rule = serde_json::json!([{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
        "scope": "Namespaced" }]);
    ensure!(probe["rules"] == rule, "{}", probe["rules"]);
    let labelled = serde_json::json!({ "matchExpressions": [{ "key": "holdfast.dev/probe", "operator": "Exists" }] });
    ensure!(probe["objectSelector"] == labelled, "{}", probe["objectSelector"]);
    let place = serde_json::json!({ "matchExpressions": [{ "key": "kubernetes.io/metadata.name", "operator": "In", "values": [NAMESPACE] }] });
    ensure!(probe["namespaceSelector"] == place, "{}", probe["namespaceSelector"]);
    Ok(())
}
