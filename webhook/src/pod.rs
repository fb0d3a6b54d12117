// SPDX-License-Identifier: Apache-2.0
//! What becomes of a pod: a patch, nothing, or a refusal. Pure: everything it rests on is an argument. It is computed on
//! raw JSON, since a typed pod would lose every field that this program's version of Kubernetes doesn't know.
//!
//! A pod may come with our containers in it: we are asked again after other webhooks changed it, and people copy pods.
//! So what is ours is set apart first; the decision rests on the rest alone; and only what differs is changed.

mod container;
mod mesh;
mod mounts;
mod parts;
mod place;
mod processes;
mod resources;
mod user;

pub use container::config_digest;

use crate::around::{Around, Known, Namespace, Settings};
use crate::ops::Ops;
use crate::raw;
use crate::reason::{Refusal, Said, Skip, Warning, say};
use holdfast_api::labels;
use holdfast_core::policy::Policy;
use json_patch::PatchOperation;
use parts::Parts;
use serde_json::Value;

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is let in with these changes, which may be none.
    Patch(Vec<PatchOperation>, Vec<Said<Warning>>),
    /// It is let in as it is.
    Skip(Skip),
    /// It is refused.
    Deny(Said<Refusal>),
}

/// The policy that an object's label names.
#[must_use]
pub fn policy_of(object: &Value) -> Option<&str> {
    raw::label(object, labels::POLICY)
}

/// Whether an annotation keeps the webhook away.
pub(crate) fn is_disabled(object: &Value) -> bool {
    raw::annotation(object, labels::INJECT) == Some("disabled")
}

/// Why a pod is left alone, if it is: before anything else is asked for.
#[must_use]
pub fn skip(pod: &Value, namespace: &Namespace, settings: &Settings) -> Option<Skip> {
    let is_mirror = raw::annotation(pod, "kubernetes.io/config.mirror").is_some();
    if policy_of(pod).is_none() {
        Some(Skip::NotLabelled)
    } else if namespace.name == settings.own_namespace || namespace.name == "kube-system" {
        Some(Skip::SystemNamespace)
    } else if is_mirror {
        Some(Skip::MirrorPod)
    } else if is_disabled(pod) {
        Some(Skip::Disabled)
    } else {
        namespace.disabled.then_some(Skip::NamespaceDisabled)
    }
}

/// What becomes of a pod that is being created.
#[must_use]
pub fn decide(pod: &Value, around: &Around, settings: &Settings) -> Decision {
    if let Some(skip) = skip(pod, &around.namespace, settings) {
        return Decision::Skip(skip);
    }
    match inject(pod, around, settings) {
        Ok((ops, warnings)) => Decision::Patch(ops, warnings),
        Err(refusal) => Decision::Deny(refusal),
    }
}

type Injection = (Vec<PatchOperation>, Vec<Said<Warning>>);

fn inject(pod: &Value, around: &Around, settings: &Settings) -> Result<Injection, Said<Refusal>> {
    let parts = Parts::of(pod)?;
    let policy = usable(pod, around)?;
    check_ground(&parts, around, settings)?;
    let mut warnings = Vec::new();
    warn_of_ground(&parts, policy, around, &mut warnings);
    let mounts = mounts::plan(&parts, policy, &mut warnings)?;
    let index = mesh::place(&parts, &mounts, settings.coordinator_port(), around.store_port)?;
    mounts.warn_of_inits(&parts, index, &mut warnings);
    let user = user::choose(&parts, policy, &mounts, &around.namespace, &mut warnings)?;
    let shares_processes = processes::share(&parts, policy, &user, &mounts, &mut warnings)?;
    let share = resources::choose(&parts, policy, mounts.memory_bytes);
    let made =
        container::make(&container::Order { parts: &parts, policy, mounts: &mounts, user: &user, share: &share, settings });
    let mut ops = Ops::new(pod);
    if shares_processes && raw::at(pod, &["spec", "shareProcessNamespace"]).is_none() {
        ops.set(&["spec", "shareProcessNamespace"], Value::Bool(true));
    }
    place::volumes(&mut ops, &parts, &made.volumes);
    place::provisioned(&mut ops, &parts, &mounts.provisioned);
    place::containers(&mut ops, &parts, index, made.agent, made.gate);
    place::marks(&mut ops, pod, &made.marks);
    Ok((ops.finish(), warnings))
}

fn usable<'a>(pod: &Value, around: &'a Around) -> Result<&'a Policy, Said<Refusal>> {
    let name = policy_of(pod).unwrap_or_default();
    if name.is_empty() {
        return Err(say(Refusal::PolicyNameEmpty, &[]));
    }
    match &around.policy {
        Known::Missing => Err(say(Refusal::PolicyMissing, &[("policy", name), ("namespace", &around.namespace.name)])),
        Known::Unusable(finding) => Err(say(Refusal::PolicyUnusable, &[("policy", name), ("finding", finding)])),
        Known::Usable(policy) => Ok(policy),
    }
}

/// What the agent can't do without, wherever the state is.
fn check_ground(parts: &Parts<'_>, around: &Around, settings: &Settings) -> Result<(), Said<Refusal>> {
    let spec = |name: &str| raw::text(parts.pod, &["spec", name]);
    if let Some(os) = raw::text(parts.pod, &["spec", "os", "name"]).filter(|os| *os != "linux") {
        return Err(say(Refusal::OperatingSystem, &[("os", os)]));
    }
    if let Some(old) = &around.old_node {
        return Err(say(Refusal::OldNode, &[("node", &old.name), ("version", &old.version)]));
    }
    let on_host = parts.is("hostNetwork");
    let dns = spec("dnsPolicy").unwrap_or("ClusterFirst");
    // on the host's network, ClusterFirst means the host's resolver
    let finds = dns == "ClusterFirstWithHostNet" || dns == "None" || (dns == "ClusterFirst" && !on_host);
    if !finds && !is_address(&settings.coordinator) {
        let instead = if on_host { "ClusterFirstWithHostNet" } else { "ClusterFirst" };
        return Err(say(Refusal::NoClusterDns, &[("dns", dns), ("instead", instead)]));
    }
    Ok(())
}

/// Whether a URL's host is an address, for which nobody needs to be asked.
fn is_address(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    host.parse::<std::net::SocketAddr>().is_ok() || host.parse::<std::net::IpAddr>().is_ok()
}

/// Less than this is not enough to bring the last changes out, in seconds.
const GRACE_SECONDS: i64 = 10;

fn warn_of_ground(parts: &Parts<'_>, policy: &Policy, around: &Around, warnings: &mut Vec<Said<Warning>>) {
    if around.store_port.is_none() {
        let words = [("repository", policy.repository.as_str()), ("namespace", &around.namespace.name)];
        warnings.push(say(Warning::RepositoryMissing, &words));
    }
    if raw::text(parts.pod, &["spec", "dnsPolicy"]) == Some("None") {
        warnings.push(say(Warning::DnsUnknown, &[]));
    }
    let grace = parts.grace_seconds();
    if grace < GRACE_SECONDS {
        warnings.push(say(Warning::ShortGrace, &[("seconds", &grace.to_string())]));
    }
}
