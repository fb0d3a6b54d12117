// SPDX-License-Identifier: Apache-2.0
//! What becomes of a workload: its label is carried into its pod template, so that one label is all a user writes, and
//! taken out again when it goes. A label that the template's author wrote is never touched. Pure, on raw JSON.

mod carry;
mod strategy;

use crate::around::{Around, Namespace, Settings};
use crate::ops::Ops;
use crate::pod::{self, Decision, is_disabled, policy_of};
use crate::raw;
use crate::reason::{Refusal, Said, Skip, Warning, say};
use carry::Carry;
use holdfast_api::labels::CARRIED;
use serde_json::{Value, json};

/// What is being done to a workload.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// As it is to be.
    pub object: &'a Value,
    /// As it was; `None`: it is being created.
    pub old: Option<&'a Value>,
}

impl<'a> Change<'a> {
    /// Where its pod template is, if it has one.
    fn template_path(&self) -> Option<&'static [&'static str]> {
        match self.kind {
            "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => Some(&["spec", "template"]),
            "CronJob" => Some(&["spec", "jobTemplate", "spec", "template"]),
            _ => None,
        }
    }

    fn template(&self) -> Option<&'a Value> {
        raw::at(self.object, self.template_path()?)
    }

    /// The policy that its pods are to be under: its own label's, or that which its template's author wrote.
    #[must_use]
    pub fn policy(&self) -> Option<&'a str> {
        let carried = raw::annotation(self.object, CARRIED);
        let of_template = self.template().and_then(policy_of);
        policy_of(self.object).or_else(|| of_template.filter(|policy| carried != Some(*policy)))
    }

    /// Whether its pods come under this policy by this very change. Otherwise they are under it already, and to refuse
    /// the change would stop a controller from writing down what it does.
    fn is_new(&self) -> bool {
        let Some(old) = self.old else { return true };
        let was = Self { object: old, old: None, ..*self };
        was.policy() != self.policy() || is_disabled(old)
    }

    /// Whether its template can still be changed.
    fn is_fixed(&self) -> bool {
        self.kind == "Job" && self.old.is_some()
    }
}

/// Why a workload is left alone, if it is.
#[must_use]
pub fn skip(change: &Change<'_>, namespace: &Namespace, settings: &Settings) -> Option<Skip> {
    let is_marked = raw::annotation(change.object, CARRIED).is_some();
    if change.template().is_none() {
        Some(Skip::NotHandled)
    } else if change.policy().is_none() && !is_marked {
        Some(Skip::NotLabelled)
    } else if namespace.name == settings.own_namespace || namespace.name == "kube-system" {
        Some(Skip::SystemNamespace)
    } else if is_disabled(change.object) {
        Some(Skip::Disabled)
    } else {
        namespace.disabled.then_some(Skip::NamespaceDisabled)
    }
}

/// What becomes of a workload that is being created or changed. `around` is about [`Change::policy`].
#[must_use]
pub fn decide(change: &Change<'_>, around: &Around, settings: &Settings) -> Decision {
    if let Some(skip) = skip(change, &around.namespace, settings) {
        return Decision::Skip(skip);
    }
    let (Some(path), Some(template)) = (change.template_path(), change.template()) else {
        return Decision::Skip(Skip::NotHandled);
    };
    match patch(change, path, template, around, settings) {
        Ok(decision) => decision,
        Err(refusal) if change.is_new() => Decision::Deny(refusal),
        // no pod could be refused for it later
        Err(refusal) if refusal.kind == Refusal::Surge && strategy::is_new(change) => Decision::Deny(refusal),
        // it has been so before: say it, and let the change through
        Err(refusal) => Decision::Patch(Vec::new(), vec![refused_pods(&refusal)]),
    }
}

fn refused_pods(refusal: &Said<Refusal>) -> Said<Warning> {
    say(Warning::PodsRefused, &[("sentence", &refusal.text)])
}

