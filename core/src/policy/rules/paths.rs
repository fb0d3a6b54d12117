// SPDX-License-Identifier: Apache-2.0
//! Rules about state paths.

use super::Rule;
use crate::policy::pattern::is_pattern;
use crate::policy::{Policy, Provision, Scope, Severity, StatePath};

/// The field of each path that `broken` says breaks a rule.
fn paths_if(policy: &Policy, field: &str, broken: impl Fn(&StatePath) -> bool) -> Vec<String> {
    let paths = policy.paths.iter().enumerate();
    paths.filter(|(_, path)| broken(path)).map(|(index, _)| format!("spec.paths[{index}]{field}")).collect()
}

/// On `spec`.
pub const PATHS_EMPTY: Rule<Policy> = Rule {
    name: "paths-empty",
    severity: Severity::Error,
    sentence: "nothing is state: name at least one directory, for example {label: data, path: /var/lib/app}",
    cel: "size(self.paths) > 0",
    broken: |policy| super::field_if(policy.paths.is_empty(), "spec.paths"),
};

fn is_absolute(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part))
}

/// On each of `spec.paths`.
pub const PATH_ABSOLUTE: Rule<Policy> = Rule {
    name: "path-absolute",
    severity: Severity::Error,
    sentence: "is not the absolute path of a directory below /: write it as the container sees it, without '.', '..' and a slash at the end, for example /var/lib/app",
    cel: "self.path.matches('^(/[^/]+)+$') && !self.path.matches('/[.][.]?(/|$)')",
    broken: |policy| paths_if(policy, ".path", |path| !is_absolute(&path.path)),
};

const SYSTEM: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// On each of `spec.paths`.
pub const PATH_SYSTEM: Rule<Policy> = Rule {
    name: "path-system",
    severity: Severity::Error,
    sentence: "lies in /proc, /sys, /dev or /run, which belong to the system: name the directory that holds the application's files",
    cel: "!self.path.matches('^/(proc|sys|dev|run)(/|$)')",
    broken: |policy| paths_if(policy, ".path", |path| SYSTEM.iter().any(|system| is_within(&path.path, system))),
};

/// On `spec`.
pub const PATHS_NESTED: Rule<Policy> = Rule {
    name: "paths-nested",
    severity: Severity::Error,
    sentence: "is, or lies inside, another state path: name the outer one only, and leave parts of it out with exclude",
    cel: "self.paths.all(a, self.paths.all(b, a.label == b.label || !(b.path + '/').startsWith(a.path + '/')))",
    broken: |policy| {
        let inside = |inner: &StatePath| {
            policy.paths.iter().any(|outer| outer.label != inner.label && is_within(&inner.path, &outer.path))
        };
        paths_if(policy, ".path", inside)
    },
};

fn is_label(label: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&label.len()) && label.chars().all(plain) && !label.starts_with('-') && !label.ends_with('-')
}

/// On each of `spec.paths`.
pub const LABEL_FORM: Rule<Policy> = Rule {
    name: "label-form",
    severity: Severity::Error,
    sentence: "is not a label: use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end",
    cel: "self.label.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    broken: |policy| paths_if(policy, ".label", |path| !is_label(&path.label)),
};

/// On `spec`.
pub const LABEL_TWICE: Rule<Policy> = Rule {
    name: "label-twice",
    severity: Severity::Error,
    sentence: "is the label of two paths: give each its own, since a path is found again by its label",
    cel: "self.paths.all(a, self.paths.exists_one(b, b.label == a.label))",
    broken: |policy| {
        let twice = |index: usize, path: &StatePath| policy.paths[..index].iter().any(|other| other.label == path.label);
        let paths = policy.paths.iter().enumerate();
        paths.filter(|(index, path)| twice(*index, path)).map(|(index, _)| format!("spec.paths[{index}].label")).collect()
    },
};

/// Includes and excludes; CEL has no globs.
pub const PATTERN: Rule<Policy> = Rule {
    name: "pattern",
    severity: Severity::Error,
    sentence: "is not a pattern for something beneath the path: write for example 'cache/**', '*.tmp' or 'logs/*.log'",
    cel: "",
    broken: |policy| {
        let mut fields = Vec::new();
        for (index, path) in policy.paths.iter().enumerate() {
            for (name, patterns) in [("include", &path.include), ("exclude", &path.exclude)] {
                let bad = patterns.iter().enumerate().filter(|(_, pattern)| !is_pattern(pattern));
                fields.extend(bad.map(|(at, _)| format!("spec.paths[{index}].{name}[{at}]")));
            }
        }
        fields
    },
};

const fn is_tiny(provision: Option<&Provision>) -> bool {
    const SMALLEST: u64 = 1 << 20;
    match provision {
        Some(Provision::EphemeralVolume { size_bytes, .. }) => *size_bytes < SMALLEST,
        Some(Provision::EmptyDir { size_limit_bytes: Some(limit) }) => *limit < SMALLEST,
        Some(Provision::EmptyDir { size_limit_bytes: None }) | None => false,
    }
}

/// On each of `spec.paths`.
pub const PROVISION_SIZE: Rule<Policy> = Rule {
    name: "provision-size",
    severity: Severity::Error,
    sentence: "provisions less than 1Mi: write what the state may grow to, for example 10Gi",
    cel: "!has(self.provision) || ((!has(self.provision.ephemeralVolume) || quantity(self.provision.ephemeralVolume.size).compareTo(quantity('1Mi')) >= 0) \
          && (!has(self.provision.emptyDir) || !has(self.provision.emptyDir.sizeLimit) || quantity(self.provision.emptyDir.sizeLimit).compareTo(quantity('1Mi')) >= 0))",
    broken: |policy| paths_if(policy, ".provision", |path| is_tiny(path.provision.as_ref())),
};

/// On `spec`.
pub const PROVISION_SHARED: Rule<Policy> = Rule {
    name: "provision-shared",
    severity: Severity::Error,
    sentence: "provisions a volume of each pod's own although the state is shared: mount a ReadWriteMany volume and remove provision, or write scope: Replica",
    cel: "self.scope != 'Shared' || self.paths.all(p, !has(p.provision))",
    broken: |policy| paths_if(policy, ".provision", |path| policy.scope == Scope::Shared && path.provision.is_some()),
};

/// A warning.
pub const PROVISION_EMPTY_DIR: Rule<Policy> = Rule {
    name: "provision-empty-dir",
    severity: Severity::Warning,
    sentence: "makes 'kubectl drain' refuse the pod, and the autoscaler keep its node: prefer provision.ephemeralVolume where there is a storage class",
    cel: "",
    broken: |policy| paths_if(policy, ".provision", |path| matches!(path.provision, Some(Provision::EmptyDir { .. }))),
};
