// SPDX-License-Identifier: Apache-2.0
//! As whom the agent runs: as those whose files it reads and restores.

use super::mounts::Mounts;
use super::parts::Parts;
use super::policy_of;
use crate::around::Namespace;
use crate::raw;
use crate::reason::{Refusal, Said, Warning, say};
use holdfast_core::policy::{Policy, User};
use serde_json::{Map, Value, json};

/// The user of a process that needs no file of anybody.
const NOBODY: i64 = 65532;

/// As whom ours run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    /// The user; `None`: the cluster assigns one, the same to all containers.
    pub(crate) user: Option<i64>,
    /// The group; `None`: the pod's, or the image's.
    pub(crate) group: Option<i64>,
    /// It runs as root, with what restoring every owner takes.
    pub(crate) keeps_owners: bool,
    /// The label of SELinux that the application's containers have of their own.
    se_linux: Option<Value>,
}

/// The user that a container is declared to run as.
pub(crate) fn user_of(parts: &Parts<'_>, container: &Value) -> Option<i64> {
    let own = raw::at(container, &["securityContext", "runAsUser"]);
    own.or_else(|| raw::at(parts.pod, &["spec", "securityContext", "runAsUser"])).and_then(Value::as_i64)
}

/// As whom the agent runs.
pub(crate) fn choose(
    parts: &Parts<'_>,
    policy: &Policy,
    mounts: &Mounts<'_>,
    namespace: &Namespace,
    warnings: &mut Vec<Said<Warning>>,
) -> Result<Who, Said<Refusal>> {
    let with_state = &mounts.containers;
    let group_of = |container: &Value| {
        let own = raw::at(container, &["securityContext", "runAsGroup"]);
        own.or_else(|| raw::at(parts.pod, &["spec", "securityContext", "runAsGroup"])).and_then(Value::as_i64)
    };
    let group = with_state.iter().find_map(|container| group_of(container));
    let mut labels = with_state.iter().map(|container| raw::at(container, &["securityContext", "seLinuxOptions"]));
    let first_label = labels.next().flatten();
    let se_linux = first_label.filter(|label| labels.all(|other| other == Some(*label))).cloned();
    match policy.user {
        User::PreserveOwner if namespace.restricted => {
            let policy = policy_of(parts.pod).unwrap_or_default();
            Err(say(Refusal::PodSecurity, &[("namespace", &namespace.name), ("policy", policy)]))
        }
        User::PreserveOwner => Ok(Who { user: Some(0), group: Some(0), keeps_owners: true, se_linux }),
        User::RunAs { user, group: own } => {
            Ok(Who { user: Some(user.into()), group: own.map(i64::from).or(group), keeps_owners: false, se_linux })
        }
        User::Application if namespace.assigns_users => Ok(Who { user: None, group: None, keeps_owners: false, se_linux }),
        User::Application => {
            let user = common_user(parts, with_state)?;
            if user == 0 {
                warnings.push(say(Warning::RootUser, &[]));
            }
            let has_fs_group = raw::at(parts.pod, &["spec", "securityContext", "fsGroup"]).is_some();
            if let (None, false, Some(container)) = (group, has_fs_group, with_state.first()) {
                warnings.push(say(Warning::GroupUnknown, &[("container", raw::name(container))]));
            }
            Ok(Who { user: Some(user), group, keeps_owners: false, se_linux })
        }
    }
}

/// The one user of all containers that use the state.
fn common_user(parts: &Parts<'_>, containers: &[&Value]) -> Result<i64, Said<Refusal>> {
    let policy = policy_of(parts.pod).unwrap_or_default();
    let mut found: Option<(&str, i64)> = None;
    for container in containers {
        let name = raw::name(container);
        let Some(user) = user_of(parts, container) else {
            return Err(say(Refusal::UserUnknown, &[("container", name), ("policy", policy)]));
        };
        match found {
            Some((one, other)) if other != user => {
                let (user, second) = (other.to_string(), user.to_string());
                let words = [("one", one), ("other", name), ("user", &*user), ("second", &*second), ("policy", policy)];
                return Err(say(Refusal::UsersDiffer, &words));
            }
            _ => found = Some((name, user)),
        }
    }
    found.map(|(_, user)| user).ok_or_else(|| say(Refusal::UserUnknown, &[("container", "?"), ("policy", policy)]))
}

impl Who {
    /// The security context of the agent. It passes Pod Security `restricted` unless it keeps owners or is root.
    pub(crate) fn agent(&self, signals: bool) -> Value {
        let added = match (self.keeps_owners, signals) {
            (true, true) => json!(["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL"]),
            (true, false) => json!(["CHOWN", "DAC_OVERRIDE", "FOWNER"]),
            (false, _) => Value::Null,
        };
        // its index lies in its own layer, since an emptyDir would keep the pod from being drained
        self.context(added, false)
    }

    /// The security context of the gate, which touches no file.
    pub(crate) fn gate(&self) -> Value {
        if !self.keeps_owners {
            return self.context(Value::Null, true);
        }
        let nobody = Self { user: Some(NOBODY), group: Some(NOBODY), keeps_owners: false, se_linux: self.se_linux.clone() };
        nobody.context(Value::Null, true)
    }

    fn context(&self, added: Value, read_only: bool) -> Value {
        let mut capabilities = json!({"drop": ["ALL"]});
        if !added.is_null() {
            capabilities["add"] = added;
        }
        let mut context = Map::new();
        context.insert("allowPrivilegeEscalation".to_owned(), json!(false));
        context.insert("capabilities".to_owned(), capabilities);
        context.insert("readOnlyRootFilesystem".to_owned(), json!(read_only));
        context.insert("runAsNonRoot".to_owned(), json!(self.user != Some(0)));
        context.insert("seccompProfile".to_owned(), json!({"type": "RuntimeDefault"}));
        let numbers = [("runAsUser", self.user), ("runAsGroup", self.group)];
        context.extend(numbers.into_iter().filter_map(|(field, number)| Some((field.to_owned(), json!(number?)))));
        if let Some(label) = &self.se_linux {
            context.insert("seLinuxOptions".to_owned(), label.clone());
        }
        Value::Object(context)
    }
}