fn patch(
    change: &Change<'_>,
    path: &[&str],
    template: &Value,
    around: &Around,
    settings: &Settings,
) -> Result<Decision, Said<Refusal>> {
    check_shape(change.object, path)?;
    let mut ops = Ops::new(change.object);
    let mut warnings = Vec::new();
    let carry = carry::decide(change, template)?;
    if carry != Carry::Nothing && change.is_fixed() {
        return Ok(Decision::Patch(Vec::new(), vec![say(Warning::TemplateFixed, &[])]));
    }
    carry::write(&mut ops, &carry, path);
    if change.policy().is_some() {
        look_ahead(change, template, around, settings, &mut warnings)?;
        strategy::check_surge(&mut ops, change, around, &mut warnings)?;
        strategy::warn_of_claims(change, template, around, &mut warnings);
    } else {
        strategy::give_back_surge(&mut ops, change);
    }
    Ok(Decision::Patch(ops.finish(), warnings))
}

/// Says now what its pods would be told later, one after the other, by a controller that nobody watches.
fn look_ahead(
    change: &Change<'_>,
    template: &Value,
    around: &Around,
    settings: &Settings,
    warnings: &mut Vec<Said<Warning>>,
) -> Result<(), Said<Refusal>> {
    match pod::decide(&expected_pod(change, template), around, settings) {
        // a policy may be created right after what it is for
        Decision::Deny(refusal) if refusal.kind == Refusal::PolicyMissing && change.old.is_none() => {
            warnings.push(refused_pods(&refusal));
        }
        Decision::Deny(refusal) => return Err(refusal),
        Decision::Patch(_, of_pods) => {
            // once, when it is news
            warnings.extend(of_pods.into_iter().filter(|_| change.is_new()));
        }
        Decision::Skip(_) => {}
    }
    Ok(())
}

/// A pod as its controller will make it.
fn expected_pod(change: &Change<'_>, template: &Value) -> Value {
    let mut pod = template.clone();
    let claims = raw::list(change.object, &["spec", "volumeClaimTemplates"]).iter();
    let claims = claims.map(|claim| {
        let name = raw::text(claim, &["metadata", "name"]).unwrap_or_default();
        json!({"name": name, "persistentVolumeClaim": {"claimName": name}})
    });
    let mut volumes: Vec<Value> = raw::list(template, &["spec", "volumes"]).to_vec();
    volumes.extend(claims);
    // shapes were checked; what isn't an object here stays what it is, and is refused as a pod
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("volumes".to_owned(), Value::Array(volumes));
    }
    if let (Some(policy), Some(pod)) = (change.policy(), pod.as_object_mut()) {
        let metadata = pod.entry("metadata").or_insert(Value::Null);
        if metadata.is_null() {
            *metadata = json!({});
        }
        if metadata.get("labels").is_none_or(Value::is_null) {
            metadata["labels"] = json!({});
        }
        metadata["labels"][holdfast_api::labels::POLICY] = json!(policy);
    }
    pod
}

fn check_shape(object: &Value, template: &[&str]) -> Result<(), Said<Refusal>> {
    let inner = |names: &[&'static str]| template.iter().copied().chain(names.iter().copied()).collect::<Vec<_>>();
    let paths = [
        vec!["metadata"],
        vec!["metadata", "annotations"],
        vec!["metadata", "labels"],
        inner(&[]),
        inner(&["metadata"]),
        inner(&["metadata", "labels"]),
        vec!["spec", "strategy"],
        vec!["spec", "strategy", "rollingUpdate"],
        vec!["spec", "updateStrategy"],
        vec!["spec", "updateStrategy", "rollingUpdate"],
    ];
    let wrong = paths.iter().find(|path| raw::at(object, path).is_some_and(|value| !value.is_object()));
    wrong.map_or(Ok(()), |path| Err(say(Refusal::Malformed, &[("field", &path.join("."))])))
}
